"""Pools of somebody else's (LVM's, containerd's): looked at, never created, extended, resumed or removed."""

from __future__ import annotations

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolFailure, PoolMode
from reconciler.model.live import LiveDevice
from reconciler.model.records import PoolState, ThinPool
from reconciler.model.steps import KnowPool
from reconciler.model.stored import KnownPool
from reconciler.model.units import Sectors
from reconciler.planner.facts import PoolCase
from reconciler.planner.plan import Plan
from reconciler.planner.pool_words import find


def plan_external(case: PoolCase, record: ThinPool) -> Plan:
    """A find, never a step: its owner mends it."""
    if record.spec.state is not PoolState.ACTIVE:
        message = f"pool {case.name} is external: its owner decides whether it is there; remove `state` from the record"
        return find(case, Reason.INVALID_CHANGE, message)
    if case.known is not None and not case.known.external:
        message = (
            f"pool {case.name} is this store's own: leave `external` out of its record, or "
            f"`dm-reconciler forget pool {case.name}` first"
        )
        return find(case, Reason.INVALID_CHANGE, message)
    device = case.live.device
    if device is None or not device.info.live_table:
        return find(
            case, Reason.POOL_MISSING, f"pool {case.name} is external and not active: its owner must activate it"
        )
    if device.info.suspended:
        message = f"pool {case.name} is external and suspended: its owner must resume it (`dmsetup resume {case.name}`)"
        return find(case, Reason.POOL_SUSPENDED, message)
    status = case.live.status
    if status is None or isinstance(status, PoolFailure) or status.mode is not PoolMode.RW:
        word = "without a status" if status is None else status.mode.value
        return find(case, Reason.POOL_UNHEALTHY, f"pool {case.name} is external and {word}: its owner must repair it")
    plan = find(case, Reason.CONVERGED, "as desired; its owner keeps it")
    return plan if case.known is not None else plan.but(KnowPool(record.key, _known(case.name, device)))


def _known(name: str, device: LiveDevice) -> KnownPool:
    """So that the store can hold what is adopted from it; of the pool itself it notes nothing more."""
    nothing = Sectors(0)
    return KnownPool(
        name, device.info.uuid, created=True, data="", metadata="", block=nothing, discards="", external=True
    )
