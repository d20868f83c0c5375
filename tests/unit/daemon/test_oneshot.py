"""When `apply` has nothing left to wait for."""

from __future__ import annotations

import pytest

from reconciler.controller.desired import Desired
from reconciler.daemon.oneshot import is_over
from reconciler.model.conditions import GOOD, DeviceStatus, PoolStatusReport, Reason, Status
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.records import Record
from reconciler.model.recordset import RecordSet
from tests.simulation.simulated_daemon import device_record, pool_record

POOL = Key("tank")


def over(
    pool: Reason,
    device: Reason,
    snapshot: Reason = Reason.CONVERGED,
    mode: PoolMode = PoolMode.RW,
    state: str = "Active",
) -> bool:
    a, s = Key("tank", "a"), Key("tank", "s")
    statuses: dict[Key, Status] = {
        POOL: PoolStatusReport(POOL, LiveState.ACTIVE, pool, "", 0.0, pool in GOOD, mode=mode),
        a: DeviceStatus(a, LiveState.ACTIVE, device, "", 0.0, device in GOOD),
        s: DeviceStatus(s, LiveState.ACTIVE, snapshot, "", 0.0, snapshot in GOOD),
    }
    records = RecordSet.of([pool_record(state=state), device_record("a"), device_record("s", snapshotOf="a")])
    return is_over(statuses, Desired.of(records))


C = Reason.CONVERGED


@pytest.mark.parametrize("final", [Reason.CONFLICT, Reason.INVALID_CHANGE, Reason.METADATA_MISMATCH])
def test_what_waits_for_what_only_a_person_ends_waits_for_that_person(final: Reason) -> None:
    assert over(final, Reason.WAITING_FOR_POOL, Reason.WAITING_FOR_POOL)
    assert over(C, final, Reason.WAITING_FOR_ORIGIN)
    assert over(final, final, final)


def test_an_origin_that_no_record_names_is_not_waited_for() -> None:
    snapshot = Key("tank", "s")
    statuses: dict[Key, Status] = {
        snapshot: DeviceStatus(snapshot, LiveState.ABSENT, Reason.WAITING_FOR_ORIGIN, "", 0.0, good=False)
    }
    alone: list[Record] = [pool_record(), device_record("s", snapshotOf="a")]
    assert is_over(statuses, Desired.of(RecordSet.of(alone)))
    assert not is_over(statuses, Desired.of(RecordSet.of([*alone, device_record("a")])))


def test_a_damaged_pool_is_damaged_however_long_it_is_waited_for() -> None:
    for mode in (PoolMode.NEEDS_CHECK, PoolMode.FAIL):
        assert over(Reason.POOL_UNHEALTHY, Reason.POOL_UNHEALTHY, Reason.POOL_UNHEALTHY, mode)
    assert not over(Reason.POOL_UNHEALTHY, Reason.POOL_UNHEALTHY, Reason.POOL_UNHEALTHY, PoolMode.OUT_OF_DATA_SPACE)


def test_a_pool_that_is_down_by_its_record_brings_nothing_up() -> None:
    assert over(C, Reason.WAITING_FOR_POOL, state="Inactive")
    assert not over(C, Reason.WAITING_FOR_POOL), "an operation on another device is under way"


@pytest.mark.parametrize(
    "reason", [Reason.BUSY, Reason.STUCK, Reason.KERNEL_ERROR, Reason.SUSPENDED, Reason.NOT_CREATED]
)
def test_what_may_end_by_itself_is_waited_for_with_all_that_wait_for_it(reason: Reason) -> None:
    assert not over(reason, Reason.WAITING_FOR_POOL)
    assert not over(C, reason, Reason.WAITING_FOR_ORIGIN)
    assert not over(Reason.CONFLICT, reason)
