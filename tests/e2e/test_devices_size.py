"""Devices whose records ask for more room get it, with the filesystem on them; nothing ever shrinks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak

MIB = 1024 * 1024
SIZES = {"ext4": (16, 48), "xfs": (304, 400)}
"""MiB before and after. mkfs.xfs refuses less than 300."""


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(house.pool())
        house.start("--suspend-grace", "1s", "--resync", "250ms")
        house.wait_pool()
        yield house


def sectors_of(house: House, name: str) -> int:
    return int((house.table(name) or "0 0").split()[1])


def room(point: Path) -> int:
    facts = os.statvfs(point)
    return facts.f_blocks * facts.f_frsize


@pytest.mark.parametrize("is_mounted", [True, False], ids=["mounted", "closed"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_filesystem_grows_with_its_device(house: House, kind: str, is_mounted: bool) -> None:
    small, large = SIZES[kind]
    name = f"{kind}-{'mounted' if is_mounted else 'closed'}"
    house.have(name, size=f"{small}MiB", filesystem={"type": kind})
    with house.mounted(name) as point:
        (point / "file").write_text("kept", encoding="utf-8")
        before = room(point)
    with house.mounted(name) if is_mounted else nullcontext():
        house.have(name, size=f"{large}MiB", filesystem={"type": kind})
        assert sectors_of(house, name) == large * 2048
    with house.mounted(name) as point:
        assert room(point) > before + (large - small) * MIB * 0.8
        assert (point / "file").read_text(encoding="utf-8") == "kept"
    assert house.told(name, "Healed", "WrongSize")
    assert house.status(name)["sizeBytes"] == large * MIB


def test_a_table_that_was_cut_short_by_hand_gets_its_length_back(house: House) -> None:
    house.have("cut")
    right = house.table("cut")
    run("dmsetup", "load", house.dm_name("cut"), "--table", right.replace("0 32768 ", "0 2048 "))
    run("dmsetup", "resume", house.dm_name("cut"))
    eventually(lambda: house.table("cut") == right, "it has its length back")
    house.wait("cut")
    assert house.told("cut", "Found", "WrongSize")


def test_a_device_never_shrinks(house: House) -> None:
    house.have("large")
    table = house.table("large")
    status = house.have("large", "InvalidChange", size="8MiB")
    assert "never shrinks" in status["message"]
    house.look_again()
    assert house.table("large") == table
    house.have("large")


def test_a_device_that_was_made_longer_by_hand_is_left_alone(house: House) -> None:
    house.have("longer")
    longer = house.table("longer").replace("0 32768 ", "0 65536 ")
    run("dmsetup", "load", house.dm_name("longer"), "--table", longer)
    run("dmsetup", "resume", house.dm_name("longer"))
    house.wait("longer", "InvalidChange")
    house.look_again()
    assert house.table("longer") == longer


def test_a_filesystem_on_a_read_only_device_does_not_grow(house: House) -> None:
    house.have("sealed", readOnly=True, filesystem={"type": "ext4"})
    house.have("sealed", readOnly=True, filesystem={"type": "ext4"}, size="32MiB")
    assert sectors_of(house, "sealed") == 65536
    with house.mounted("sealed", "tank", "-o", "ro") as point:
        assert room(point) < 16 * MIB


def test_a_device_grows_while_it_is_inactive(house: House) -> None:
    house.have("resting", state="Inactive", filesystem={"type": "ext4"})
    house.have("resting", state="Inactive", filesystem={"type": "ext4"}, size="48MiB")
    house.have("resting", filesystem={"type": "ext4"}, size="48MiB")
    with house.mounted("resting") as point:
        assert room(point) > 40 * MIB
