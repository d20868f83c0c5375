"""The output of all commands: tables, JSON and YAML, errors, progress, and questions.

On a terminal a table is made to fit without cutting anything. Elsewhere it is plain aligned text with one record for
each line, however long, and without empty cells, so that `awk` and `cut` find the columns. An error is one line with
the next step to take, and its documented exit code. A line of progress is updated on a terminal; elsewhere each change
is a line.
"""

from __future__ import annotations

import errno
import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status


class ExitCode(IntEnum):
    FINE = 0
    """The exit code when all is converged, or there is nothing to do."""
    NOT_DONE = 1
    """The exit code when the work could not be done."""
    USAGE = 2
    INVALID = 3
    """The exit code for invalid manifests."""
    NOT_AS_DESIRED = 4


class Failure(click.ClickException):
    """One line for people, and the exit code. The command ends with it."""

    def __init__(self, line: str, code: ExitCode = ExitCode.NOT_DONE) -> None:
        super().__init__(line)
        self.exit_code = int(code)  # type: ignore[misc]  # click says that this one is for changing


class ErrorLine(NamedTuple):
    place: str
    """The command that the line is about, such as ` get`, which follows the program's name."""
    line: str
    exit_code: int


def error_line(error: Exception) -> ErrorLine | None:
    """The line for an error. None for an unexpected error, of which the trace helps more."""
    told = _error_line(error)
    return None if told is None else told._replace(line=_harmless(told.line))


def _error_line(error: Exception) -> ErrorLine | None:
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, click.ClickException):
        return ErrorLine("", error.format_message(), error.exit_code)
    return _of_the_layers(error)


def _harmless(text: str) -> str:
    """The text without anything that would control a terminal, as it may quote others."""
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


def _usage(error: click.UsageError) -> ErrorLine:
    if error.ctx is None:
        return ErrorLine("", _one_line(error.format_message()), ExitCode.USAGE)
    path = error.ctx.command_path
    said = _one_line(error.format_message()).rstrip(".")
    return ErrorLine(
        path.removeprefix(error.ctx.find_root().command_path), f"{said} (see `{path} --help`)", ExitCode.USAGE
    )


def _of_the_layers(error: Exception) -> ErrorLine | None:
    # Imported here, so that a wrong command line is reported without loading the whole program.
    from reconciler.model.errors import HostError  # noqa: PLC0415
    from reconciler.sandbox import SandboxError  # noqa: PLC0415
    from reconciler.store.errors import StoreError  # noqa: PLC0415
    from reconciler.telemetry.http.server import ListenError  # noqa: PLC0415

    if isinstance(error, SandboxError):
        return ErrorLine(" sandbox", _one_line(str(error)), error.status)
    if isinstance(error, StoreError | ListenError):
        return ErrorLine("", _one_line(str(error)), ExitCode.NOT_DONE)
    if isinstance(error, HostError):
        return ErrorLine("", f"{_one_line(str(error))}: {_next_step(error.errno)}", ExitCode.NOT_DONE)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return ErrorLine("", f"{where}{error.strerror or error}: put that right and try again", ExitCode.NOT_DONE)
    return None


def _next_step(number: int) -> str:
    if number in {errno.EPERM, errno.EACCES}:
        return "run it as root (`dm-reconciler doctor` says what is missing)"
    if number == errno.ENODEV:
        return "`dm-reconciler doctor` says what this host lacks"
    return "look at the kernel's log (`dmesg | tail`) and try again"


def _one_line(text: str) -> str:
    return " ".join(text.split())


GOOD: Final = "green"
BAD: Final = "red"
CARE: Final = "yellow"
EMPTY: Final = "-"
_GAP: Final = "   "
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_LEAST_TEXT: Final = 24
"""The number of columns below which wrapped text is not readable."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Text in a colour, which never has a meaning that the text does not have."""

    text: str
    style: str = ""


Row = Sequence[str | Cell]


@dataclass(frozen=True, slots=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Row]
    text: bool = False
    """Whether the last column holds sentences, which may wrap on a terminal."""


def clean(text: str) -> str:
    """The text on one line, without anything that controls a terminal, as messages quote the output of programs."""
    return " ".join(text.split()).translate(_CONTROL)


def on_terminal() -> bool:
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):
        return False  # standard output is missing or closed


def say(line: str = "") -> None:
    """Prints a line of the result."""
    click.echo(line.translate(_CONTROL))


def note(line: str) -> None:
    """Prints a line about the work, on stderr."""
    click.echo(line.translate(_CONTROL), err=True)


def print_json(value: Any, *, compact: bool = False) -> None:
    click.echo(json.dumps(value, separators=(",", ":")) if compact else json.dumps(value, indent=2))


def to_yaml(value: Any) -> str:
    import yaml  # noqa: PLC0415  # only where it is shown

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False, width=110)
    return text


def print_table(table: Table) -> None:
    if not on_terminal():
        _print_plain(table)
        return
    _print_fitting(table, console())


def console(*, stderr: bool = False) -> Console:
    """A console for a terminal. It respects NO_COLOR and TERM=dumb."""
    from rich.console import Console  # noqa: PLC0415  # only where it is shown

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def print_styled(before: str, cell: Cell) -> None:
    """Prints one line, its end in a colour on a terminal. It is never cut, because the terminal wraps it."""
    if not on_terminal():
        click.echo((before + _filled(cell)).rstrip())
        return
    from rich.text import Text  # noqa: PLC0415  # only where it is shown

    console().print(Text.assemble(before, (_filled(cell), _style(cell))), soft_wrap=True)


def plain_lines(rows: Iterable[Row], widths: list[int] | None = None) -> Iterable[str]:
    """The rows in columns that are at least `widths` wide; wider columns are noted there for later rows."""
    texts = [[_filled(cell) for cell in row] for row in rows]
    widths = [] if widths is None else widths
    for row in texts:
        widths += [0] * (len(row) - len(widths))
        widths[: len(row)] = [max(width, len(text)) for width, text in zip(widths, row, strict=False)]
    for row in texts:
        padded = [text.ljust(width) for text, width in zip(row[:-1], widths, strict=False)]
        yield _GAP.join([*padded, *row[-1:]])


def _print_plain(table: Table) -> None:
    for line in plain_lines([table.columns, *table.rows]):
        click.echo(line)


def _print_fitting(table: Table, console: Console) -> None:
    """Prints the columns side by side if they fit, else one below the other."""
    texts = [[_filled(cell) for cell in row] for row in [table.columns, *table.rows]]
    widths = [max(len(row[column]) for row in texts) for column in range(len(table.columns))]
    if table.text:
        widths[-1] = min(widths[-1], _LEAST_TEXT)
    for gap in range(len(_GAP), 0, -1):
        if sum(widths) + gap * (len(widths) - 1) <= console.width:
            _print_columns(table, widths, console, gap)
            return
    _print_cards(table, console)


def _print_columns(table: Table, widths: Sequence[int], console: Console, gap: int) -> None:
    from rich.table import Table as RichTable  # noqa: PLC0415  # only where it is shown
    from rich.text import Text  # noqa: PLC0415

    shown = RichTable(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for number, title in enumerate(table.columns):
        wraps = table.text and number == len(table.columns) - 1
        # With a given width, rich does not have to measure every cell.
        shown.add_column(title, width=None if wraps else widths[number], no_wrap=not wraps, overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(_filled(cell), _style(cell)) for cell in row))
    console.print(shown)


def _print_cards(table: Table, console: Console) -> None:
    from rich.text import Text  # noqa: PLC0415  # only where it is shown

    width = max(len(title) for title in table.columns)
    for number, row in enumerate(table.rows):
        if number:
            console.print()
        for title, cell in zip(table.columns, row, strict=True):
            if _filled(cell) == EMPTY:
                continue
            line = Text.assemble((title.ljust(width), "bold"), "  ", (_filled(cell), _style(cell)))
            console.print(line, soft_wrap=True)


def _filled(cell: str | Cell) -> str:
    return clean(cell.text if isinstance(cell, Cell) else cell) or EMPTY


def _style(cell: str | Cell) -> str:
    return cell.style if isinstance(cell, Cell) else ""


class Progress:
    """A line of progress on stderr, apart from the results. It is removed from a terminal when it ends."""

    def __init__(self, *, terminal_only: bool = False) -> None:
        """`terminal_only` is for work that is usually too short to be worth a line in a log."""
        self._animated = _is_terminal()
        self._silent = terminal_only and not self._animated
        self._said = ""
        self._spinner: Status | None = None

    def say(self, line: str, passing: str = "") -> None:
        """Shows what is being done now; the same line again is not repeated. `passing` changes often, and is added on a
        terminal only.
        """
        line = clean(line)
        if self._animated:
            self._spin(line + clean(passing))
        elif line != self._said and not self._silent:
            note(line)
        self._said = line

    def pause(self) -> None:
        """Removes the line until the next `say`, so that something else can be printed in its place."""
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    def _spin(self, line: str) -> None:
        from rich.text import Text  # noqa: PLC0415  # only where it is shown

        if self._spinner is None:
            self._spinner = console(stderr=True).status(Text(line))
            self._spinner.start()
            return
        self._spinner.update(Text(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False  # standard error is missing or closed


F = TypeVar("F", bound=Callable[..., Any])


def yes_option(function: F) -> F:
    """Adds `--yes`, passed as `yes: bool`."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)


def require_answer(*, yes: bool) -> None:
    """Raises Failure (wrong usage) if nobody can answer a question, before any work is done."""
    if yes or _somebody_is_there():
        return
    raise Failure("nobody can be asked, as standard input is no terminal: say --yes if you mean it", ExitCode.USAGE)


def confirm(question: str, *, yes: bool) -> None:
    """Asks the question. Raises Failure if the answer is no."""
    require_answer(yes=yes)
    if not yes and not click.confirm(question, err=True):
        raise Failure("nothing was done")


def _somebody_is_there() -> bool:
    try:
        return sys.stdin.isatty()
    except (AttributeError, ValueError):
        return False


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        pool = getattr(record, "pool", "")
        for line in record.getMessage().splitlines():
            note(f"{pool}: {line}" if pool else line)


def warnings_only() -> None:
    """Limits logging to warnings from now on; a second call changes nothing."""
    ours, kernel = logging.getLogger("reconciler"), logging.getLogger("reconciler.kernel")
    if any(isinstance(handler, _Notes) for handler in kernel.handlers):
        return
    ours.addHandler(logging.NullHandler())  # the command shows everything else itself
    kernel.addHandler(_Notes(logging.WARNING))
