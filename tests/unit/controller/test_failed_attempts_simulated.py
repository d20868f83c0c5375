"""What keeps failing is tried at growing intervals, though udev announces every device that an attempt makes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.kernel.protocol import Mkfs
from reconciler.kernel.simulated import Call, Calls
from reconciler.kernel.simulated.kernel import SimulatedTools
from reconciler.model.conditions import PoolStatusReport, Reason, Status
from reconciler.model.errors import HostError
from reconciler.model.names import Key
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, a_simulated_daemon, device_record, pool_record

XFS = {"type": "xfs"}


class Mkfses:
    """Makes mkfs fail, as mkfs.xfs does for a device that is too small."""

    def __init__(self) -> None:
        self.attempts: list[str] = []
        self.during: Callable[[], object] = lambda: None
        """Called in the middle of each mkfs."""

    def __call__(self, node: str, wanted: Mkfs) -> None:
        self.attempts.append(node)
        self.during()
        raise HostError(f"mkfs.{wanted.type}", node, errno.EINVAL)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    with a_simulated_daemon(tmp_path / "state") as daemon:
        yield daemon


@pytest.fixture
def mkfs(monkeypatch: pytest.MonkeyPatch) -> Mkfses:
    failing = Mkfses()
    monkeypatch.setattr(SimulatedTools, "mkfs", failing)
    return failing


def hear(daemon: SimulatedDaemon, name: str) -> None:
    """Announces an event of the device, as at each attempt."""
    daemon.queue.add(Key(POOL, name))
    daemon.work()


def pool_status(daemon: SimulatedDaemon) -> PoolStatusReport:
    status = daemon.recorder.statuses()[Key(POOL)]
    assert isinstance(status, PoolStatusReport)
    return status


def test_events_of_its_own_making_do_not_hurry_it(daemon: SimulatedDaemon, mkfs: Mkfses) -> None:
    daemon.declare(pool_record(), device_record("a", filesystem=XFS))
    daemon.work()
    before = len(mkfs.attempts)
    assert before == 1
    for _ in range(20):
        hear(daemon, "a")
    assert len(mkfs.attempts) == before
    assert daemon.status("a").reason is Reason.KERNEL_ERROR, "what has failed is still told"
    daemon.run(600)
    assert before + 5 < len(mkfs.attempts) < before + 20, "again and again, at growing intervals"
    daemon.check()


def test_each_try_takes_a_thin_id_and_two_transactions_so_that_there_are_few(
    daemon: SimulatedDaemon, mkfs: Mkfses
) -> None:
    daemon.declare(pool_record(), device_record("a", filesystem=XFS))
    daemon.work()
    before = daemon.host.image(POOL).transaction_id
    for _ in range(40):
        hear(daemon, "a")
        daemon.run(0.1)
    assert daemon.host.image(POOL).transaction_id == before, "it begins with a pause"
    daemon.run(56)
    assert daemon.host.image(POOL).transaction_id <= before + 2 * 4, "and goes on with longer ones"
    assert len(mkfs.attempts) >= 3


def test_what_has_failed_is_told_since_then_also_while_it_is_tried(daemon: SimulatedDaemon, mkfs: Mkfses) -> None:
    daemon.declare(pool_record(), device_record("a", filesystem=XFS))
    daemon.work()
    first = daemon.status("a")
    seen: list[Status] = []
    mkfs.during = lambda: seen.append(daemon.status("a"))
    daemon.run(600)
    assert len(seen) > 5
    assert {(one.reason, one.message, one.since) for one in seen} == {(first.reason, first.message, first.since)}


def test_its_figures_are_those_of_today(daemon: SimulatedDaemon) -> None:
    """The figures are also updated between attempts: how full a pool is matters most when it cannot be made larger."""

    def no_load(call: Call) -> None:
        if call.name == "load":
            raise HostError("load", POOL, errno.EIO)

    daemon.declare(pool_record(), device_record("a"))
    daemon.settle()
    daemon.kill()
    daemon.start(Calls(before=no_load))
    daemon.declare(pool_record(data={"file": "/srv/tank.data", "size": "64MiB"}), device_record("a"))
    daemon.run(300)
    before = pool_status(daemon)
    assert before.reason is Reason.KERNEL_ERROR
    daemon.host.io.write("tank-a", 3, "new")
    daemon.resync()
    daemon.work()
    after = pool_status(daemon)
    assert (after.reason, after.since) == (before.reason, before.since)
    assert before.data_used is not None
    assert after.data_used is not None
    assert after.data_used > before.data_used


@pytest.mark.usefixtures("mkfs")
def test_a_try_that_works_ends_it(daemon: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.declare(pool_record(), device_record("a", filesystem=XFS))
    daemon.run(300)
    monkeypatch.undo()
    daemon.run(600)
    assert daemon.status("a").reason is Reason.CONVERGED


def test_another_record_is_tried_at_once(daemon: SimulatedDaemon, mkfs: Mkfses) -> None:
    daemon.declare(pool_record(), device_record("a", filesystem=XFS))
    daemon.run(300)
    before = len(mkfs.attempts)
    daemon.declare(pool_record(), device_record("a", size="8MiB", filesystem=XFS))
    daemon.work()
    assert len(mkfs.attempts) == before + 1


def test_so_it_is_when_the_pool_has_become_larger(daemon: SimulatedDaemon, mkfs: Mkfses) -> None:
    """The pool may have been too full before."""
    daemon.declare(pool_record(), device_record("a", filesystem=XFS))
    daemon.run(300)
    before = len(mkfs.attempts)
    # Only the record of the pool changes; that of the device stays as it was.
    daemon.declare(pool_record(data={"file": "/srv/tank.data", "size": "64MiB"}), device_record("a", filesystem=XFS))
    daemon.work()
    assert len(mkfs.attempts) > before


def test_a_device_that_others_have_taken_down_meanwhile_is_another_matter(
    daemon: SimulatedDaemon, mkfs: Mkfses
) -> None:
    """The circumstances of the device have changed: it is activated at once, though its filesystem could not be made
    before.
    """
    daemon.declare(pool_record(), device_record("a"), device_record("b", filesystem=XFS))
    daemon.run(300)
    daemon.outside.dm.remove("tank-a")
    hear(daemon, "a")
    assert daemon.info("tank-a") is not None
    assert daemon.status("b").reason is Reason.KERNEL_ERROR
    assert mkfs.attempts
