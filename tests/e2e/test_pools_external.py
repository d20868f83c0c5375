"""Somebody else's pool: never touched. What heals are the devices in it that records adopt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing.environment import House, Record, a_house, eventually
from tests.testing.pools import (
    checksum,
    dmsetup,
    exists,
    has_node,
    is_suspended,
    make_disk,
    passes,
    pool_status,
    put_down,
    table,
    write,
)

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """With a pool that was made by hand, at a transaction id of its owner's, and one thin in it."""
    with a_house() as house:
        pool, thin = house.prefix + "theirs", house.dm_name("thin", "theirs")
        data, metadata = make_disk(house, "theirs.d"), make_disk(house, "theirs.m", 4)
        dmsetup("create", pool, "--uuid", f"LVM-{pool}", "--table", f"0 131072 thin-pool {metadata} {data} 128 0")
        dmsetup("message", pool, "0", "create_thin 3")
        dmsetup("message", pool, "0", "set_transaction_id 0 40")
        dmsetup("create", thin, "--uuid", f"LVM-{thin}", "--table", f"0 16384 thin /dev/mapper/{pool} 3")
        write(thin, 2)
        _declare(house, _adopting(house))
        house.start("--suspend-grace", "1s")
        house.wait("thin", pool="theirs")
        yield house
        assert pool_status(pool)[0] == "40"


def _pool(house: House, **spec: object) -> Record:
    record = house.pool("theirs")
    return {**record, "spec": {"external": True, **spec}}


def _adopting(house: House, name: str = "thin", **spec: object) -> Record:
    return house.device(name, "theirs", adopt={"deviceId": 3, "dmName": house.dm_name("thin", "theirs")}, **spec)


def _declare(house: House, *devices: Record, **spec: object) -> None:
    house.declare(_pool(house, **spec), *devices, file="theirs.yaml")


def test_an_adopted_device_that_vanishes_comes_back(house: House) -> None:
    name = house.dm_name("thin", "theirs")
    before = checksum(f"/dev/mapper/{name}")
    dmsetup("remove", "--retry", name)
    eventually(lambda: has_node(name), "it is back")
    house.wait("thin", pool="theirs")
    assert checksum(f"/dev/mapper/{name}") == before
    assert table(name).split()[2] == "thin"


def test_an_adopted_device_that_is_suspended_is_resumed(house: House) -> None:
    name = house.dm_name("thin", "theirs")
    dmsetup("suspend", name)
    eventually(lambda: not is_suspended(house, name), "it is resumed")
    house.wait("thin", pool="theirs")


def test_a_device_that_adopts_nothing_is_an_invalid_change(house: House) -> None:
    _declare(house, _adopting(house), house.device("own", "theirs"))
    said = house.wait("own", "InvalidChange", pool="theirs")
    assert "adopt" in said["message"]
    passes(house)
    assert pool_status(house.prefix + "theirs")[0] == "40"
    _declare(house, _adopting(house))


def test_a_device_is_never_deleted_from_it(house: House) -> None:
    _declare(house, _adopting(house, state="Absent"))
    house.wait("thin", "InvalidChange", pool="theirs")
    passes(house)
    assert exists(house, house.dm_name("thin", "theirs"))
    _declare(house, _adopting(house))
    house.wait("thin", pool="theirs")


@pytest.mark.parametrize("state", ["Absent", "Inactive"])
def test_the_pool_itself_is_its_owners(house: House, state: str) -> None:
    _declare(house, _adopting(house), state=state)
    said = house.wait_pool("InvalidChange", "theirs")
    assert "its owner decides" in said["message"]
    passes(house)
    assert exists(house, house.prefix + "theirs")
    _declare(house, _adopting(house))
    house.wait_pool(pool="theirs")


def test_a_suspended_pool_is_its_owners_to_resume(house: House) -> None:
    pool = house.prefix + "theirs"
    dmsetup("suspend", pool)
    said = house.wait_pool("PoolSuspended", "theirs")
    assert f"dmsetup resume {pool}" in said["message"]
    passes(house, 4)
    assert is_suspended(house, pool)
    dmsetup("resume", pool)
    house.wait("thin", pool="theirs")
    house.wait_pool(pool="theirs")


def test_a_table_that_its_owner_changes_stays(house: House) -> None:
    pool = house.prefix + "theirs"
    changed = " ".join([*table(pool).split()[:7], "1", "error_if_no_space"])
    dmsetup("load", pool, "--table", changed)
    dmsetup("resume", pool)
    passes(house)
    assert "error_if_no_space" in table(pool)


def test_a_pool_that_its_owner_takes_down_stays_down(house: House) -> None:
    pool, thin = house.prefix + "theirs", house.dm_name("thin", "theirs")
    before, uuid, line = checksum(f"/dev/mapper/{thin}"), f"LVM-{house.prefix}theirs", table(pool)
    _declare(house, _adopting(house, state="Inactive"))
    house.wait("thin", pool="theirs", live="Inactive")
    put_down(house, "theirs")
    said = house.wait_pool("PoolMissing", "theirs")
    assert "its owner must activate it" in said["message"]
    passes(house)
    assert not exists(house, pool)
    dmsetup("create", pool, "--uuid", uuid, "--table", line)
    _declare(house, _adopting(house))
    house.wait("thin", pool="theirs", live="Active")
    assert checksum(f"/dev/mapper/{thin}") == before
