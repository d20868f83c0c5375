"""The store and the pool's metadata come apart: no data is lost, nothing empty takes the place of what was full.

What is wrong is named, with the command or the record that mends it; put right, all converges.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.testing.environment import House, Record, a_house, eventually
from tests.testing.pools import (
    checksum,
    detach_loops,
    dmsetup,
    exists,
    has_node,
    passes,
    pool_status,
    put_down,
    stopped,
    transaction,
    write,
)
from tests.testing.real_kernel import run


@pytest.fixture
def house() -> Iterator[House]:
    """A pool on a filesystem of its own, with one device full of data."""
    with a_house() as house:
        (house.root / "srv").mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=1G", "dmrtest", str(house.root / "srv"))
        house.declare(_pool(house), house.device("a"))
        house.start("--suspend-grace", "1s")
        house.wait("a")
        write(house.dm_name("a"), 2)
        try:
            yield house
        finally:
            _power_off(house)
            run("umount", str(house.root / "srv"), check=False)


def _pool(house: House, **spec: Any) -> Record:
    places = {what: str(house.root / "srv" / f"tank.{what}") for what in ("data", "meta")}
    data, metadata = {"file": places["data"], "size": "256MiB"}, {"file": places["meta"], "size": "4MiB"}
    return house.pool(data=data, metadata=metadata, **spec)


def _sum(house: House, name: str = "a") -> str:
    return checksum(f"/dev/mapper/{house.dm_name(name)}")


def _held(house: House) -> tuple[str, str]:
    """Transaction and data in use. Metadata in use is not in it: some of it becomes free a commit later."""
    transaction, _, data, *_ = pool_status(house.prefix + "tank")
    return transaction, data


def _power_off(house: House) -> None:
    """The daemon, every device and every loop are gone."""
    if house.process is not None:
        house.stop(signal.SIGKILL)
    live = [listed.name for listed in house.dm.list_all() if listed.name.startswith(house.dm_name(""))]
    put_down(house, "tank", *(name.removeprefix(house.dm_name("")) for name in live))
    detach_loops(house, "srv/tank")


def test_a_thin_that_somebody_deleted_is_not_made_anew(house: House) -> None:
    pool, name = house.prefix + "tank", house.dm_name("a")
    lost = house.status("a")["deviceId"]
    with stopped(house):
        dmsetup("remove", "--retry", name)
        dmsetup("message", pool, "0", f"delete {lost}")
    said = house.wait("a", "MetadataMismatch")
    for words in (f"thin id {lost}", "doctor --fix", f"forget device {house.key('a')}", "state: Absent"):
        assert words in said["message"]
    house.declare(house.device("b"), file="b.yaml")
    house.wait("b")
    passes(house)
    assert not exists(house, name)

    house.declare(_pool(house), house.device("a", state="Absent"))
    house.wait("a", live="Absent")
    house.declare(_pool(house), house.device("a"))
    house.wait("a", live="Active")
    assert house.status("a")["deviceId"] != house.status("b")["deviceId"]


def test_a_lost_store_leaves_the_pool_alone_until_a_record_adopts_it(house: House) -> None:
    before, at, lost = _sum(house), transaction(house.prefix + "tank"), house.status("a")["deviceId"]
    house.stop(signal.SIGKILL)
    shutil.rmtree(house.state)
    house.start()
    said = house.wait_pool("Conflict")
    assert "another dm-reconciler store" in said["message"]
    passes(house)
    assert (_sum(house), transaction(house.prefix + "tank")) == (before, at)

    _power_off(house)
    house.start()
    said = house.wait_pool("MetadataMismatch")
    assert "adopt: true" in said["message"]
    assert "in the records of its devices" in said["message"]
    passes(house)
    assert not exists(house, house.prefix + "tank")

    adopt = {"deviceId": lost, "dmName": house.dm_name("a")}
    house.declare(_pool(house, adopt=True), house.device("a", adopt=adopt, size="16MiB"), house.device("b"))
    house.wait("a", live="Active")
    house.wait("b", live="Active")
    assert _sum(house) == before
    assert house.status("b")["deviceId"] != lost


def test_a_store_from_last_week_freezes_the_pool_until_the_right_one_is_back(house: House) -> None:
    assert house.stop() == 0
    week = house.root / "week"
    shutil.copytree(house.state, week)
    house.start()
    house.declare(house.device("b"), file="b.yaml")
    house.wait("b")
    write(house.dm_name("b"), 1)
    before, held = (_sum(house), _sum(house, "b")), _held(house)
    assert house.stop() == 0
    today = house.state.rename(house.root / "today")
    week.rename(house.state)

    house.start()
    said = house.wait_pool("MetadataMismatch")
    assert "the store is an old copy" in said["message"]
    assert "doctor --fix" in said["message"]
    house.wait("b", "Conflict")
    house.declare(house.device("c"), file="c.yaml")
    house.wait("c", "MetadataMismatch")
    passes(house)
    assert (_sum(house), _sum(house, "b")) == before
    assert _held(house) == held

    assert house.stop() == 0
    shutil.rmtree(house.state)
    today.rename(house.state)
    house.start()
    for name in ("a", "b", "c"):
        house.wait(name, live="Active")
    assert (_sum(house), _sum(house, "b")) == before


def test_an_unmounted_filesystem_gets_no_empty_pool(house: House) -> None:
    """The folder is there and empty, as a mount point is before it is mounted."""
    before, srv, away = _sum(house), house.root / "srv", house.root / "away"
    away.mkdir()
    _power_off(house)
    run("mount", "--move", str(srv), str(away))
    house.start()
    said = house.wait_pool("MetadataMismatch")
    assert "is its filesystem mounted?" in said["message"]
    house.wait("a", "WaitingForPool")
    passes(house)
    assert not list(srv.iterdir())
    run("mount", "--move", str(away), str(srv))
    eventually(lambda: has_node(house.dm_name("a")), "it is back, without a restart")
    house.wait("a", live="Active")
    assert _sum(house) == before


def test_metadata_that_was_zeroed_comes_back_from_a_copy_without_a_restart(house: House) -> None:
    before, metadata, copy = _sum(house), house.root / "srv" / "tank.meta", house.root / "copy"
    with stopped(house):
        put_down(house, "tank", "a")
        shutil.copy(metadata, copy)
        run("dd", "if=/dev/zero", f"of={metadata}", "bs=1M", "count=4", "conv=notrunc,fsync")
    said = house.wait_pool("MetadataMismatch")
    assert "begins with zeros where its superblock was" in said["message"]
    passes(house)
    assert not any(metadata.read_bytes()), "nothing was formatted"
    run("dd", f"if={copy}", f"of={metadata}", "bs=1M", "conv=notrunc,fsync")
    eventually(lambda: has_node(house.dm_name("a")), "it is back")
    house.wait("a", live="Active")
    assert _sum(house) == before
