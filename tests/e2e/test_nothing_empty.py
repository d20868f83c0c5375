"""Nothing empty in the place of data: `forget` and `adopt`, judged by dmsetup and checksums."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import House, Record, a_house
from tests.testing.pools import checksum, declared, dmsetup, exists, write
from tests.testing.real_kernel import Run, run


@pytest.fixture
def house() -> Iterator[House]:
    with a_house() as house:
        yield house


def apply(house: House, *records: Record, check: bool = True) -> Run:
    house.declare(*records)
    return house.cli("apply", "--manifests", str(house.manifests), "--timeout", "60s", check=check)


def taken_down(*names: str) -> None:
    for name in names:
        run("dmsetup", "remove", "--retry", name)


def thins(prefix: str) -> list[str]:
    return [line for line in dmsetup("ls", "--target", "thin").splitlines() if line.startswith(prefix)]


def test_a_forgotten_pool_gives_back_its_data_and_no_empty_device(house: House) -> None:
    pool, device, name = house.pool(), house.device("a"), house.dm_name("a")
    apply(house, pool, device)
    write(name, 4)
    data = checksum(Path("/dev/mapper", name))
    taken_down(name, f"{house.prefix}tank")
    house.cli("forget", "pool", f"{house.prefix}tank", "--yes")

    held = apply(house, declared(pool, adopt=True), device, check=False)
    assert held.code == 4
    assert thins(house.prefix) == []
    said = held.out + held.err
    assert "0 (4MiB, of transaction 0)" in said
    assert f"adopt: {{deviceId: 0, dmName: {name}}}" in said
    assert f"{name}" not in dmsetup("ls")

    apply(house, declared(pool, adopt=True), declared(device, adopt={"deviceId": 0, "dmName": name}))
    assert checksum(Path("/dev/mapper", name)) == data


def test_a_new_state_directory_and_a_hand_made_pool_are_no_other_case(house: House) -> None:
    pool, device = house.pool(), house.device("a")
    apply(house, pool, device)
    tank = f"{house.prefix}tank"
    taken_down(house.dm_name("a"))
    house.state = house.root / "new-state"
    held = apply(house, declared(pool, adopt=True), device, check=False)
    assert held.code == 4
    assert not exists(house, house.dm_name("a"))
    apply(house, declared(pool, adopt=True, foreignThins=[0]), device)
    assert dmsetup("table", house.dm_name("a")).split()[-1] == "1"
    assert exists(house, tank)


def test_a_forgotten_device_is_not_made_anew_beside_its_data(house: House) -> None:
    pool, device, name = house.pool(), house.device("a"), house.dm_name("a")
    apply(house, pool, device)
    taken_down(name)
    house.cli("forget", "device", house.key("a"), "--yes")
    held = apply(house, pool, device, check=False)
    assert held.code == 4
    assert not exists(house, name)
    dmsetup("message", f"{house.prefix}tank", "0", "delete 0")  # whoever wants it gone
    apply(house, pool, device)
    assert exists(house, name)


def test_somebody_elses_thins_hold_up_no_device_of_a_pool_that_this_store_made(house: House) -> None:
    pool = house.pool()
    apply(house, pool, house.device("a"))
    dmsetup("message", f"{house.prefix}tank", "0", "create_thin 77")
    apply(house, pool, house.device("a"), house.device("b"))
    assert exists(house, house.dm_name("b"))
