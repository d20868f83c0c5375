"""A pool that fails in the middle of a pass: a later scan of the pass reports it, and nothing more is begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call, Calls
from reconciler.kernel.simulated.pool import CommitFault
from reconciler.model.conditions import Reason
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, a_simulated_daemon, device_record, pool_record


def start_beside_failing_ids(daemon: SimulatedDaemon, how: CommitFault) -> None:
    """Starts a daemon whose first message to the pool, to read the ids, makes it fail."""

    def fail(call: Call) -> None:
        if call.name == "message":
            daemon.host.fail_commits(POOL, how)

    daemon.kill()
    daemon.start(Calls(before=fail))


@pytest.mark.parametrize("how", [CommitFault.READ_ONLY, CommitFault.FAIL])
def test_nothing_is_begun_in_a_pool_that_a_look_for_ids_finds_failed(tmp_path: Path, how: CommitFault) -> None:
    with a_simulated_daemon(tmp_path / "state") as daemon:
        daemon.declare(pool_record(), device_record("d", state="Inactive"))
        daemon.settle()
        start_beside_failing_ids(daemon, how)
        # `a` needs the ids, and the scan for these finds the pool failed; `d`, the next one, does not need them.
        daemon.declare(pool_record(), device_record("a"), device_record("d", state="Absent"))
        daemon.work()
        assert daemon.host.image(POOL).thins.keys() == {daemon.known("d").thin_id}
        assert not daemon.store.intents(POOL)
        assert daemon.status("d").reason is Reason.POOL_UNHEALTHY
