"""What goes wrong, in one line with the next step to take and the exit code that is promised for it."""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import NamedTuple

import click


class ExitCode(IntEnum):
    FINE = 0
    """Converged, or nothing to do."""
    NOT_DONE = 1
    """Could not do the work."""
    USAGE = 2
    INVALID = 3
    """Manifests."""
    NOT_AS_DESIRED = 4


class Failure(click.ClickException):
    """One line for people, and the exit code. The command has nothing more to say."""

    def __init__(self, line: str, code: ExitCode = ExitCode.NOT_DONE) -> None:
        super().__init__(line)
        self.exit_code = int(code)  # type: ignore[misc]  # click says that this one is for changing


class Told(NamedTuple):
    place: str
    """` get`: the command that it is about, after the program's name."""
    line: str
    exit_code: int


def tell(error: Exception) -> Told | None:
    """What to say of an error. None: nobody expected this one, its trace is what helps."""
    told = _told(error)
    return None if told is None else told._replace(line=_harmless(told.line))


def _told(error: Exception) -> Told | None:
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, click.ClickException):
        return Told("", error.format_message(), error.exit_code)
    return _of_the_layers(error)


def _harmless(text: str) -> str:
    """Words of somebody's may hold what a terminal would take for its own."""
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


def _usage(error: click.UsageError) -> Told:
    if error.ctx is None:
        return Told("", _one_line(error.format_message()), ExitCode.USAGE)
    path = error.ctx.command_path
    said = _one_line(error.format_message()).rstrip(".")
    return Told(path.removeprefix(error.ctx.find_root().command_path), f"{said} (see `{path} --help`)", ExitCode.USAGE)


def _of_the_layers(error: Exception) -> Told | None:
    # Here, not above: a command line that is wrong is told without loading the whole program.
    from reconciler.model.errors import HostFault  # noqa: PLC0415
    from reconciler.sandbox.errors import SandboxError  # noqa: PLC0415
    from reconciler.store.errors import StoreError  # noqa: PLC0415
    from reconciler.telemetry.http.listen import ListenError  # noqa: PLC0415

    if isinstance(error, SandboxError):
        return Told(" sandbox", _one_line(str(error)), error.status)
    if isinstance(error, StoreError | ListenError):
        return Told("", _one_line(str(error)), ExitCode.NOT_DONE)
    if isinstance(error, HostFault):
        return Told("", f"{_one_line(str(error))}: {_next_step(error.errno)}", ExitCode.NOT_DONE)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Told("", f"{where}{error.strerror or error}: put that right and try again", ExitCode.NOT_DONE)
    return None


def _next_step(number: int) -> str:
    if number in {errno.EPERM, errno.EACCES}:
        return "run it as root (`dm-reconciler doctor` says what is missing)"
    if number == errno.ENODEV:
        return "`dm-reconciler doctor` says what this host lacks"
    return "look at the kernel's log (`dmesg | tail`) and try again"


def _one_line(text: str) -> str:
    return " ".join(text.split())
