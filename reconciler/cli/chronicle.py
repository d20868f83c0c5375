"""Events as tables and JSON: what `events` and `describe` print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from reconciler.cli.console import Cell, Row, Table
from reconciler.cli.format import event_colour, local_time, took_text
from reconciler.model.conditions import Event

COLUMNS: Final = ("TIME", "TYPE", "OBJECT", "REASON", "COUNT", "MESSAGE")


def row(event: Event) -> Row:
    return (
        local_time(event.time),
        Cell(event.type.value, event_colour(event)),
        str(event.key),
        event.reason,
        str(event.count),
        _message(event),
    )


def table(events: Sequence[Event]) -> Table:
    return Table(COLUMNS, [row(event) for event in events], text=True)


def table_of_one(events: Sequence[Event]) -> Table:
    """Of one pool or device, which need not be named each time."""
    named = table(events)
    return Table([*COLUMNS[:2], *COLUMNS[3:]], [[*row[:2], *row[3:]] for row in named.rows], text=True)


def _message(event: Event) -> str:
    return event.message if event.seconds is None else f"{event.message} (after {took_text(event.seconds)})".strip()
