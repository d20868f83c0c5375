"""EEXIST and ENODATA say what is in a pool's metadata if they answer a message, and nothing if another call fails."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call
from reconciler.kernel.steps.table import run_step
from reconciler.model.errors import HostError
from reconciler.model.steps import DeleteThin
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, a_simulated_daemon, device_record, pool_record


class FailsOnce:
    """Fails the next call of this name, after a message with this beginning was sent."""

    def __init__(self, message: str, name: str, number: int) -> None:
        self._message, self._name, self._number = message, name, number
        self._is_sent = self.has_failed = False

    def __call__(self, call: Call) -> None:
        if call.name == "message" and str(call.args[1]).startswith(self._message):
            self._is_sent = True
        elif self._is_sent and not self.has_failed and call.name == self._name:
            self.has_failed = True
            raise HostError(call.name, str(call.args[0]), self._number)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    with a_simulated_daemon(tmp_path / "state") as daemon:
        daemon.declare(pool_record(), device_record("a"))
        daemon.settle()
        yield daemon


@pytest.mark.parametrize("name", ["resume", "status"])
def test_an_id_is_not_noted_as_somebody_elses_where_another_call_says_that_it_exists(
    daemon: SimulatedDaemon, name: str
) -> None:
    """The snapshot exists by then, so its id would leak."""
    daemon.calls.before = fails = FailsOnce("create_snap", name, errno.EEXIST)
    daemon.also(device_record("s", snapshotOf="a"))
    daemon.settle()
    assert fails.has_failed
    daemon.check()


def test_a_thin_that_is_there_is_not_gone_though_another_call_says_so(daemon: SimulatedDaemon) -> None:
    """Otherwise its id would be free in the store, and leak in the pool."""
    looks: list[Call] = []

    def fail(call: Call) -> None:
        if call.name == "status":
            looks.append(call)
        if len(looks) == 2:  # the first scan is the step's own, the second that of its message
            raise HostError("status", POOL, errno.ENODATA)

    number, transaction = daemon.known("a").thin_id, daemon.host.image(POOL).transaction_id
    daemon.outside.dm.remove("tank-a")
    daemon.calls.before = fail
    with pytest.raises(HostError, match="status"):
        run_step(daemon.kernel, DeleteThin(POOL, number, transaction))
    assert number in daemon.ids()


def test_a_thin_of_which_the_pool_says_that_there_is_none_is_gone(daemon: SimulatedDaemon) -> None:
    transaction = daemon.host.image(POOL).transaction_id
    assert run_step(daemon.kernel, DeleteThin(POOL, 4000, transaction)).note == "gone already"
