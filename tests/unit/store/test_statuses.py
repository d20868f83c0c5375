"""Statuses, and the last good set of records."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.conditions import DeviceStatus, PoolStatusReport, Reason
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.units import Bytes
from reconciler.store.errors import StoreError, StoreUnusable
from reconciler.store.store import Store
from reconciler.store.tables import LastGoodRecord, LastGoodRecords
from tests.testing.thread_time import best_of

A = Key("tank", "a")
DEVICE = DeviceStatus(
    A, LiveState.ACTIVE, Reason.BUSY, "", 1.5, False, beneath=Reason.WRONG_SIZE, size=Bytes(512), holders=("x", "y")
)
POOL = PoolStatusReport(
    Key("tank"), LiveState.ACTIVE, Reason.CONVERGED, "\0", 2.0, True, mode=PoolMode.RW, leaked_ids=(3,)
)
RECORDS = (
    LastGoodRecord(Key("tank"), "ThinPool", '{"a": 1}', "b.yaml", 3),
    LastGoodRecord(A, "ThinDevice", "{}", "a\udcff.yaml", 1),
)


def test_statuses_come_back_pools_first(store: Store, directory: Path) -> None:
    store.put_statuses([DEVICE, POOL])
    store.close()
    with Store.open(directory, wall_clock=lambda: 0.0) as again:
        assert list(again.statuses().items()) == [(POOL.key, POOL), (A, DEVICE)]


def test_only_what_has_changed_is_written(store: Store, directory: Path) -> None:
    with Store.open_read_only(directory) as reader:
        store.put_statuses([DEVICE, POOL])
        before = reader._db.version()
        store.put_statuses([DEVICE, POOL])
        store.drop_statuses([Key("other")])
        assert reader._db.version() == before
        store.put_statuses([DEVICE, replace(POOL, message="other")])
        assert reader._db.version() != before
        assert reader.statuses()[POOL.key].message == "other"


def test_a_status_that_could_not_be_written_is_written_the_next_time(store: Store) -> None:
    store.put_statuses([DEVICE])
    newer = replace(DEVICE, message="another one")
    store._db.read("PRAGMA query_only = ON")
    with pytest.raises(StoreUnusable):
        store.put_statuses([newer])
    store._db.read("PRAGMA query_only = OFF")
    store.put_statuses([newer])
    assert store.statuses()[newer.key] == newer


def test_dropped_statuses_are_gone(store: Store) -> None:
    store.put_statuses([DEVICE, POOL])
    store.drop_statuses([A])
    assert store.statuses() == {POOL.key: POOL}
    store.put_statuses([DEVICE])
    assert store.statuses() == {POOL.key: POOL, A: DEVICE}


def test_statuses_of_many_devices_are_cheap(store: Store) -> None:
    turns = itertools.count()

    def put() -> None:
        since = float(next(turns))
        store.put_statuses([replace(DEVICE, key=Key("tank", f"d{number}"), since=since) for number in range(1000)])

    assert best_of(3, put) < 0.25, "about 20 ms on an idle host"


def test_no_set_was_ever_good(store: Store) -> None:
    assert store.load_records() is None


def test_the_last_good_set_comes_back_in_its_order(store: Store, directory: Path) -> None:
    store.save_records(RECORDS, "one")
    store.close()
    with Store.open_read_only(directory) as reader:
        assert reader.load_records() == LastGoodRecords(RECORDS, "one", 1000.0)


def test_a_new_set_takes_the_place_of_the_former(store: Store) -> None:
    store.save_records(RECORDS, "one")
    store.save_records([], "two")
    assert store.load_records() == LastGoodRecords((), "two", 1000.0)


def test_a_set_that_cannot_be_saved_leaves_the_former(store: Store) -> None:
    store.save_records(RECORDS, "one")
    with pytest.raises(StoreError):
        store.save_records([RECORDS[0], RECORDS[0]], "two")
    assert store.load_records() == LastGoodRecords(RECORDS, "one", 1000.0)
