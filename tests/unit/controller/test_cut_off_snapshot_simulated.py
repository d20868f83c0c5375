"""A snapshot that is interrupted after its origin was resumed: whoever suspends the origin later is somebody else."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call, Calls
from reconciler.model.errors import HostError
from reconciler.model.names import Key
from tests.simulation.invariants import GRACE
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, a_simulated_daemon, device_record, pool_record


class NoFurther:
    """After the snapshot was taken, makes the pool reject all messages, so that its ids cannot be read."""

    is_taken = False

    def __call__(self, call: Call) -> None:
        if call.name != "message":
            return
        if self.is_taken:
            raise HostError("message", POOL, errno.EIO)
        self.is_taken = str(call.args[1]).startswith("create_snap")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    """A daemon with an active device, and a half-made snapshot of it."""
    with a_simulated_daemon(tmp_path / "state") as daemon:
        daemon.declare(pool_record(), device_record("a"))
        daemon.settle()
        daemon.kill()
        daemon.start(Calls(before=NoFurther()))
        daemon.also(device_record("s", snapshotOf="a"))
        daemon.work()
        (intent,) = daemon.store.intents(POOL)
        assert (intent.key, intent.suspended) == (Key(POOL, "s"), "tank-a")
        yield daemon


def is_suspended(daemon: SimulatedDaemon) -> bool:
    info = daemon.info("tank-a")
    assert info is not None
    return info.suspended


def test_the_origin_runs_again(daemon: SimulatedDaemon) -> None:
    assert not is_suspended(daemon)


@pytest.mark.parametrize("restarted", [False, True])
def test_somebody_elses_freeze_of_the_origin_has_its_grace(daemon: SimulatedDaemon, restarted: bool) -> None:
    daemon.outside.dm.suspend("tank-a")
    if restarted:
        daemon.restart()
    daemon.run(GRACE - 1)
    assert is_suspended(daemon)
    daemon.run(3)
    assert not is_suspended(daemon)
