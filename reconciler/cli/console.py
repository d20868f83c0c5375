"""Printing: tables for people and for pipes, JSON and YAML.

On a terminal a table is made to fit, and nothing of it is cut. Elsewhere it is plain aligned text: one record a line,
however long, and no cell empty, so that `awk` and `cut` find their columns.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import Console

GOOD: Final = "green"
BAD: Final = "red"
CARE: Final = "yellow"
EMPTY: Final = "-"
_GAP: Final = "   "
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_LEAST_TEXT: Final = 24
"""Columns below which a wrapped text is no longer readable."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Text in a colour, which never says anything that the text does not."""

    text: str
    style: str = ""


Row = Sequence[str | Cell]


@dataclass(frozen=True, slots=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Row]
    text: bool = False
    """The last column holds sentences, which may wrap on a terminal."""


def clean(text: str) -> str:
    """On one line, and without anything that moves a terminal's cursor: messages quote what programs said."""
    return " ".join(text.split()).translate(_CONTROL)


def on_terminal() -> bool:
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):
        return False  # there is no standard output, or it is closed


def say(line: str = "") -> None:
    """A line of the result."""
    click.echo(line.translate(_CONTROL))


def note(line: str) -> None:
    """A line about the work, on stderr."""
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
    """For a terminal. NO_COLOR and TERM=dumb are seen to by it."""
    from rich.console import Console  # noqa: PLC0415  # only where it is shown

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def print_styled(before: str, cell: Cell) -> None:
    """One line, its end in a colour on a terminal. Never cut: the terminal wraps it."""
    if not on_terminal():
        click.echo((before + _filled(cell)).rstrip())
        return
    from rich.text import Text  # noqa: PLC0415  # only where it is shown

    console().print(Text.assemble(before, (_filled(cell), _style(cell))), soft_wrap=True)


def plain_lines(rows: Iterable[Row], widths: list[int] | None = None) -> Iterable[str]:
    """Rows in columns. `widths` are at least so wide, and are noted there for rows to come."""
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
    """Side by side where that fits, else one below the other."""
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
        # Told its width, rich need not look at every cell to find it.
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
