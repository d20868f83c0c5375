"""A step that reports that it did nothing has not succeeded; a freeze that fails for a moment is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.conditions import Event, EventType, Reason
from reconciler.model.names import Key
from reconciler.model.units import Sectors
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, a_simulated_daemon, device_record, pool_record

EXT4 = {"type": "ext4"}
MIB = Sectors(2048)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    with a_simulated_daemon(tmp_path / "state") as daemon:
        daemon.declare(pool_record(), device_record("a", filesystem=EXT4))
        daemon.settle()
        yield daemon


def events(daemon: SimulatedDaemon) -> list[Event]:
    return [event for _, event in daemon.store.events(key=Key(POOL, "a"))]


def reformat(daemon: SimulatedDaemon, kind: str) -> None:
    """Puts another filesystem on the device, as somebody else."""
    daemon.host.io.write("tank-a", 0, f"{kind} {MIB}" if kind else "")


@pytest.mark.parametrize(("found", "told"), [("xfs", "it holds xfs"), ("", "it holds no filesystem that is known")])
def test_a_filesystem_that_is_another_is_not_noted_as_grown(daemon: SimulatedDaemon, found: str, told: str) -> None:
    reformat(daemon, found)
    daemon.also(device_record("a", size="2MiB", filesystem=EXT4))
    daemon.run(60)
    assert (daemon.known("a").size, daemon.known("a").filesystem_size) == (2 * MIB, MIB)
    status = daemon.status("a")
    assert (status.reason, status.beneath, status.ready) == (Reason.INVALID_CHANGE, Reason.WRONG_SIZE, False)
    assert f"{told}, not ext4: nothing was grown" in status.message
    failed = [event for event in events(daemon) if event.type is EventType.FAILED]
    assert [told in event.message for event in failed] == [True]
    assert failed[0].count < 14


def test_it_is_grown_once_it_is_there_again(daemon: SimulatedDaemon) -> None:
    reformat(daemon, "xfs")
    daemon.also(device_record("a", size="2MiB", filesystem=EXT4))
    daemon.run(60)
    reformat(daemon, "ext4")
    daemon.run(300)
    assert daemon.status("a").reason is Reason.CONVERGED
    assert daemon.known("a").filesystem_size == 2 * MIB


def test_without_a_filesystem_in_its_record_nothing_is_to_be_grown(daemon: SimulatedDaemon) -> None:
    reformat(daemon, "xfs")
    daemon.also(device_record("a", size="2MiB", filesystem=EXT4))
    daemon.run(60)
    daemon.also(device_record("a", size="2MiB"))
    daemon.run(5)
    assert daemon.status("a").reason is Reason.CONVERGED
    assert daemon.known("a").filesystem == ""
    assert any("its record names no filesystem" in event.message for event in events(daemon))


def test_what_a_step_found_to_be_so_already_is_told(daemon: SimulatedDaemon) -> None:
    """Somebody removed the device just before the step."""
    before = daemon.calls.before
    name = "tank-a"

    def remove_first(call: object) -> None:
        before(call)  # type: ignore[arg-type]
        if getattr(call, "name", "") == "remove" and daemon.info(name) is not None:
            daemon.outside.dm.remove(name)

    daemon.calls.before = remove_first
    daemon.also(device_record("a", state="Inactive", filesystem=EXT4))
    daemon.run(5)
    assert daemon.status("a").reason is Reason.CONVERGED
    assert any("remove tank-a (gone already)" in event.message for event in events(daemon))


# A freeze that fails while a superblock is shut down, as since Linux 6.8


def unmounting(daemon: SimulatedDaemon, attempts: int) -> None:
    daemon.host.mount("tank-a", "/mnt")
    daemon.host.unmount("tank-a", "/mnt", leaving=attempts)


def test_a_load_waits_for_an_unmount(daemon: SimulatedDaemon) -> None:
    unmounting(daemon, 3)
    daemon.also(device_record("a", size="2MiB", filesystem=EXT4))
    daemon.work()
    status = daemon.status("a")
    assert (status.reason, status.beneath) == (Reason.BUSY, Reason.WRONG_SIZE)
    assert "is just being unmounted" in status.message
    info = daemon.info("tank-a")
    assert info is not None
    assert not info.suspended
    assert not info.inactive_table
    daemon.run(2)
    assert daemon.status("a").reason is Reason.CONVERGED


def test_a_snapshot_waits_for_an_unmount_and_costs_no_transaction(daemon: SimulatedDaemon) -> None:
    before = daemon.host.image(POOL).transaction_id
    unmounting(daemon, 3)
    daemon.also(device_record("s", snapshotOf="a"))
    daemon.work()
    assert daemon.status("s").reason is Reason.WAITING_FOR_ORIGIN
    assert "is just being unmounted" in daemon.status("s").message
    daemon.run(2)
    assert daemon.status("s").reason is Reason.CONVERGED
    assert daemon.host.image(POOL).transaction_id == before + 1
    daemon.check()
