"""Words and colours for records, and events as tables and JSON, for `get`, `describe` and `events`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from reconciler.cli.console import BAD, CARE, GOOD, Cell, Row, Table
from reconciler.model.conditions import Event, EventType, Status
from reconciler.model.units import Bytes, format_size


def size_text(number: Bytes | None) -> str:
    return "" if number is None else format_size(number)


def share_text(used: Bytes | None, total: Bytes | None) -> str:
    """The share as `16%`. Only a full one is shown as 100%, and only an empty one as 0%."""
    if used is None or not total:
        return ""
    return f"{max(used * 100 // total, 1 if used else 0)}%"


def live_text(status: Status | None) -> str:
    return "" if status is None else status.live.value


def ready_text(status: Status | None) -> Cell:
    if status is None:
        return Cell("")
    return Cell("yes" if status.ready else "no", colour(status))


def reason_text(status: Status | None) -> Cell:
    return Cell("") if status is None else Cell(status.reason.value, colour(status))


def colour(status: Status) -> str:
    if status.ready:
        return GOOD
    return CARE if status.good else BAD


def event_colour(event: Event) -> str:
    match event.type:
        case EventType.HEALED:
            return GOOD
        case EventType.FOUND:
            return CARE
        case EventType.FAILED | EventType.BLOCKED:
            return BAD
        case EventType.INFO:
            return ""


def ready_mark(status: Status | None) -> Cell:
    """A mark with the meaning of the colour, for output without colours."""
    if status is None:
        return Cell("[??]", CARE)
    if status.ready:
        return Cell("[ok]", GOOD)
    return Cell("[--]", CARE) if status.good else Cell("[!!]", BAD)


def local_time(seconds: float) -> str:
    """The time in the reader's time zone."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago_text(seconds: float) -> str:
    """The duration in at most two units: `5m`, `3h12m`, `4d`."""
    whole = max(int(seconds), 0)
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 120:
        return f"{minutes}m"
    if hours < 48:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{days}d"


def took_text(seconds: float) -> str:
    return f"{seconds:.2f}s" if seconds < 10 else ago_text(seconds)


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
    """The events of one pool or device, without a column for its name."""
    named = table(events)
    return Table([*COLUMNS[:2], *COLUMNS[3:]], [[*row[:2], *row[3:]] for row in named.rows], text=True)


def _message(event: Event) -> str:
    return event.message if event.seconds is None else f"{event.message} (after {took_text(event.seconds)})".strip()
