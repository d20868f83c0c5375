"""A reboot: every dm device and loop is gone, and nobody is there. All comes back with its data."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.pools import checksum, detach_loops, exists, has_node, loops_on, put_down, transaction, write
from tests.testing.real_kernel import run

ACTIVE = ("words", "tables", "raw")


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """An ext4, an xfs, a raw device, a committed base and a snapshot of it that rests."""
    with a_house() as house:
        house.declare(
            house.pool(data={"file": str(house.root / "tank.data"), "size": "1GiB"}),
            house.device("words", size="64MiB", filesystem={"type": "ext4"}),
            house.device("tables", size="300MiB", filesystem={"type": "xfs"}),
            house.device("raw"),
            house.device("base", state="Committed"),
            house.device("rest", snapshotOf="base", state="Inactive"),
        )
        house.start("--suspend-grace", "1s")
        for name in (*ACTIVE, "base", "rest"):
            house.wait(name)
        yield house


@contextmanager
def _mounted(house: House, name: str) -> Iterator[Path]:
    place = house.root / f"mnt-{name}"
    place.mkdir(exist_ok=True)
    run("mount", f"/dev/mapper/{house.dm_name(name)}", str(place))
    try:
        yield place
    finally:
        run("umount", str(place))


def _fill(house: House) -> dict[str, str]:
    """What is on the devices, by name."""
    sums = {}
    for name in ("words", "tables"):
        with _mounted(house, name) as place:
            run("dd", "if=/dev/urandom", f"of={place}/file", "bs=1M", "count=3", "conv=fsync")
            sums[name] = checksum(place / "file")
    write(house.dm_name("raw"), 3)
    sums["raw"] = checksum(f"/dev/mapper/{house.dm_name('raw')}")
    return sums


def _read(house: House) -> dict[str, str]:
    sums = {}
    for name in ("words", "tables"):
        with _mounted(house, name) as place:
            sums[name] = checksum(place / "file")
    sums["raw"] = checksum(f"/dev/mapper/{house.dm_name('raw')}")
    return sums


def test_after_a_reboot_all_active_devices_are_back_with_their_data(house: House) -> None:
    before = _fill(house)
    at = transaction(house.prefix + "tank")
    house.stop(signal.SIGKILL)
    put_down(house, "tank", *ACTIVE)
    detach_loops(house, "tank")
    assert not [listed for listed in house.dm.list_all() if listed.name.startswith(house.prefix)]
    assert not loops_on(house.root / "tank.data")

    house.start()
    for name in ACTIVE:
        eventually(lambda name=name: has_node(house.dm_name(name)), f"{name} is back")  # type: ignore[misc]
        house.wait(name, live="Active")
    for name in ("base", "rest"):
        house.wait(name, live="Inactive")
        assert not exists(house, house.dm_name(name))
    assert _read(house) == before
    assert transaction(house.prefix + "tank") == at
    log = house.tail(200)
    for name in ACTIVE:
        assert f'device "{house.dm_name(name)}" is recorded as Active but is not active, activating it' in log
    house.wait_pool()


def test_after_a_reboot_everything_works_on(house: House) -> None:
    """Ids go on where they were: a new device shares nothing with an old one."""
    house.declare(house.device("new", size="16MiB"), file="new.yaml")
    house.wait("new")
    ids = {house.status(name)["deviceId"] for name in (*ACTIVE, "base", "rest", "new")}
    assert len(ids) == len(ACTIVE) + 3
    assert house.pool_status()["leakedThinIds"] == []
