"""Committed but visible: a snapshot that only serves as an origin, and that somebody has activated, goes out of sight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.real_kernel import run


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(house.pool())
        house.start("--suspend-grace", "1s", "--resync", "250ms")
        house.wait_pool()
        yield house


def visible(house: House, name: str) -> bool:
    return house.dm_name(name) in run("lsblk", "--noheadings", "--raw", "--output", "NAME").out.split()


def test_a_committed_device_that_somebody_activated_is_deactivated(house: House) -> None:
    house.have("layer", filesystem={"type": "ext4"})
    house.have("layer", state="Committed", filesystem={"type": "ext4"})
    table = house.thin_table("layer")
    with house.asleep():
        run("dmsetup", "create", house.dm_name("layer"), "--table", table)
        run("udevadm", "settle")
        assert visible(house, "layer")
    eventually(lambda: not visible(house, "layer"), "it is out of sight")
    house.wait("layer", live="Inactive")
    assert house.told("layer", "Healed", "CommittedButActive")
    assert house.metric("dm_reconciler_device_heals_total", pool=f"{house.prefix}tank", device="layer") >= 1


def test_a_committed_device_that_is_mounted_is_left_until_its_umount(house: House) -> None:
    house.have("read", filesystem={"type": "ext4"})
    house.have("read", state="Committed", filesystem={"type": "ext4"})
    table = house.thin_table("read")
    with ExitStack() as use:
        with house.asleep():
            run("dmsetup", "create", house.dm_name("read"), "--table", table)
            run("udevadm", "settle")
            point = use.enter_context(house.mounted("read"))
        status = house.wait("read", "Busy", live="Active")
        assert f"mounted at {point}" in status["message"]
        assert house.told("read", "Found", "CommittedButActive")
        house.look_again()
        assert house.table("read") == table
        assert list(point.iterdir()), "it still serves whoever uses it"
    eventually(lambda: house.info("read") is None, "it is deactivated after the umount")
    house.wait("read", live="Inactive")
    assert house.told("read", "Healed", "CommittedButActive")
