"""A step that says that it did nothing is no success; and a freeze that fails for a moment is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.conditions import Event, EventType, Reason
from reconciler.model.names import Key
from reconciler.model.units import Sectors
from tests.simulation.house import POOL, House, a_house, device_record, pool_record

EXT4 = {"type": "ext4"}
MIB = Sectors(2048)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house(tmp_path / "state") as house:
        house.declare(pool_record(), device_record("a", filesystem=EXT4))
        house.settle()
        yield house


def events(house: House) -> list[Event]:
    return [event for _, event in house.store.events(key=Key(POOL, "a"))]


def reformat(house: House, kind: str) -> None:
    """Somebody puts something else on the device."""
    house.host.io.write("tank-a", 0, f"{kind} {MIB}" if kind else "")


@pytest.mark.parametrize(("found", "told"), [("xfs", "it holds xfs"), ("", "it holds no filesystem that is known")])
def test_a_filesystem_that_is_another_is_not_noted_as_grown(house: House, found: str, told: str) -> None:
    reformat(house, found)
    house.also(device_record("a", size="2MiB", filesystem=EXT4))
    house.run(60)
    assert (house.known("a").size, house.known("a").filesystem_size) == (2 * MIB, MIB)
    status = house.status("a")
    assert (status.reason, status.beneath, status.ready) == (Reason.INVALID_CHANGE, Reason.WRONG_SIZE, False)
    assert f"{told}, not ext4: nothing was grown" in status.message
    failed = [event for event in events(house) if event.type is EventType.FAILED]
    assert [told in event.message for event in failed] == [True]
    assert failed[0].count < 14


def test_it_is_grown_once_it_is_there_again(house: House) -> None:
    reformat(house, "xfs")
    house.also(device_record("a", size="2MiB", filesystem=EXT4))
    house.run(60)
    reformat(house, "ext4")
    house.run(300)
    assert house.status("a").reason is Reason.CONVERGED
    assert house.known("a").filesystem_size == 2 * MIB


def test_without_a_filesystem_in_its_record_nothing_is_to_be_grown(house: House) -> None:
    reformat(house, "xfs")
    house.also(device_record("a", size="2MiB", filesystem=EXT4))
    house.run(60)
    house.also(device_record("a", size="2MiB"))
    house.run(5)
    assert house.status("a").reason is Reason.CONVERGED
    assert house.known("a").filesystem == ""
    assert any("its record names no filesystem" in event.message for event in events(house))


def test_what_a_step_found_to_be_so_already_is_told(house: House) -> None:
    """Somebody took the device away in the moment before."""
    before = house.calls.before
    name = "tank-a"

    def remove_first(call: object) -> None:
        before(call)  # type: ignore[arg-type]
        if getattr(call, "name", "") == "remove" and house.info(name) is not None:
            house.outside.dm.remove(name)

    house.calls.before = remove_first
    house.also(device_record("a", state="Inactive", filesystem=EXT4))
    house.run(5)
    assert house.status("a").reason is Reason.CONVERGED
    assert any("remove tank-a (gone already)" in event.message for event in events(house))


# A freeze that fails while a superblock goes, as since Linux 6.8.


def unmounting(house: House, attempts: int) -> None:
    house.host.mount("tank-a", "/mnt")
    house.host.unmount("tank-a", "/mnt", leaving=attempts)


def test_a_load_waits_for_an_unmount(house: House) -> None:
    unmounting(house, 3)
    house.also(device_record("a", size="2MiB", filesystem=EXT4))
    house.work()
    status = house.status("a")
    assert (status.reason, status.beneath) == (Reason.BUSY, Reason.WRONG_SIZE)
    assert "is just being unmounted" in status.message
    info = house.info("tank-a")
    assert info is not None
    assert not info.suspended
    assert not info.inactive_table
    house.run(2)
    assert house.status("a").reason is Reason.CONVERGED


def test_a_snapshot_waits_for_an_unmount_and_costs_no_transaction(house: House) -> None:
    before = house.host.image(POOL).transaction_id
    unmounting(house, 3)
    house.also(device_record("s", snapshotOf="a"))
    house.work()
    assert house.status("s").reason is Reason.WAITING_FOR_ORIGIN
    assert "is just being unmounted" in house.status("s").message
    house.run(2)
    assert house.status("s").reason is Reason.CONVERGED
    assert house.host.image(POOL).transaction_id == before + 1
    house.check()
