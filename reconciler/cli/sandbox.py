"""Run a command, or a shell, inside a throw-away kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from reconciler.cli.params import Duration, Folder

_EPILOG: Final = """\b
Inside you are root of a real kernel with device-mapper and udev, and nothing that you do there
touches this host: its files are there to read, and what is written elsewhere than to a shared
directory vanishes with the kernel. No privileges are needed. Ctrl-] three times ends it.

\b
Examples:
  dm-reconciler sandbox                                  a shell
  dm-reconciler sandbox -- dmsetup targets
  dm-reconciler sandbox --share out --timeout 5m -- ./try.sh

\b
The exit code is the command's own, 128 + N where signal N ended it, 124 after the timeout.
"""


@click.command("sandbox", epilog=_EPILOG, context_settings={"allow_interspersed_args": False})
@click.option(
    "--share",
    metavar="DIR",
    multiple=True,
    type=Folder(path_type=Path),
    help="A directory that can be written inside, at the same path. Any number of times.",
)
@click.option("--mem", metavar="SIZE", default="1G", show_default=True, help="Memory of the kernel, as 512M or 1G.")
@click.option(
    "--disk",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file that is a disk inside, /dev/ubda and on, and outlives the kernel. At most 8.",
)
@click.option("--timeout", metavar="DURATION", type=Duration(), help="End it after so long, with exit code 124.")
@click.argument("arguments", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
def command(
    share: tuple[Path, ...], mem: str, disk: tuple[Path, ...], timeout: float | None, arguments: tuple[str, ...]
) -> None:
    """Run a command, or a shell, inside a throw-away kernel."""
    from reconciler.sandbox.command import run  # noqa: PLC0415  # not for --help

    status = run(arguments, share=share, memory=mem, disks=disk, timeout=timeout)
    click.get_current_context().exit(status)
