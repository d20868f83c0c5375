"""Two pools whose records lead to one disk by two paths: the first to use it keeps it, and the other reports that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call
from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolTable
from reconciler.model.names import Key
from reconciler.model.records import ThinPool
from reconciler.model.units import Bytes, sectors
from tests.simulation.simulated_daemon import SimulatedDaemon, a_simulated_daemon, device_record, pool_record

MIB = 1024 * 1024
LINK = "/dev/disk/by-id/x"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    with a_simulated_daemon(tmp_path / "state") as daemon:
        daemon.host.nodes.paths[LINK] = daemon.host.add_disk("sdx", 16 * MIB)
        yield daemon


def _pools() -> tuple[ThinPool, ThinPool]:
    return pool_record("one", data={"device": "/dev/sdx"}), pool_record("two", data={"device": LINK})


def _reason(daemon: SimulatedDaemon, pool: str) -> Reason:
    return daemon.recorder.statuses()[Key(pool)].reason


def _work_on_two_while_one_is_about_to_activate(daemon: SimulatedDaemon) -> None:
    """Works on the second pool as its own controller would, between the scan of the first one and its step."""

    def between(call: Call) -> None:
        if call.name == "alone_on":
            daemon.calls.before = lambda _: None
            while keys := daemon.queue.take("two", timeout=0.0):
                daemon.pool_controllers["two"].reconcile(
                    keys, daemon._desired.of_pool("two"), daemon._desired.loaded_at
                )

    daemon.calls.before = between


def test_one_that_was_taken_since_the_look_is_left_to_the_other(daemon: SimulatedDaemon) -> None:
    _work_on_two_while_one_is_about_to_activate(daemon)
    daemon.declare(*_pools(), device_record("a", "one"), device_record("a", "two"))
    daemon.run(60)
    assert daemon.info("two") is not None
    assert daemon.info("one") is None
    assert _reason(daemon, "two") is Reason.CONVERGED
    assert _reason(daemon, "one") is Reason.CONFLICT
    assert daemon.status("a", "two").reason is Reason.CONVERGED
    assert daemon.status("a", "one").reason is Reason.WAITING_FOR_POOL


def test_the_record_of_the_one_that_came_too_late_goes_without_harm_to_the_other(daemon: SimulatedDaemon) -> None:
    _work_on_two_while_one_is_about_to_activate(daemon)
    daemon.declare(*_pools(), device_record("a", "two"))
    daemon.run(60)
    daemon.also(pool_record("one", data={"device": "/dev/sdx"}, state="Absent"))
    daemon.run(60)
    assert _reason(daemon, "one") is Reason.CONVERGED
    assert _reason(daemon, "two") is Reason.CONVERGED
    assert daemon.ids("two") == {daemon.known("a", "two").thin_id}


def test_nothing_is_made_on_two_pools_that_share_a_disk_already(daemon: SimulatedDaemon) -> None:
    one, _ = _pools()
    daemon.declare(one, device_record("a", "one"))
    daemon.settle()
    outside = daemon.outside
    outside.disks.make_file("/srv/other.meta", Bytes(4 * MIB), allocate=True)
    metadata = outside.disks.attach("/srv/other.meta").devno
    (_, _, data) = outside.disks.kind(LINK)
    assert data is not None
    outside.dm.create("two", "")
    outside.dm.load("two", (PoolTable(sectors(Bytes(16 * MIB)), metadata, data, sectors(Bytes(65536)), 0).target(),))
    outside.dm.resume("two", hidden=True)
    daemon.run(30)
    assert _reason(daemon, "one") is Reason.CONFLICT
    daemon.also(device_record("b", "one"))
    daemon.run(30)
    assert "b" not in daemon.store.known_devices("one")
    assert daemon.ids("one") == {daemon.known("a", "one").thin_id}
    outside.dm.remove("two")
    daemon.settle()
    assert daemon.info("one-b") is not None
