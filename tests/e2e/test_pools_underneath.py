"""What becomes of the files and disks under a pool, beside it: cut off, without writes, written to by others, other sectors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.pools import (
    attach,
    checksum,
    detach_loops,
    exists,
    has_node,
    loops_on,
    make_disk,
    passes,
    put_down,
    stopped,
    table,
    write,
)
from tests.testing.real_kernel import run

GROWING = {"threshold": "1%", "step": "50%", "max": "1GiB"}


@pytest.fixture
def house() -> Iterator[House]:
    with a_house() as house:
        yield house


def _started(house: House) -> str:
    house.start("--suspend-grace", "1s")
    house.wait("a")
    write(house.dm_name("a"), 1)
    return checksum(house.node("a"))


def _is_back(house: House, before: str) -> None:
    eventually(lambda: has_node(house.dm_name("a")), "the device is there")
    house.wait("a")
    assert checksum(house.node("a")) == before


@pytest.mark.parametrize("what", ["data", "meta"])
def test_a_file_that_was_cut_off_under_a_live_pool_is_told_and_not_grown(house: House, what: str) -> None:
    house.declare(house.pool(), house.device("a"))
    _started(house)
    live = table(house.prefix + "tank")
    file = house.root / f"tank.{what}"
    run("truncate", "--size", "1M", str(file))
    said = house.wait_pool("MetadataMismatch")
    assert "was cut off" in said["message"]
    house.declare(house.pool(extend=GROWING), house.device("a"), house.device("late"))
    house.wait("late", "PoolUnhealthy")
    passes(house)
    assert file.stat().st_size == 1024 * 1024
    assert table(house.prefix + "tank") == live


def test_a_pool_that_is_live_on_a_read_only_disk_is_not_converged(house: House) -> None:
    house.declare(house.pool(), house.device("a"))
    _started(house)
    (loop,) = loops_on(house.root / "tank.data")
    run("blockdev", "--setro", loop)
    said = house.wait_pool("PoolUnhealthy")
    assert f"blockdev --setrw {loop}" in said["message"]
    run("blockdev", "--setrw", loop)
    house.wait_pool()


@pytest.mark.parametrize("word", ["data", "metadata"])
def test_a_pool_does_not_come_up_on_a_disk_that_is_read_only(house: House, word: str) -> None:
    disks = {"data": make_disk(house, "data.disk"), "metadata": make_disk(house, "metadata.disk", 8)}
    places = {name: {"device": disk} for name, disk in disks.items()}
    house.declare(house.pool(data=places["data"], metadata=places["metadata"]), house.device("a"))
    before = _started(house)
    with stopped(house):
        put_down(house, "tank", "a")
        run("blockdev", "--setro", disks[word])
    said = house.wait_pool("Conflict")
    assert f"blockdev --setrw {disks[word]}" in said["message"]
    assert not exists(house, house.prefix + "tank")
    run("blockdev", "--setrw", disks[word])
    _is_back(house, before)


def test_a_pool_does_not_come_up_on_a_file_that_a_program_writes_to(house: House) -> None:
    disk = make_disk(house, "data.disk")
    house.declare(house.pool(data={"device": disk}), house.device("a"))
    before = _started(house)
    with stopped(house):
        put_down(house, "tank", "a")
        descriptor = os.open(house.root / "data.disk", os.O_RDWR)
    said = house.wait_pool("Busy")
    assert f"(pid {os.getpid()})" in said["message"]
    assert not exists(house, house.prefix + "tank")
    os.close(descriptor)
    _is_back(house, before)


def test_a_pool_does_not_come_up_on_one_of_two_loops_on_a_file(house: House) -> None:
    disk = make_disk(house, "data.disk")
    house.declare(house.pool(data={"device": disk}), house.device("a"))
    before = _started(house)
    with stopped(house):
        put_down(house, "tank", "a")
        second = attach(house.root / "data.disk")
    said = house.wait_pool("Conflict")
    assert second in said["message"]
    run("losetup", "--detach", second)
    _is_back(house, before)


def test_a_size_off_the_grid_of_large_sectors_names_those_that_fit(house: House) -> None:
    file = house.root / "large.disk"
    run("truncate", "--size", "64M", str(file))
    disk = run("losetup", "--find", "--show", "--sector-size", "4096", str(file)).out
    house.declare(house.pool(data={"device": disk}), house.device("a"), house.device("b", size="20481s"))
    _started(house)
    said = house.wait("b", "InvalidChange")
    assert "size: 20480s` or `size: 20488s" in said["message"]
    assert set(house.thin_ids()) == {0}, "nothing was made for it"
    house.declare(house.pool(data={"device": disk}), house.device("a"), house.device("b", size="20488s"))
    house.wait("b")


def test_detached_loops_of_a_file_that_is_written_to_stay_detached(house: House) -> None:
    house.declare(house.pool(), house.device("a"))
    before = _started(house)
    file = house.root / "tank.data"
    with stopped(house):
        put_down(house, "tank", "a")
        detach_loops(house, "tank")
        descriptor = os.open(file, os.O_RDWR)
    house.wait_pool("Busy")
    assert not loops_on(Path(file))
    os.close(descriptor)
    _is_back(house, before)
