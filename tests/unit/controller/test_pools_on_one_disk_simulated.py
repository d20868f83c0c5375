"""Two pools whose records lead to one disk by two paths: whoever takes it first keeps it, and the other says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call
from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolTable
from reconciler.model.names import Key
from reconciler.model.records import ThinPool
from reconciler.model.units import Bytes, sectors
from tests.simulation.house import House, a_house, device_record, pool_record

MIB = 1024 * 1024
LINK = "/dev/disk/by-id/x"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house(tmp_path / "state") as house:
        house.host.nodes.paths[LINK] = house.host.add_disk("sdx", 16 * MIB)
        yield house


def _pools() -> tuple[ThinPool, ThinPool]:
    return pool_record("one", data={"device": "/dev/sdx"}), pool_record("two", data={"device": LINK})


def _reason(house: House, pool: str) -> Reason:
    return house.recorder.statuses()[Key(pool)].reason


def _work_on_two_while_one_is_about_to_activate(house: House) -> None:
    """As its own lane would: between the look of the one and its step."""

    def between(call: Call) -> None:
        if call.name == "alone_on":
            house.calls.before = lambda _: None
            while keys := house.queue.take("two", timeout=0.0):
                house.pool_controllers["two"].reconcile(keys, house._desired.of_pool("two"), house._desired.loaded_at)

    house.calls.before = between


def test_one_that_was_taken_since_the_look_is_left_to_the_other(house: House) -> None:
    _work_on_two_while_one_is_about_to_activate(house)
    house.declare(*_pools(), device_record("a", "one"), device_record("a", "two"))
    house.run(60)
    assert house.info("two") is not None
    assert house.info("one") is None
    assert _reason(house, "two") is Reason.CONVERGED
    assert _reason(house, "one") is Reason.CONFLICT
    assert house.status("a", "two").reason is Reason.CONVERGED
    assert house.status("a", "one").reason is Reason.WAITING_FOR_POOL


def test_the_record_of_the_one_that_came_too_late_goes_without_harm_to_the_other(house: House) -> None:
    _work_on_two_while_one_is_about_to_activate(house)
    house.declare(*_pools(), device_record("a", "two"))
    house.run(60)
    house.also(pool_record("one", data={"device": "/dev/sdx"}, state="Absent"))
    house.run(60)
    assert _reason(house, "one") is Reason.CONVERGED
    assert _reason(house, "two") is Reason.CONVERGED
    assert house.ids("two") == {house.known("a", "two").thin_id}


def test_nothing_is_made_on_two_pools_that_share_a_disk_already(house: House) -> None:
    one, _ = _pools()
    house.declare(one, device_record("a", "one"))
    house.settle()
    outside = house.outside
    outside.disks.make_file("/srv/other.meta", Bytes(4 * MIB), allocate=True)
    metadata = outside.disks.attach("/srv/other.meta").devno
    (_, _, data) = outside.disks.kind(LINK)
    assert data is not None
    outside.dm.create("two", "")
    outside.dm.load("two", (PoolTable(sectors(Bytes(16 * MIB)), metadata, data, sectors(Bytes(65536)), 0).target(),))
    outside.dm.resume("two", hidden=True)
    house.run(30)
    assert _reason(house, "one") is Reason.CONFLICT
    house.also(device_record("b", "one"))
    house.run(30)
    assert "b" not in house.store.known_devices("one")
    assert house.ids("one") == {house.known("a", "one").thin_id}
    outside.dm.remove("two")
    house.settle()
    assert house.info("one-b") is not None
