"""`python -m reconciler.sandbox`: the sandbox without the rest of the program."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reconciler.sandbox import SandboxError
from reconciler.sandbox.command import run


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reconciler.sandbox",
        description="Run a command, or a shell, as root in a throw-away Linux kernel with device-mapper and udev.",
    )
    parser.add_argument("--share", metavar="DIR", type=Path, action="append", default=[], help="writable inside")
    parser.add_argument("--mem", metavar="SIZE", default="1G", help="memory of the kernel (default: 1G)")
    parser.add_argument(
        "--disk", metavar="FILE", type=Path, action="append", default=[], help="/dev/ubda, /dev/ubdb..."
    )
    parser.add_argument("--timeout", metavar="SECONDS", type=float, help="kill it then, with status 124")
    parser.add_argument("--no-udev", action="store_true", help="boot without systemd-udevd")
    parser.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="after --; default: $SHELL")
    given = parser.parse_args()
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    try:
        return run(
            command,
            share=given.share,
            memory=given.mem,
            disks=given.disk,
            timeout=given.timeout,
            udev=not given.no_udev,
        )
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)  # noqa: T201 - this is a command line
        return error.status


if __name__ == "__main__":
    sys.exit(main())
