"""Check manifests, without a kernel or a store.

What `validate` and `plan` say, once, of records that name a disk by a path which may lead to another one tomorrow.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from reconciler.cli.console import ExitCode, note, say
from reconciler.kernel.block.disk_marks import is_unstable, stable_name
from reconciler.model.records import Record, ThinPool

if TYPE_CHECKING:
    from reconciler.sources.manifests.read import Loaded


def note_unstable(records: Iterable[Record]) -> None:
    """Prints one line on stderr for each such path. It is no error, and the exit code does not change."""
    for record in records:
        if isinstance(record, ThinPool):
            for word, backing in (("data", record.spec.data), ("metadata", record.spec.metadata)):
                if backing is not None and backing.device is not None and is_unstable(backing.device):
                    note(_words(f"{record.key}: spec.{word}.device", backing.device))


def _words(where: str, path: str) -> str:
    said = f"{where}: {path} may be another disk after the next boot"
    name = stable_name(path)
    if name:
        return f"{said}: write `{name}`"
    return f"{said}, and no stable name leads to it on this host: see `ls -l /dev/disk/by-id` where the disk is"


_EPILOG: Final = """\b
Each problem is one line on stderr, and the exit code 3:
  FILE:LINE:COLUMN: path.to.field: what is wrong, and what would be right

\b
Examples:
  dm-reconciler validate manifests/
  dm-reconciler validate pools.yaml devices.yaml
  dm-reconciler validate --node web-1 manifests/

\b
Who may write the files is not looked at: that is for the host which acts on them.
"""


@click.command("validate", epilog=_EPILOG)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--node", metavar="NAME", help="Also say how many records are for the host of that name.")
def command(paths: tuple[Path, ...], node: str | None) -> None:
    """Check manifests, without a kernel or a store.

    A PATH is a file, or a directory of *.yaml and *.yml files. All of them together are one set.
    """
    from reconciler.sources.manifests.read import load  # noqa: PLC0415  # not for --help

    loaded = load(*paths, trust=False)
    for problem in loaded.problems:
        note(str(problem))
    if loaded.problems or loaded.records is None:
        click.get_current_context().exit(ExitCode.INVALID)
    say(_verdict(loaded, node))
    note_unstable(loaded.records)


def _verdict(loaded: Loaded, node: str | None) -> str:
    records = loaded.records or ()
    files = len(loaded.files)
    are = "is" if len(records) == 1 else "are"
    line = f"{_count(len(records), 'record')} in {_count(files, 'file')} {are} valid"
    if not files:
        return f"{line}: there is no *.yaml or *.yml file there"
    if node is not None and loaded.records is not None:
        return f"{line}, {len(loaded.records.for_node(node))} of them for {node}"
    return line


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
