"""Devices whose records are gone: their pool's `prune` says what becomes of them; and thin ids that nobody names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing.environment import House, Record, a_house, eventually
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak

POOLS = {"keep": "Retain", "rest": "Deactivate", "drop": "Delete", "mass": "Delete", "all": "Delete"}
NAMES = ("one", "two", "three")
STRANGER = 4000


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        for pool, prune in POOLS.items():
            house.declare(*records(house, pool, prune, NAMES), file=f"{pool}.yaml")
        house.start("--suspend-grace", "1s", "--prune-delay", "1s", "--resync", "500ms")
        for pool in POOLS:
            for name in NAMES:
                house.wait(name, pool=pool)
        yield house


def records(house: House, pool: str, prune: str, names: tuple[str, ...]) -> list[Record]:
    return [house.pool(pool, prune=prune), *(house.device(name, pool) for name in names)]


def keep_only(house: House, pool: str, *names: str) -> None:
    house.declare(*records(house, pool, POOLS[pool], names), file=f"{pool}.yaml")


def test_retained_is_left_as_it_is(house: House) -> None:
    table = house.table("one", "keep")
    keep_only(house, "keep", "two", "three")
    status = house.wait("one", "Orphaned", "keep", live="Active")
    assert "retained" in status["message"]
    run("dmsetup", "suspend", house.dm_name("one", "keep"))
    house.look_again(4)  # beyond the delay and the grace: nobody has asked for it to be healed
    assert house.table("one", "keep") == table
    run("dmsetup", "resume", house.dm_name("one", "keep"))
    keep_only(house, "keep", *NAMES)
    house.wait("one", pool="keep", live="Active")


def test_deactivated_keeps_its_data(house: House) -> None:
    thin_id = house.status("one", "rest")["deviceId"]
    keep_only(house, "rest", "two", "three")
    eventually(lambda: house.info("one", "rest") is None, "it is deactivated")
    house.wait("one", "Orphaned", "rest", live="Inactive")
    assert thin_id in house.thin_ids("rest")
    keep_only(house, "rest", *NAMES)
    house.wait("one", pool="rest", live="Active")
    assert house.status("one", "rest")["deviceId"] == thin_id


def test_deleted_is_gone_but_not_while_it_is_open(house: House) -> None:
    thin_id = house.status("one", "drop")["deviceId"]
    with house.node("one", "drop").open("rb"):
        keep_only(house, "drop", "two", "three")
        house.wait("one", "Busy", "drop")
        house.look_again()
        assert house.info("one", "drop")
        assert thin_id in house.thin_ids("drop")
    eventually(lambda: house.info("one", "drop") is None, "it is removed")
    eventually(lambda: not house.status("one", "drop"), "nothing is remembered of it")
    assert thin_id not in house.thin_ids("drop")
    house.wait("two", pool="drop", live="Active")


def test_a_record_that_comes_back_in_time_costs_nothing(house: House) -> None:
    before = house.info("two", "drop")
    keep_only(house, "drop", "three")
    house.wait("two", "Orphaned", "drop")
    keep_only(house, "drop", "two", "three")
    house.wait("two", pool="drop")
    house.look_again(3)
    assert house.info("two", "drop") == before


@pytest.mark.parametrize(("pool", "left"), [("mass", ("three",)), ("all", ())])
def test_when_too_many_records_vanish_nothing_is_pruned(house: House, pool: str, left: tuple[str, ...]) -> None:
    before = [house.info(name, pool) for name in NAMES]
    keep_only(house, pool, *left)
    status = house.wait("one", "Orphaned", pool)
    assert "so many records vanished at once" in status["message"]
    house.look_again(6)  # beyond the delay
    assert [house.info(name, pool) for name in NAMES] == before
    assert len(house.thin_ids(pool)) == len(NAMES)
    keep_only(house, pool, *NAMES)
    for name in NAMES:
        house.wait(name, pool=pool, live="Active")


def test_a_pool_whose_record_is_gone_keeps_its_devices(house: House) -> None:
    before = [house.info(name, "all") for name in NAMES]
    house.declare(file="all.yaml")
    house.wait("one", "Orphaned", "all")
    house.look_again(6)
    assert [house.info(name, "all") for name in NAMES] == before
    house.declare(*records(house, "all", "Delete", NAMES), file="all.yaml")
    house.wait("one", pool="all")


def test_a_thin_id_that_nobody_names_is_counted_and_left_alone(house: House) -> None:
    house.stop()
    run("dmsetup", "message", f"{house.prefix}keep", "0", f"create_thin {STRANGER}")
    house.start()  # the ids are read at the start, and later only from time to time
    leaked = eventually(lambda: house.pool_status("keep").get("leakedThinIds"), "it is counted")
    assert leaked == [STRANGER]
    assert house.metric("dm_reconciler_pool_leaked_thin_ids", pool=f"{house.prefix}keep") == 1
    events = house.events(f"{house.prefix}keep")
    assert [e for e in events if e["reason"] == "LeakedThinId" and str(STRANGER) in e["message"]]
    house.look_again()
    assert STRANGER in house.thin_ids("keep")
    house.wait_pool(pool="keep")
