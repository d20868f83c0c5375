from __future__ import annotations

from dataclasses import replace

from reconciler.model.conditions import Event, EventType, event_item
from reconciler.model.names import Key

HEALED = Event(
    key=Key("tank", "base"),
    type=EventType.HEALED,
    reason="Suspended",
    message="resumed",
    time=1_700_000_060.0,
    first=1_700_000_000.5,
    count=3,
    seconds=0.25,
)


def test_an_event_says_what_of_whom_when_and_how_long() -> None:
    assert event_item(HEALED) == {
        "kind": "Event",
        "metadata": {"name": "tank/base.Healed.Suspended.1700000000500"},
        "type": "Healed",
        "reason": "Suspended",
        "message": "resumed",
        "time": "2023-11-14T22:14:20.000+00:00",
        "first": "2023-11-14T22:13:20.500+00:00",
        "count": 3,
        "seconds": 0.25,
        "object": {"kind": "ThinDevice", "name": "tank/base"},
    }


def test_an_event_that_happens_again_keeps_its_name() -> None:
    again = replace(HEALED, time=HEALED.time + 60, count=4)
    assert event_item(again)["metadata"] == event_item(HEALED)["metadata"]


def test_an_event_that_happened_once_began_when_it_happened() -> None:
    once = event_item(Event(Key("tank"), EventType.FOUND, "PoolMissing", "gone", 1_700_000_000.0))
    assert once["first"] == once["time"] == "2023-11-14T22:13:20.000+00:00"
    assert (once["count"], once["seconds"]) == (1, None)
    assert once["object"] == {"kind": "ThinPool", "name": "tank"}
