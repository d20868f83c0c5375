"""Events: repeats are counted, the oldest are dropped, followers miss nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.conditions import Event, EventType
from reconciler.model.names import Key
from reconciler.store.store import Store
from reconciler.store.tables import EventLog

A = Key("tank", "a")
FOUND = Event(A, EventType.FOUND, "Suspended", "found suspended", 1000.0)


def told(store: Store) -> list[Event]:
    return [event for _, event in store.events()]


def test_a_repeat_is_counted(store: Store) -> None:
    store.add_event(FOUND)
    store.add_event(replace(FOUND, time=1300.0))
    store.add_event(replace(FOUND, time=1900.0, seconds=2.5))
    assert told(store) == [replace(FOUND, time=1900.0, first=1000.0, count=3, seconds=2.5)]


@pytest.mark.parametrize(
    "other",
    [
        replace(FOUND, time=1600.5),
        replace(FOUND, time=399.5),
        replace(FOUND, key=Key("tank", "b")),
        replace(FOUND, key=Key("tank")),
        replace(FOUND, type=EventType.HEALED),
        replace(FOUND, reason="WrongTable"),
        replace(FOUND, message="found suspended\0"),
    ],
)
def test_what_differs_or_is_long_ago_is_no_repeat(store: Store, other: Event) -> None:
    store.add_event(FOUND)
    store.add_event(other)
    assert told(store) == [replace(FOUND, first=1000.0), replace(other, first=other.time)]


def test_a_repeat_is_seen_by_followers_under_a_new_revision(store: Store) -> None:
    store.add_event(FOUND)
    ((first, _),) = store.events()
    assert store.events(after=first) == []
    store.add_event(replace(FOUND, time=1001.0))
    ((second, event),) = store.events(after=first)
    assert second > first
    assert event.count == 2


def test_revisions_never_come_back(store: Store, directory: Path) -> None:
    store.add_event(FOUND)
    store.add_event(replace(FOUND, time=1001.0))
    ((last, _),) = store.events()
    store.close()
    with Store.open(directory, wall_clock=lambda: 0.0) as again:
        again.add_event(replace(FOUND, time=1002.0))
        ((next_one, event),) = again.events()
        assert next_one > last
        assert event.count == 3


def test_the_last_of_all_or_the_first_after_a_revision_oldest_first(store: Store) -> None:
    for number in range(10):
        store.add_event(replace(FOUND, message=str(number)))
    assert [event.message for _, event in store.events(limit=3)] == ["7", "8", "9"]
    revision = store.events()[1][0]
    assert [event.message for _, event in store.events(after=revision, limit=3)] == ["2", "3", "4"]


def test_those_of_one_record_only(store: Store) -> None:
    store.add_event(FOUND)
    store.add_event(replace(FOUND, key=Key("tank")))
    assert [event.key for _, event in store.events(key=A)] == [A]
    assert [event.key for _, event in store.events(key=Key("tank"))] == [Key("tank")]
    assert store.events(key=Key("other")) == []


def test_the_oldest_make_room(store: Store) -> None:
    log = EventLog(store._db, kept=5)
    for number in range(8):
        log.add(replace(FOUND, message=str(number)))
    log.add(replace(FOUND, message="4"))
    assert [event.message for event in told(store)] == ["3", "5", "6", "7", "4"]


@pytest.mark.parametrize("message", ["", "\0", "a\0b", "\ud800", "\n\t\x1b[31m", "'; DROP TABLE events; --", "é🦄"])
def test_every_text_comes_back(store: Store, message: str) -> None:
    event = replace(FOUND, message=message, reason=message, first=1.0)
    store.add_event(event)
    assert told(store) == [event]
