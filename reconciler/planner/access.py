"""What may be done to the devices of a pool, judged by the pool alone."""

from __future__ import annotations

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolFailure, PoolMode, PoolStatus
from reconciler.planner.facts import Access, PoolAccess, PoolCase
from reconciler.planner.ownership import owns_pool
from reconciler.planner.pool_below import cut_off, read_only
from reconciler.planner.pool_cause import Cause, cause_of
from reconciler.planner.pool_shape import has_metadata_to_spare


def access_to(case: PoolCase) -> PoolAccess:
    """The first thing that stands in the way of its devices, or full access."""
    if case.stuck:
        return PoolAccess(Access.NONE, Reason.STUCK, case.stuck)
    live = case.live
    if live.suspended_below:
        names = ", ".join(below.name for below in live.suspended_below)
        return PoolAccess(Access.NONE, Reason.STUCK, f"{names}, which pool {case.name} lies on, is suspended")
    if live.device is None:
        return PoolAccess(Access.NONE, Reason.WAITING_FOR_POOL, f"pool {case.name} is not active")
    if not owns_pool(live, case.record, case.known):
        message = f"{case.name} is a device of somebody else's, not the pool of the record"
        return PoolAccess(Access.NONE, Reason.WAITING_FOR_POOL, message)
    if live.device.info.suspended or not live.device.info.live_table:
        word = "suspended" if live.device.info.suspended else "without a table"
        return PoolAccess(Access.NONE, Reason.WAITING_FOR_POOL, f"pool {case.name} is {word}")
    if live.data.used_by or live.metadata.used_by:
        message = f"pool {case.name} shares its disk: see `dm-reconciler describe pool {case.name}`"
        return PoolAccess(Access.MAINTAIN, Reason.WAITING_FOR_POOL, message)
    if cut_off(live) or any(read_only(live)):
        message = f"what pool {case.name} lies on is not as it was: see `dm-reconciler describe pool {case.name}`"
        return PoolAccess(Access.MAINTAIN, Reason.POOL_UNHEALTHY, message)
    return _health(case)


def _health(case: PoolCase) -> PoolAccess:
    status = case.live.status
    if status is None:
        return PoolAccess(Access.NONE, Reason.WAITING_FOR_POOL, f"pool {case.name} did not tell its status")
    if isinstance(status, PoolFailure) or status.mode not in {PoolMode.RW, PoolMode.OUT_OF_DATA_SPACE}:
        return PoolAccess(Access.MAINTAIN, Reason.POOL_UNHEALTHY, _unwell(case, status))
    if case.record is not None and case.record.spec.external:
        return _by_room(case, status)
    if case.known is not None and not case.known.created:
        return PoolAccess(Access.MAINTAIN, Reason.WAITING_FOR_POOL, f"pool {case.name} is being made, or deleted")
    if case.known is None or case.known.external:
        message = f"the store does not know pool {case.name}: see `dm-reconciler describe pool {case.name}`"
        return PoolAccess(Access.MAINTAIN, Reason.METADATA_MISMATCH, message)
    if status.transaction_id not in expected_transactions(case):
        message = f"pool {case.name} has another transaction id: see `dm-reconciler describe pool {case.name}`"
        return PoolAccess(Access.MAINTAIN, Reason.METADATA_MISMATCH, message)
    return _by_room(case, status)


def _unwell(case: PoolCase, status: PoolStatus | PoolFailure) -> str:
    why = ", as its metadata is full" if cause_of(case) is Cause.METADATA_FULL else ""
    return f"pool {case.name} is {status.mode.value}{why}: see `dm-reconciler describe pool {case.name}`"


def _by_room(case: PoolCase, status: PoolStatus) -> PoolAccess:
    """A full pool's thins can be deleted (observed on 6.1). A suspension, though, would wait behind its writes."""
    if status.mode is PoolMode.OUT_OF_DATA_SPACE:
        return PoolAccess(Access.RELEASE, Reason.POOL_UNHEALTHY, _unwell(case, status))
    if has_metadata_to_spare(status):
        return PoolAccess(Access.FULL)
    message = (
        f"pool {case.name} has hardly any metadata left, and what there is is kept for the devices that are there: "
        f"nothing is made in it until it has more, see `dm-reconciler describe pool {case.name}`"
    )
    return PoolAccess(Access.FULL, no_room=message)


def expected_transactions(case: PoolCase) -> frozenset[int]:
    """The transaction ids that the pool may have: the store's, or those of an operation under way."""
    mine = {case.known.transaction_id} if case.known is not None else set()
    return frozenset(mine | {i.transaction_id + more for i in case.intents for more in (0, 1)})
