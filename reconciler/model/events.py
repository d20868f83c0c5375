"""The JSON shape of an event, which HTTP and `events -o json` share."""

from __future__ import annotations

from typing import Any

from reconciler.model.conditions import Event, rfc3339


def event_item(event: Event) -> dict[str, Any]:
    """One item of `/api/v1/events`: docs/reference/http.md. Its name stays the same while only its count grows."""
    first = event.first or event.time
    return {
        "kind": "Event",
        "metadata": {"name": f"{event.key}.{event.type.value}.{event.reason}.{round(first * 1000)}"},
        "type": event.type.value,
        "reason": event.reason,
        "message": event.message,
        "time": rfc3339(event.time),
        "first": rfc3339(first),
        "count": event.count,
        "seconds": event.seconds,
        "object": {"kind": event.key.kind, "name": str(event.key)},
    }
