"""Reading a pool's thin ids writes to its metadata, so it is not done by observers, nor in pools of other owners."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.controller.dry_run import preview_pool
from reconciler.controller.fact_gatherer import Settings
from reconciler.kernel.simulated import Calls, simulated_kernel
from reconciler.kernel.worker.client import InlineWorkerClient
from reconciler.model.conditions import PoolStatusReport
from reconciler.model.dm_tables import PoolTable, ThinTable
from reconciler.model.live import ScanScope
from reconciler.model.names import Key
from reconciler.model.records import Record
from reconciler.model.units import Sectors
from tests.simulation.calls import changes
from tests.simulation.host import PlayedHost
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, a_simulated_daemon, device_record, pool_record

MIB = 2048
SIZE = Sectors(MIB)
EXTERNAL = pool_record(external=True, data=None, metadata=None)


RECORDS: list[Record] = [EXTERNAL, device_record("theirs", adopt={"deviceId": 1, "dmName": "ctr-1"})]


@pytest.fixture
def host() -> PlayedHost:
    """A host with an external pool, and a thin in it."""
    host = PlayedHost()
    metadata, data = host.add_disk("sda", 4 * MIB * 512), host.add_disk("sdb", 16 * MIB * 512)
    dm = simulated_kernel(host).dm
    dm.create(POOL, "")
    dm.load(POOL, (PoolTable(Sectors(16 * MIB), metadata, data, Sectors(128), 0).target(),))
    dm.resume(POOL)
    dm.message(POOL, "create_thin 1")
    dm.create("ctr-1", "")
    dm.load("ctr-1", (ThinTable(SIZE, host.devices.by_name[POOL].devno, 1).target(),))
    dm.resume("ctr-1")
    return host


@pytest.fixture
def guest(host: PlayedHost, tmp_path: Path) -> Iterator[SimulatedDaemon]:
    """A daemon whose record adopts that thin."""
    daemon = SimulatedDaemon(tmp_path / "state", host)
    daemon.declare(*RECORDS)
    daemon.settle()
    yield daemon
    daemon.kill()


def messages(calls: Calls) -> list[str]:
    return [str(call.args[1]) for call in calls.made if call.name == "message"]


def preview(daemon: SimulatedDaemon) -> Calls:
    calls = Calls()
    port = InlineWorkerClient(
        simulated_kernel(daemon.host, calls), ScanScope(POOL, None, None, frozenset()), daemon.state_dir
    )
    rng = random.Random(1)
    list(preview_pool(daemon._desired.of_pool(POOL), client=port, store=daemon.store, clock=daemon.clock, rng=rng))
    return calls


def test_a_daemon_reads_those_of_its_own_pool_through_a_metadata_snapshot(tmp_path: Path) -> None:
    with a_simulated_daemon(tmp_path / "state") as daemon:
        daemon.declare(pool_record(), device_record("a"))
        daemon.settle()
        assert "reserve_metadata_snap" in messages(daemon.calls)


def test_a_thin_that_appears_without_a_transaction_is_noticed(tmp_path: Path) -> None:
    """`dmsetup message` changes no transaction id, so only the larger metadata usage shows the thin."""
    with a_simulated_daemon(tmp_path / "state") as daemon:
        daemon.declare(pool_record(), device_record("a"))
        daemon.settle()
        daemon.run(60)  # by then they were read after the last transaction of the daemon
        daemon.outside.dm.message(POOL, "create_thin 4000")
        daemon.run(30)
        pool = daemon.recorder.statuses()[Key(POOL)]
        assert isinstance(pool, PoolStatusReport)
        assert pool.leaked_ids == (4000,)


def test_who_only_shows_what_would_be_done_changes_nothing(tmp_path: Path) -> None:
    with a_simulated_daemon(tmp_path / "state") as daemon:
        daemon.declare(pool_record(), device_record("a"))
        daemon.settle()
        daemon.also(device_record("b"), device_record("a", state="Absent"))
        assert not [call for call in preview(daemon).made if changes(call)]


def test_no_message_is_ever_sent_to_somebody_elses_pool(guest: SimulatedDaemon) -> None:
    guest.outside.dm.remove("ctr-1")
    guest.settle()
    assert guest.info("ctr-1") is not None, "its device is healed all the same"
    guest.outside.dm.message(POOL, "create_thin 2")  # its metadata has changed, which is a reason to read the ids again
    guest.run(60)
    assert not messages(guest.calls)
    assert not messages(preview(guest))


def test_nor_where_the_thin_that_a_record_adopts_is_gone(guest: SimulatedDaemon) -> None:
    """ENODATA causes the ids to be read, if the pool is ours."""
    guest.outside.dm.remove("ctr-1")
    guest.outside.dm.message(POOL, "delete 1")
    guest.run(60)
    assert any(call.name == "load" for call in guest.calls.made)
    assert not messages(guest.calls)


def test_nor_by_who_only_observes(host: PlayedHost, tmp_path: Path) -> None:
    observer = SimulatedDaemon(tmp_path / "other", host, Settings(observe_only=True))
    observer.declare(*RECORDS)
    observer.run(60)
    observer.kill()
    assert not [call for call in observer.calls.made if changes(call)]
