"""Changes by others between the scan of a pass and its step: the step checks again, and touches nothing of theirs."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call
from reconciler.kernel.steps.table import run_step
from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import Target
from reconciler.model.errors import HostError, PreconditionError
from reconciler.model.names import Key
from reconciler.model.steps import Load, Remove
from reconciler.model.units import Sectors
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, a_simulated_daemon, device_record, pool_record

EXT4 = {"type": "ext4"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    """A pool with an active device."""
    with a_simulated_daemon(tmp_path / "state") as daemon:
        daemon.declare(pool_record(), device_record("a", filesystem=EXT4))
        daemon.settle()
        yield daemon


def lose_pool(home: SimulatedDaemon) -> None:
    home.outside.dm.remove("tank-a")
    home.outside.dm.remove(POOL)


def test_nothing_is_deleted_from_a_pool_that_somebody_has_just_changed(home: SimulatedDaemon) -> None:
    """The change comes between the scan and the message, so the pool is not at the intent's transaction any more."""
    number, transaction = home.known("a").thin_id, home.host.image(POOL).transaction_id

    def change(call: Call) -> None:
        if call.name == "BeginIntent":
            home.outside.dm.message(POOL, f"set_transaction_id {transaction} {transaction + 7}")

    home.calls.after = change
    home.also(device_record("a", state="Absent"))
    home.run(3)
    assert number in home.ids()
    assert home.known("a").thin_id == number
    assert home.status("a").reason is Reason.METADATA_MISMATCH


def test_a_pool_is_not_brought_up_beside_whoever_took_its_metadata_since_the_look(home: SimulatedDaemon) -> None:
    """Two pools on one metadata device corrupt it, and device-mapper does not object."""
    (table,) = home.outside.dm.table(POOL)
    where = Target(Sectors(0), Sectors(8), "linear", f"{table.params.split()[0]} 0")

    def take(call: Call) -> None:
        if call.name == "thin_check" and home.info("theirs") is None:
            home.outside.dm.create("theirs", "")
            home.outside.dm.load("theirs", (where,))
            home.outside.dm.resume("theirs")

    home.calls.after = take
    lose_pool(home)
    home.run(10)
    assert home.info("theirs") is not None
    assert home.info(POOL) is None
    home.outside.dm.remove("theirs")
    home.calls.after = lambda _: None
    home.settle()
    home.check()


def test_a_pool_is_not_brought_up_on_metadata_that_was_changed_since_the_look(home: SimulatedDaemon) -> None:
    """Somebody had the pool active elsewhere meanwhile, so what the store knows of its thins may be wrong."""
    table, transaction = home.outside.dm.table(POOL), home.host.image(POOL).transaction_id

    def change(call: Call) -> None:
        if call.name == "thin_check":
            dm = home.outside.dm
            dm.create("theirs", "")
            dm.load("theirs", table)
            dm.resume("theirs")
            dm.message("theirs", f"set_transaction_id {transaction} {transaction + 7}")
            dm.remove("theirs")

    home.calls.after = change
    lose_pool(home)
    home.run(1)
    assert home.info(POOL) is None
    assert home.status("a").reason is not Reason.CONVERGED


def test_what_has_taken_a_devices_name_since_the_look_is_not_removed(home: SimulatedDaemon) -> None:
    info = home.info("tank-a")
    assert info is not None
    home.outside.dm.remove("tank-a")
    home.outside.dm.create("tank-a", "theirs")
    with pytest.raises(HostError, match="another device since the last look"):
        run_step(home.kernel, Remove("tank-a", info.uuid))
    assert home.info("tank-a") is not None


def test_a_table_whose_resume_failed_does_not_wait_for_somebody_elses(home: SimulatedDaemon) -> None:
    def refuse(call: Call) -> None:
        if call.name == "resume":
            raise HostError("resume", "tank-a", 12)

    home.calls.before = refuse
    home.also(device_record("a", filesystem=EXT4, size="2MiB"))
    home.work()
    assert home.status("a").reason is Reason.KERNEL_ERROR
    info = home.info("tank-a")
    assert info is not None
    assert not info.inactive_table
    assert not info.suspended


def test_a_pool_is_not_brought_up_while_the_start_of_its_data_cannot_be_read(home: SimulatedDaemon) -> None:
    """Another file may be there by now: only what its data begins with can tell."""
    data = "/srv/tank.data"

    def fail(call: Call) -> None:
        if call.part == "disks" and call.name == "read" and call.args[0] == data:
            raise HostError("read", data, errno.EIO)

    home.calls.before = fail
    lose_pool(home)
    home.run(30)
    assert home.info(POOL) is None
    assert data in home.recorder.statuses()[Key(POOL)].message
    home.calls.before = lambda _: None
    home.settle()
    home.check()


def test_a_suspension_that_began_since_the_scan_is_not_ended_by_a_new_table(home: SimulatedDaemon) -> None:
    table = home.outside.dm.table("tank-a")[0]
    home.outside.dm.suspend("tank-a")
    with pytest.raises(PreconditionError, match="suspended"):
        run_step(home.kernel, Load("tank-a", table))
    info = home.info("tank-a")
    assert info is not None
    assert info.suspended
    assert not info.inactive_table
