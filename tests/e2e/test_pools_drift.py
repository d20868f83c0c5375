"""A live pool that drifted, or whose record changed: seen to heal, or to be left alone with the reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.testing.environment import House, Record, a_house, eventually
from tests.testing.pools import (
    declared,
    dmsetup,
    exists,
    is_suspended,
    passes,
    paused,
    pool_status,
    put_down,
    stopped,
    table,
)
from tests.testing.real_kernel import MIB, run

pytestmark = pytest.mark.soak

GRACE = 1.0


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        _declare(house, house.pool())
        house.start("--suspend-grace", f"{GRACE:.0f}s")
        yield house


@pytest.fixture
def tank(house: House) -> Iterator[str]:
    """The dm name of the pool, which is as desired before each test and again after it."""
    house.wait("a")
    yield house.prefix + "tank"
    _declare(house, house.pool())
    house.wait("a")
    house.wait_pool()


def _declare(house: House, pool: Record) -> None:
    house.declare(pool, house.device("a"), file=f"{house.prefix}tank.yaml")


def _features(name: str) -> set[str]:
    return set(table(name).split()[8:])


def test_a_suspended_pool_is_resumed_once_its_grace_is_over(house: House, tank: str) -> None:
    begun = time.monotonic()
    dmsetup("suspend", tank)
    house.wait_pool("PoolSuspended", live="Suspended")
    house.wait("a", "WaitingForPool")
    eventually(lambda: not is_suspended(house, tank), "it is resumed")
    assert time.monotonic() - begun >= GRACE
    house.wait_pool()
    house.wait("a")


def test_a_paused_pool_is_left_as_it_is_and_taken_up_again(house: House, tank: str) -> None:
    with paused(house, house.pool(), house.device("a")):
        dmsetup("suspend", tank)
        house.wait_pool("Paused", live="Suspended")
        passes(house, 3)
        assert is_suspended(house, tank)
        house.wait("a", "Paused")
    house.wait_pool()
    assert not is_suspended(house, tank)


def test_a_pool_without_a_table_is_made_whole(house: House, tank: str) -> None:
    uuid = dmsetup("info", "--columns", "--noheadings", "--options", "uuid", tank)
    with stopped(house):
        put_down(house, "tank", "a")
        dmsetup("create", tank, "--uuid", uuid, "--notable")
    eventually(lambda: exists(house, house.dm_name("a")), "its device is back")
    house.wait_pool()
    assert "thin-pool" in table(tank)
    assert any(event["reason"] == "TablelessShell" for event in house.events(tank))


def test_a_table_left_in_the_inactive_slot_is_cleared(house: House, tank: str) -> None:
    begun = time.monotonic()
    dmsetup("load", tank, "--table", table(tank))
    house.wait_pool("InactiveTableLeft")
    eventually(lambda: not dmsetup("table", "--inactive", tank), "it is cleared")
    assert time.monotonic() - begun >= GRACE
    house.wait_pool()


def test_a_table_that_is_too_short_is_replaced(house: House, tank: str) -> None:
    """It loads, and its resume fails: the pool hangs suspended under it."""
    good = table(tank)
    words = good.split()
    dmsetup("load", tank, "--table", " ".join(["0", str(int(words[1]) // 2), *words[2:]]))
    assert run("dmsetup", "resume", tank, check=False).code
    house.wait_pool("PoolSuspended")
    house.wait_pool()
    assert table(tank) == good


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        ({"whenFull": "error"}, "error_if_no_space"),
        ({"discards": "nopassdown"}, "no_discard_passdown"),
        ({"zeroNewBlocks": False}, "skip_block_zeroing"),
    ],
)
def test_a_changed_record_changes_the_live_table(house: House, tank: str, change: dict[str, Any], feature: str) -> None:
    assert feature not in _features(tank)
    _declare(house, house.pool(**change))
    eventually(lambda: feature in _features(tank), f"{feature} is in the table")
    house.wait_pool()
    _declare(house, house.pool())
    eventually(lambda: feature not in _features(tank), f"{feature} is gone again")


def test_a_table_that_somebody_changed_is_changed_back(house: House, tank: str) -> None:
    good = table(tank)
    words = good.split()
    other = [*words[:6], "7", "2", "error_if_no_space", "no_discard_passdown"]
    dmsetup("load", tank, "--table", " ".join(other))
    dmsetup("resume", tank)
    house.wait_pool("PoolTableWrong")
    house.wait_pool()
    assert table(tank) == good


def test_the_low_water_mark_follows_the_record(house: House, tank: str) -> None:
    _declare(house, house.pool(lowWaterMark="50%"))
    blocks = 256 * MIB // (64 * 1024)
    eventually(lambda: table(tank).split()[6] == str(blocks // 2), "half of the blocks")


def test_discards_cannot_be_switched_off_while_the_pool_is_live(house: House, tank: str) -> None:
    before = table(tank)
    _declare(house, house.pool(discards="ignore"))
    said = house.wait_pool("InvalidChange")
    assert "ignore" in said["message"]
    assert table(tank) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"blockSize": "128KiB"}, "blockSize is fixed"),
        ({"data": {"file": "/srv/elsewhere", "size": "256MiB"}}, "the record says /srv/elsewhere"),
        ({"metadata": {"file": "/srv/elsewhere", "size": "4MiB"}}, "the record says /srv/elsewhere"),
    ],
)
def test_what_a_pool_is_made_of_is_fixed(house: House, tank: str, change: dict[str, Any], words: str) -> None:
    before = table(tank)
    _declare(house, house.pool(**change))
    said = house.wait_pool("InvalidChange")
    assert words in said["message"]
    dmsetup("remove", house.dm_name("a"))
    eventually(lambda: exists(house, house.dm_name("a")), "its devices are healed all the same")
    assert table(tank) == before


def test_a_record_that_grows_grows_the_pool(house: House, tank: str) -> None:
    grown = house.pool("grown")
    house.declare(grown, house.device("a", "grown"), file="grown.yaml")
    house.wait("a", pool="grown")
    name = house.prefix + "grown"
    metadata_before = int(pool_status(name)[1].split("/")[1])
    files = {kind: {**grown["spec"][kind], "size": size} for kind, size in (("data", "320MiB"), ("metadata", "8MiB"))}
    house.declare(declared(grown, **files), house.device("a", "grown"), file="grown.yaml")
    eventually(lambda: int(table(name).split()[1]) * 512 == 320 * MIB, "the pool has 320 MiB")
    house.wait_pool(pool="grown", dataSizeBytes=320 * MIB)
    assert int(pool_status(name)[1].split("/")[1]) > metadata_before
    metadata = (house.root / "grown.meta").stat()
    assert metadata.st_size == 8 * MIB <= metadata.st_blocks * 512
    house.declare(grown, house.device("a", "grown"), file="grown.yaml")
    passes(house)
    assert int(table(name).split()[1]) * 512 == 320 * MIB, "a smaller record never shrinks it"
    house.wait_pool(pool="grown")
    assert exists(house, tank)


def test_a_name_that_a_foreign_device_carries_is_a_conflict(house: House) -> None:
    name = house.prefix + "foreign"
    dmsetup("create", name, "--uuid", f"LVM-{name}", "--table", "0 2048 error")
    house.declare(house.pool("foreign"), house.device("a", "foreign"), file="foreign.yaml")
    said = house.wait_pool("Conflict", "foreign")
    assert "LVM" in said["message"]
    passes(house)
    assert table(name) == "0 2048 error"
    assert not (house.root / "foreign.data").exists()
    dmsetup("remove", name)
    house.wait("a", pool="foreign")
    assert "thin-pool" in table(name)
