"""Pools whose records are Inactive or Absent: down only when nothing is above, deleted only when provably empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.pools import (
    checksum,
    detach_loops,
    dmsetup,
    exists,
    loops_on,
    make_disk,
    passes,
    pool_status,
    put_down,
    stopped,
    table,
    write,
)
from tests.testing.real_kernel import run


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.start("--suspend-grace", "1s")
        yield house


def _declare(house: House, name: str, state: str, *devices: tuple[str, str], **spec: object) -> None:
    """A pool in that state, with devices in theirs."""
    records = (house.device(device, name, state=its) for device, its in devices)
    house.declare(house.pool(name, state=state, **spec), *records, file=f"{name}.yaml")


def test_an_inactive_pool_waits_for_its_devices_and_then_goes_with_its_loops(house: House) -> None:
    _declare(house, "rest", "Active", ("a", "Active"))
    house.wait("a", pool="rest")
    write(house.dm_name("a", "rest"), 1)
    before = checksum(f"/dev/mapper/{house.dm_name('a', 'rest')}")

    _declare(house, "rest", "Inactive", ("a", "Active"))
    said = house.wait_pool("Busy", "rest")
    assert house.dm_name("a", "rest") in said["message"]
    passes(house)
    assert exists(house, house.dm_name("a", "rest"))

    _declare(house, "rest", "Inactive", ("a", "Inactive"))
    house.wait_pool(pool="rest", live="Inactive")
    house.wait("a", pool="rest", live="Inactive")
    assert not exists(house, house.prefix + "rest")
    eventually(lambda: not loops_on(house.root / "rest.data") + loops_on(house.root / "rest.meta"), "no loops")

    _declare(house, "rest", "Active", ("a", "Active"))
    house.wait("a", pool="rest", live="Active")
    assert checksum(f"/dev/mapper/{house.dm_name('a', 'rest')}") == before


@pytest.mark.soak
def test_discards_may_change_while_the_pool_is_down(house: House) -> None:
    _declare(house, "discards", "Active", ("a", "Active"))
    house.wait("a", pool="discards")
    _declare(house, "discards", "Inactive", ("a", "Inactive"), discards="ignore")
    house.wait_pool(pool="discards", live="Inactive")
    _declare(house, "discards", "Active", ("a", "Active"), discards="ignore")
    house.wait("a", pool="discards", live="Active")
    assert "ignore_discard" in table(house.prefix + "discards")
    house.wait_pool(pool="discards")


@pytest.mark.soak
def test_a_device_that_is_to_go_is_deleted_though_its_pool_is_inactive(house: House) -> None:
    _declare(house, "sweep", "Active", ("a", "Active"), ("b", "Active"))
    house.wait("a", pool="sweep")
    house.wait("b", pool="sweep")
    _declare(house, "sweep", "Inactive", ("a", "Inactive"), ("b", "Inactive"))
    house.wait_pool(pool="sweep", live="Inactive")

    _declare(house, "sweep", "Inactive", ("a", "Absent"), ("b", "Inactive"))
    house.wait("a", pool="sweep", live="Absent")
    eventually(lambda: not exists(house, house.prefix + "sweep"), "the pool is down again")
    house.wait_pool(pool="sweep", live="Inactive")
    house.wait("b", pool="sweep", live="Inactive")
    _declare(house, "sweep", "Active", ("b", "Active"))
    house.wait("b", pool="sweep", live="Active")
    assert pool_status(house.prefix + "sweep")[0] == "3", "two were made, one deleted"


def test_an_absent_pool_with_devices_is_busy_and_lists_them(house: House) -> None:
    _declare(house, "full", "Active", ("a", "Active"))
    house.wait("a", pool="full")
    _declare(house, "full", "Absent", ("a", "Active"))
    said = house.wait_pool("Busy", "full")
    assert "has the devices a" in said["message"]
    passes(house)
    assert exists(house, house.dm_name("a", "full"))


@pytest.mark.soak
def test_an_absent_pool_with_somebodys_thin_id_is_busy_and_lists_it(house: House) -> None:
    name = house.prefix + "left"
    _declare(house, "left", "Active")
    house.wait_pool(pool="left")
    dmsetup("message", name, "0", "create_thin 77")
    _declare(house, "left", "Absent")
    said = house.wait_pool("Busy", "left")
    assert "77" in said["message"]
    passes(house)
    assert exists(house, name)
    dmsetup("message", name, "0", "delete 77")
    house.wait_pool(pool="left", live="Absent")
    assert not exists(house, name)


def test_an_absent_pool_that_is_empty_goes_with_the_files_that_were_made_for_it(house: House) -> None:
    _declare(house, "gone", "Active", ("a", "Active"))
    house.wait("a", pool="gone")
    stranger = house.root / "gone.txt"
    stranger.write_text("not ours", encoding="ascii")
    _declare(house, "gone", "Absent", ("a", "Absent"))
    house.wait_pool(pool="gone", live="Absent")
    assert not exists(house, house.prefix + "gone")
    assert not (house.root / "gone.data").exists()
    assert not (house.root / "gone.meta").exists()
    assert stranger.exists()
    _declare(house, "gone", "Active", ("a", "Active"))
    house.wait("a", pool="gone", live="Active")
    assert pool_status(house.prefix + "gone")[0] == "1", "it is a new pool"


def test_an_absent_pool_on_block_devices_leaves_them_with_a_zeroed_superblock(house: House) -> None:
    disks = {"data": {"device": make_disk(house, "disk.d")}, "metadata": {"device": make_disk(house, "disk.m", 4)}}
    _declare(house, "disk", "Active", ("a", "Active"), **disks)
    house.wait("a", pool="disk")
    _declare(house, "disk", "Absent", ("a", "Absent"), **disks)
    house.wait_pool(pool="disk", live="Absent")
    begin = run("head", "--bytes=4096", disks["metadata"]["device"]).out
    assert not begin.strip("\0")
    _declare(house, "disk", "Active", ("a", "Active"), **disks)
    house.wait("a", pool="disk", live="Active")


@pytest.mark.soak
def test_a_pool_that_is_down_is_brought_up_to_see_that_it_is_empty(house: House) -> None:
    """Somebody's thin in it keeps it."""
    name = house.prefix + "dark"
    _declare(house, "dark", "Active")
    house.wait_pool(pool="dark")
    dmsetup("message", name, "0", "create_thin 5")
    with stopped(house):
        put_down(house, "dark")
        detach_loops(house, "dark")
        _declare(house, "dark", "Absent")
    said = house.wait_pool("Busy", "dark")
    assert "5" in said["message"]
    assert (house.root / "dark.data").exists()
