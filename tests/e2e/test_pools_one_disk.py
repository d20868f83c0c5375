"""Two pools that lie on one disk, or in one file, under two names. The kernel takes both, and each destroys the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import House, Record, a_house, eventually
from tests.testing.pools import dmsetup, exists, make_disk, passes, write
from tests.testing.real_kernel import MIB, run

NAMES = ("one", "two")


@pytest.fixture
def house() -> Iterator[House]:
    with a_house() as house:
        yield house


def _exactly_one_is_live(house: House, records: list[Record]) -> tuple[str, str]:
    """Both are declared before the daemon starts, so that their lanes look at the same time. (live, other)"""
    house.declare(*records, *(house.device("a", name) for name in NAMES))
    house.start("--resync", "2s")

    def told() -> tuple[str, str] | None:
        reasons = {name: house.pool_status(name).get("reason") for name in NAMES}
        ordered = sorted(NAMES, key=lambda name: reasons[name] != "Converged")
        return (ordered[0], ordered[1]) if {*reasons.values()} == {"Converged", "Conflict"} else None

    live, other = eventually(told, "one Converged, the other Conflict")
    house.wait("a", pool=live)
    house.wait("a", "WaitingForPool", pool=other)
    passes(house, 1)
    assert exists(house, house.prefix + live)
    assert not exists(house, house.prefix + other)
    write(house.dm_name("a", live), 4)
    return live, other


@pytest.mark.parametrize("again", [0, *(pytest.param(number, marks=pytest.mark.soak) for number in (1, 2))])
def test_of_two_pools_on_one_disk_one_comes_up(house: House, again: int) -> None:
    disk = make_disk(house, f"disk{again}")
    link = house.root / "by-id"
    link.symlink_to(disk)
    pools = [house.pool("one", data={"device": disk}), house.pool("two", data={"device": str(link)})]
    _, other = _exactly_one_is_live(house, pools)
    assert Path(disk).name in house.pool_status(other)["message"] or "by-id" in house.pool_status(other)["message"]


def test_of_two_pools_in_one_file_one_comes_up(house: House) -> None:
    names = [house.root / "first.data", house.root / "second.data"]
    names[0].touch(0o600)
    os.truncate(names[0], 64 * MIB)
    names[1].hardlink_to(names[0])
    pools = [
        house.pool(name, data={"file": str(file), "size": "64MiB"}) for name, file in zip(NAMES, names, strict=True)
    ]
    _exactly_one_is_live(house, pools)


def test_two_that_share_a_disk_already_are_told(house: House) -> None:
    disk, metadata = make_disk(house, "disk"), make_disk(house, "beside.meta", 4)
    house.declare(house.pool("one", data={"device": disk}), house.device("a", "one"))
    house.start("--resync", "1s")
    house.wait("a", pool="one")
    beside = house.prefix + "beside"
    dmsetup("create", beside, "--table", f"0 {64 * MIB // 512} thin-pool {metadata} {disk} 128 0")
    assert beside in house.wait_pool("Conflict", "one")["message"]
    house.declare(house.pool("one", data={"device": disk}), house.device("a", "one"), house.device("b", "one"))
    house.wait("b", "WaitingForPool", pool="one")
    assert house.info("b", "one") is None
    run("dmsetup", "remove", beside)
    house.wait("b", pool="one")


def test_data_and_metadata_in_one_file_are_a_conflict(house: House) -> None:
    file, other = house.root / "same", house.root / "same-too"
    file.touch(0o600)
    os.truncate(file, 64 * MIB)
    other.hardlink_to(file)
    pool = house.pool("one", data={"file": str(file), "size": "64MiB"}, metadata={"file": str(other), "size": "64MiB"})
    house.declare(pool)
    house.start("--resync", "2s")
    assert "the same device" in house.wait_pool("Conflict", "one")["message"]
    assert not exists(house, house.prefix + "one")
