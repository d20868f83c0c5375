"""Reading beside a daemon that writes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.model.conditions import DeviceStatus, Event, EventType, Reason
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.steps import BeginIntent, CompleteIntent, SavePool
from reconciler.model.stored import Intent, IntentKind, StoredDevice, StoredPool
from reconciler.model.units import Sectors
from reconciler.store.errors import StoreError
from reconciler.store.store import Store

TANK = Key("tank")
A = Key("tank", "a")
POOL = StoredPool("tank", "DMR-1", True, "/d", "/m", Sectors(128), "passdown", taken_over_at=0)
STATUS = DeviceStatus(A, LiveState.ACTIVE, Reason.CONVERGED, "", 1.0, True)
EVENT = Event(A, EventType.FOUND, "R", "m", 1.0)


def test_a_reader_sees_what_the_writer_has_written(store: Store, directory: Path) -> None:
    with Store.open_read_only(directory) as reader:
        assert reader.known_pools() == {}
        store.apply(SavePool(TANK, POOL))
        assert reader.known_pools() == {"tank": POOL}
        store.put_statuses([STATUS])
        store.add_event(EVENT)
        assert reader.statuses() == {A: STATUS}
        assert len(reader.events()) == 1
        store.close()
        assert reader.known_pool("tank") == POOL


def test_a_reader_writes_nothing(store: Store, directory: Path) -> None:
    store.apply(SavePool(TANK, POOL))
    store.put_statuses([STATUS])
    with Store.open_read_only(directory) as reader:
        writes: list[Callable[[], None]] = [
            lambda: reader.apply(SavePool(TANK, POOL)),
            lambda: reader.save_records([], ""),
            lambda: reader.put_statuses([STATUS, DeviceStatus(A, LiveState.ABSENT, Reason.BUSY, "", 1.0, False)]),
            lambda: reader.drop_statuses([A]),
            lambda: reader.add_event(EVENT),
        ]
        for write in writes:
            with pytest.raises(StoreError, match="for reading only"):
                write()


def test_a_reader_of_a_closed_store_leaves_its_file_as_it_is(store: Store, directory: Path) -> None:
    store.apply(SavePool(TANK, POOL))
    store.close()
    before = (directory / "state.db").read_bytes()
    with Store.open_read_only(directory) as reader:
        assert reader.known_pool("tank") == POOL
    assert (directory / "state.db").read_bytes() == before


def test_many_threads_write_and_read_at_once(store: Store, directory: Path) -> None:
    failures: list[Exception] = []

    def make(pool: str) -> None:
        try:
            store.apply(SavePool(Key(pool), StoredPool(pool, "u", True, "/d", "/m", Sectors(128), "passdown")))
            for number in range(20):
                key = Key(pool, f"d{number}")
                thin_id = store.free_thin_id(pool)
                store.apply(BeginIntent(key, Intent(key, IntentKind.CREATE, thin_id, number, "u", "d", Sectors(8))))
                store.add_event(Event(key, EventType.FOUND, "NotCreated", "", 1.0))
                store.apply(CompleteIntent(key, StoredDevice(key, "u", "d", thin_id, Sectors(8))))
                store.put_statuses([DeviceStatus(key, LiveState.ACTIVE, Reason.CONVERGED, "", 1.0, True)])
        except Exception as error:  # noqa: BLE001  # told by the assertion below
            failures.append(error)

    with Store.open_read_only(directory) as reader:
        threads = [threading.Thread(target=make, args=(f"p{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for name in reader.known_pools():
                made = reader.known_pool(name)
                assert made is not None
                assert made.transaction_id <= len(reader.known_devices(name))
        for thread in threads:
            thread.join()
        assert failures == []
        assert {name: len(reader.known_devices(name)) for name in reader.known_pools()} == {
            f"p{number}": 20 for number in range(4)
        }
        assert len(reader.events()) == len(reader.statuses()) == 80
