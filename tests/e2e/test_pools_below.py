"""A device below a pool that is suspended: nothing is sent that could block, and the other pools go on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.pools import checksum, dmsetup, exists, is_suspended, make_disk, passes, write


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """One pool on linear devices, as a volume manager makes them, and one that lies on files."""
    with a_house() as house:
        for what, mib in (("data", 64), ("metadata", 4)):
            disk = make_disk(house, f"below.{what}", mib)
            dmsetup("create", _below(house, what), "--table", f"0 {mib * 2048} linear {disk} 0")
        places = {what: {"device": f"/dev/mapper/{_below(house, what)}"} for what in ("data", "metadata")}
        house.declare(
            house.pool("below", **places), house.device("a", "below"), house.pool("other"), house.device("a", "other")
        )
        house.start("--suspend-grace", "1s")
        house.wait("a", pool="below")
        house.wait("a", pool="other")
        write(house.dm_name("a", "below"), 1)
        yield house


def _below(house: House, what: str) -> str:
    return f"{house.prefix}{what}disk"


@pytest.mark.parametrize("what", ["metadata", pytest.param("data", marks=pytest.mark.soak)])
def test_the_pool_is_stuck_until_it_is_resumed_and_another_heals_meanwhile(house: House, what: str) -> None:
    below, thin = _below(house, what), house.dm_name("a", "below")
    before = checksum(f"/dev/mapper/{thin}")
    dmsetup("suspend", "--noflush", below)
    said = house.wait_pool("Stuck", "below")
    assert f"dmsetup resume {below}" in said["message"]
    house.wait("a", "Stuck", pool="below")

    dmsetup("suspend", house.dm_name("a", "other"))
    eventually(lambda: not is_suspended(house, house.dm_name("a", "other")), "the other pool's device is resumed")
    dmsetup("remove", "--retry", house.dm_name("a", "other"))
    eventually(lambda: exists(house, house.dm_name("a", "other")), "and activated again")

    passes(house, 3)
    assert is_suspended(house, below), "it is its owner's to resume"
    dmsetup("resume", below)
    house.wait("a", pool="below")
    house.wait_pool(pool="below")
    assert checksum(f"/dev/mapper/{thin}") == before


def test_what_was_declared_meanwhile_is_made_afterwards(house: House) -> None:
    below = _below(house, "metadata")
    dmsetup("suspend", "--noflush", below)
    house.wait_pool("Stuck", "below")
    house.declare(house.device("late", "below"), file="late.yaml")
    house.wait("late", "Stuck", pool="below")
    dmsetup("resume", below)
    house.wait("late", pool="below", live="Active")


def test_where_the_pool_is_down_nothing_is_read_from_the_suspended_disk(house: House) -> None:
    """A look at the superblock would hang, and the second worker's with it."""
    below, pool = _below(house, "metadata"), house.prefix + "below"
    house.wait_pool(pool="below")
    with house.asleep():
        for name in ("a", "late"):  # the second one only where the test before has run
            if exists(house, house.dm_name(name, "below")):
                dmsetup("remove", "--retry", house.dm_name(name, "below"))
        dmsetup("remove", "--retry", pool)
        dmsetup("suspend", below)
    said = house.wait_pool("Stuck", "below")
    assert f"dmsetup resume {below}" in said["message"]
    passes(house, 3)
    assert "no answer" not in house.wait_pool("Stuck", "below")["message"]
    dmsetup("resume", below)
    house.wait("a", pool="below")
