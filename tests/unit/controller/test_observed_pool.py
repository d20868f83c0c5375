"""What is kept of scans: what changed, how long signs have been seen, and which device shows which thin."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.controller.fact_gatherer import ObservedPool
from reconciler.model.dm_tables import Devno, ThinTable
from reconciler.model.live import DeviceInfo, LiveDevice, LivePool, PoolScan, ThinEntry
from reconciler.model.units import Sectors
from reconciler.planner.plan import Sign

POOL = Devno(254, 0)


def a_device(name: str, thin_id: int = 1, uuid: str = "", *, suspended: bool = False) -> LiveDevice:
    info = DeviceInfo(
        name=name,
        uuid=uuid,
        devno=Devno(254, 10 + thin_id),
        open_count=0,
        event_nr=0,
        suspended=suspended,
        live_table=True,
        inactive_table=False,
        read_only=False,
        deferred_remove=False,
    )
    return LiveDevice(info, table=(ThinTable(Sectors(2048), POOL, thin_id).target(),))


@pytest.fixture
def pool() -> LivePool:
    device = a_device("tank")
    return LivePool(replace(device, info=replace(device.info, devno=POOL), table=()))


def test_a_look_tells_what_changed_and_what_is_gone(pool: LivePool) -> None:
    observed = ObservedPool()
    assert observed.absorb(PoolScan(pool, {"a": a_device("a")}, first=True), 1) == {"a", "tank"}
    assert observed.absorb(PoolScan(pool), 2) == set()
    assert observed.absorb(PoolScan(pool, gone=frozenset({"a"})), 3) == {"a"}
    assert observed.devices == {}


def test_a_workers_first_look_replaces_what_was_known(pool: LivePool) -> None:
    observed = ObservedPool()
    observed.absorb(PoolScan(pool, {"a": a_device("a"), "b": a_device("b", 2)}, first=True), 1)
    assert observed.absorb(PoolScan(pool, {"a": a_device("a")}, first=True), 2) == {"a", "b"}
    assert set(observed.devices) == {"a"}


def test_a_sign_counts_from_its_first_look_until_a_look_without_it(pool: LivePool) -> None:
    observed = ObservedPool()
    observed.absorb(PoolScan(pool, {"a": a_device("a", suspended=True)}, first=True), 10)
    observed.absorb(PoolScan(pool), 12)
    assert observed.grace("a", 14, length=5).left(Sign.SUSPENDED) == 1
    observed.absorb(PoolScan(pool, {"a": a_device("a")}), 14)
    observed.absorb(PoolScan(pool, {"a": a_device("a", suspended=True)}), 15)
    assert observed.grace("a", 15, length=5).left(Sign.SUSPENDED) == 5


def test_a_sign_does_not_outlive_its_device(pool: LivePool) -> None:
    """A new device of the same name, suspended at first, has a grace of its own."""
    observed = ObservedPool()
    observed.absorb(PoolScan(pool, {"a": a_device("a", suspended=True)}, first=True), 10)
    observed.absorb(PoolScan(pool, gone=frozenset({"a"})), 14)
    observed.absorb(PoolScan(pool, {"a": a_device("a", suspended=True)}), 15)
    assert observed.grace("a", 15, length=5).left(Sign.SUSPENDED) == 5


def test_the_pools_own_signs_are_counted_too(pool: LivePool) -> None:
    assert pool.device is not None
    observed = ObservedPool()
    frozen = replace(pool, device=replace(pool.device, info=replace(pool.device.info, suspended=True)))
    observed.absorb(PoolScan(frozen, first=True), 10)
    assert observed.grace("", 12, length=5).left(Sign.SUSPENDED) == 3


def test_a_thin_under_another_name_is_found_but_not_our_private_one(pool: LivePool) -> None:
    observed = ObservedPool()
    uuid = f"DMR-{'0' * 32}-{'1' * 32}-private"
    devices = {"a": a_device("a", 7), "b": a_device("b", 7), "p": a_device("p", 7, uuid)}
    observed.absorb(PoolScan(pool, devices, first=True), 1)
    assert observed.elsewhere(7, "a") == ("b",)
    observed.absorb(PoolScan(pool, {"b": a_device("b", 8)}), 2)
    assert observed.elsewhere(7, "a") == ()
    assert observed.live_on_pool() == ("a", "b", "p")


def test_ids_are_kept_until_they_are_read_again(pool: LivePool) -> None:
    observed = ObservedPool()
    observed.absorb(PoolScan(pool, ids={1: ThinEntry(0, 0)}, first=True), 1)
    observed.absorb(PoolScan(pool), 2)
    assert observed.ids == {1: ThinEntry(0, 0)}
    assert observed.ids_at == 1
