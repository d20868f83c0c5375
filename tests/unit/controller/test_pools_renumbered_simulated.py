"""Disks that the kernel numbers otherwise at the next boot, and a disk of the same size in place of the pool's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.conditions import Reason, Status
from reconciler.model.names import Key
from tests.simulation.house import House, a_house, device_record, pool_record

MIB = 1024 * 1024
OURS, THEIRS = "sdx", "sdy"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house(tmp_path / "state") as house:
        yield house


def _live_on_disks(house: House, ours: str, theirs: str) -> None:
    one = house.host.add_disk(OURS, 16 * MIB, ours)
    other = house.host.add_disk(THEIRS, 16 * MIB, theirs)
    house.host.blocks[other].disk.signature = "ext4"
    house.declare(pool_record("tank", data={"device": f"/dev/{OURS}"}), device_record("a"))
    house.settle()
    assert house.host.io.write("tank-a", 0, "ours")
    house.host.io.flush("tank-a")
    house.run(20)
    house.power_cut()
    house.host.renumber(one, other)


def _status(house: House) -> Status:
    return house.recorder.statuses()[Key("tank")]


@pytest.mark.parametrize(
    ("ours", "theirs"), [("S1", "S2"), ("", "")], ids=["with serials", "with nothing to know them by"]
)
def test_a_disk_in_place_of_another_is_never_written_to(house: House, ours: str, theirs: str) -> None:
    _live_on_disks(house, ours, theirs)
    house.run(60)
    assert house.info("tank") is None
    assert _status(house).reason is Reason.METADATA_MISMATCH
    if ours:
        assert f"/dev/{THEIRS} now" in _status(house).message
    assert all(disk.disk.head == b"" for disk in house.host.blocks.values() if disk.disk.signature)


def test_the_right_disk_by_its_new_name_is_taken_up(house: House) -> None:
    _live_on_disks(house, "S1", "S2")
    house.declare(pool_record("tank", data={"device": f"/dev/{THEIRS}"}), device_record("a"))
    house.settle()
    assert house.content("a") == {0: "ours"}
