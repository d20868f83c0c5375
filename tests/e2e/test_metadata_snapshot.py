"""Another program's metadata snapshot, and one whose own commit fails the pool: asked of the real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing.environment import House, a_house
from tests.testing.pools import dmsetup, exists, pool_status
from tests.testing.real_kernel import run


@pytest.fixture
def house() -> Iterator[House]:
    with a_house() as house:
        yield house


def held(house: House) -> str:
    return pool_status(f"{house.prefix}tank")[3]


def test_another_programs_metadata_snapshot_stays(house: House) -> None:
    tank = f"{house.prefix}tank"
    house.declare(house.pool(), house.device("a"))
    house.cli("apply", "--manifests", str(house.manifests))
    assert held(house) == "-"
    dmsetup("message", tank, "0", "reserve_metadata_snap")
    root = held(house)
    house.declare(house.pool(), house.device("a"), house.device("b"))
    waiting = house.cli("apply", "--manifests", str(house.manifests), "--timeout", "10s", check=False)
    assert waiting.code != 0
    assert held(house) == root
    assert f"dmsetup message {tank} 0 release_metadata_snap" in waiting.out + waiting.err
    assert not exists(house, house.dm_name("b"))
    dmsetup("message", tank, "0", "release_metadata_snap")
    house.cli("apply", "--manifests", str(house.manifests))
    assert exists(house, house.dm_name("b"))
    assert held(house) == "-"
    run("dmsetup", "remove", "--retry", house.dm_name("a"))
