"""A pool that fails in the midst of a pass: of it, a later look of that pass tells, and nothing more is begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call, Calls
from reconciler.kernel.simulated.pool import CommitFault
from reconciler.model.conditions import Reason
from tests.simulation.house import POOL, House, a_house, device_record, pool_record


def start_beside_failing_ids(house: House, how: CommitFault) -> None:
    """The next daemon's first message to the pool, which is to read the ids, is the one that fails it."""

    def fail(call: Call) -> None:
        if call.name == "message":
            house.host.fail_commits(POOL, how)

    house.kill()
    house.start(Calls(before=fail))


@pytest.mark.parametrize("how", [CommitFault.READ_ONLY, CommitFault.FAIL])
def test_nothing_is_begun_in_a_pool_that_a_look_for_ids_finds_failed(tmp_path: Path, how: CommitFault) -> None:
    with a_house(tmp_path / "state") as house:
        house.declare(pool_record(), device_record("d", state="Inactive"))
        house.settle()
        start_beside_failing_ids(house, how)
        # `a` needs the ids, in the look for which the pool is found failed; `d`, which is next, does not.
        house.declare(pool_record(), device_record("a"), device_record("d", state="Absent"))
        house.work()
        assert house.host.image(POOL).thins.keys() == {house.known("d").thin_id}
        assert not house.store.intents(POOL)
        assert house.status("d").reason is Reason.POOL_UNHEALTHY
