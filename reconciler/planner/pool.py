"""Pools: the ladder of docs/reference/healing.md, "Pools", first row that fits.

Pools of somebody else's (LVM's, containerd's): looked at, never created, extended, resumed or removed.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.conditions import Condition, Reason
from reconciler.model.dm_tables import PoolFailure, PoolMode, PoolStatus, PoolTable, read_table
from reconciler.model.live import LiveDevice
from reconciler.model.records import PoolState, ThinPool
from reconciler.model.steps import KnowPool, LoadPool, PoolShape, RefreshNodes
from reconciler.model.stored import KnownPool
from reconciler.model.units import Sectors
from reconciler.planner.facts import PoolCase
from reconciler.planner.ownership import owner_of, owns_pool
from reconciler.planner.plan import NODE_GRACE, Plan, Sign, paused
from reconciler.planner.pool_absent import plan_gone, plan_inactive
from reconciler.planner.pool_missing import plan_missing
from reconciler.planner.pool_shape import backings, find, plan_size, pool_low, shape_of
from reconciler.planner.pool_state import (
    after_grace,
    plan_below,
    plan_contradiction,
    plan_device,
    plan_health,
    plan_knowledge,
    plan_note,
)


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


def plan_pool(case: PoolCase) -> Plan:
    """The first row of the table that fits."""
    record = case.record
    if record is None:
        return _plan_unrecorded(case)
    if record.spec.paused:
        return paused(_plan_running(case, record), f"pool {case.name} is paused by its record")
    return _plan_running(case, record)


def _plan_unrecorded(case: PoolCase) -> Plan:
    """A pool that the store knows and no record names: never pruned, as its devices would go with it."""
    condition = find(case, Reason.ORPHANED, f"no record names pool {case.name}: it is left as it is").condition
    return Plan(Condition(condition.reason, condition.message, condition.live, retained=True))


def _plan_running(case: PoolCase, record: ThinPool) -> Plan:
    case = _without_former_owner(case, record)
    device = case.live.device
    if case.live.renamed and not case.stuck:
        return find(case, Reason.CONFLICT, _renamed(case, record))
    if device is not None and not owns_pool(case.live, record, case.known) and not case.stuck:
        owner = owner_of(device.info)
        message = f"the name {case.name} is carried by a device that is not this pool: {owner}. Rename the record or it"
        return find(case, Reason.CONFLICT, message)
    if case.stuck:
        return find(case, Reason.STUCK, case.stuck)
    if case.live.suspended_below:
        return _below(case)
    if record.spec.external:
        return plan_external(case, record)
    if _is_going(case):
        return _plan_going(case, record)
    if record.spec.state is PoolState.ABSENT and not case.needed:
        return _plan_absent(case, record)
    if record.spec.state is PoolState.INACTIVE and not (case.needed and _can_delete(case)):
        return _plan_inactive(case, record)
    plan = plan_missing(case, record) if device is None else _plan_live(case, record)
    return plan if record.spec.state is PoolState.ACTIVE else _not_yet_down(case, record, plan)


def _renamed(case: PoolCase, record: ThinPool) -> str:
    name = record.dm_name
    rename = f"`dmsetup rename {case.live.renamed} {name}`"
    if case.live.device is not None:
        rename = f"{name} is the name of another device now: `dmsetup rename {name} {name}.other`, then {rename}"
    return (
        f"pool {case.name} is live as {case.live.renamed}, which has its UUID: it was renamed. {rename} puts it right; "
        f"until then nothing is done to it or to its devices"
    )


def _can_delete(case: PoolCase) -> bool:
    """Whether a device could be deleted from it. Where not, it goes down at once, as its repair needs it to."""
    status = case.live.status
    if case.live.device is None:
        return not case.live.metadata.needs_check
    return status is None or status.mode in {PoolMode.RW, PoolMode.OUT_OF_DATA_SPACE}


def _not_yet_down(case: PoolCase, record: ThinPool, plan: Plan) -> Plan:
    """Live for the sake of a device that is deleted first: as an Active one should be, but not as desired."""
    if plan.reason is not Reason.CONVERGED:
        return plan
    gone = record.spec.state is PoolState.ABSENT
    reason = Reason.PRESENT_BUT_DESIRED_ABSENT if gone else Reason.ACTIVE_BUT_DESIRED_INACTIVE
    return plan.under(
        reason, f"pool {case.name} is to be {record.spec.state.value.lower()}, once its Absent devices are deleted"
    )


def _without_former_owner(case: PoolCase, record: ThinPool) -> PoolCase:
    """A pool that was external is one that this store has never seen, until `adopt: true` takes it over."""
    if record.spec.external or case.known is None or not case.known.external:
        return case
    return replace(case, known=None)


def _is_going(case: PoolCase) -> bool:
    """Its deletion has begun: a pool that is being made has no transaction yet."""
    return case.known is not None and not case.known.created and case.known.transaction_id > 0


def _plan_going(case: PoolCase, record: ThinPool) -> Plan:
    """A deletion only goes forward: its metadata may be zeroed already."""
    plan = _plan_absent(case, record)
    if record.spec.state is PoolState.ABSENT or not plan.steps:
        return plan
    message = f"the deletion of pool {case.name} has begun and goes on; then it is made anew, empty"
    return replace(plan, condition=Condition(Reason.INVALID_CHANGE, message, plan.condition.live))


def _below(case: PoolCase) -> Plan:
    words = [f"{below.name} ({below.uuid or 'no UUID'})" for below in case.live.suspended_below]
    message = (
        f"{', '.join(words)}, which the pool lies on, is suspended; nothing is sent to the pool until it is resumed, "
        f"by its owner or with `dmsetup resume {case.live.suspended_below[0].name}`"
    )
    return find(case, Reason.STUCK, message)


def _plan_live(case: PoolCase, record: ThinPool) -> Plan:
    """The pool's device is there and ours."""
    shape = shape_of(record)
    return (
        _shared(case, record)
        or plan_device(case, shape)
        or plan_contradiction(case, record)
        or plan_knowledge(case, record)
        or plan_below(case, record)
        or plan_health(case, record, shape)
        or plan_note(case)
        or plan_size(case, record, shape)
        or _plan_features(case, record, shape)
        or _low_or_without_node(case, record, shape)
        or find(case, Reason.CONVERGED, "as desired")
    )


def _low_or_without_node(case: PoolCase, record: ThinPool, shape: PoolShape) -> Plan | None:
    """Room for its devices comes before its node, and its node before what only its operator can change."""
    low, device = pool_low(case, record, shape), case.live.device
    if (low is not None and low.steps) or device is None or not device.missing_nodes:
        return low
    missing = find(case, Reason.NODE_MISSING, f"missing: {', '.join(device.missing_nodes)}")
    refresh = RefreshNodes(device.info.name, device.info.devno)
    return after_grace(case, Sign.NODE, missing.but(refresh), NODE_GRACE)


def _shared(case: PoolCase, record: ThinPool) -> Plan | None:
    """The kernel lets a second pool use the same device."""
    for wanted, found in zip(backings(record), (case.live.data, case.live.metadata), strict=True):
        if found.used_by:
            message = (
                f"{wanted.path} is also in use by {', '.join(found.used_by)}: each overwrites what the other holds. "
                f"Nothing is done to pool {case.name} until one of them is taken down (`state: Inactive`)"
            )
            return find(case, Reason.CONFLICT, message)
    return None


def _plan_inactive(case: PoolCase, record: ThinPool) -> Plan:
    """A damaged pool is taken down like any other, as it is repaired while it is down; an unknown one is not ours."""
    device = case.live.device
    if device is None:
        return plan_contradiction(case, record) or plan_inactive(case, record)
    if device.info.suspended:
        waiting = after_grace(case, Sign.SUSPENDED, find(case, Reason.POOL_SUSPENDED, f"pool {case.name} is suspended"))
        if waiting.look_again is not None:
            return waiting
    unknown = plan_knowledge(case, record)
    if unknown is not None and unknown.reason is Reason.POOL_UNHEALTHY:
        unknown = None
    return (
        plan_contradiction(case, record)
        or unknown
        or (_never_seen(case) if case.known is None else None)
        or plan_inactive(case, record)
    )


def _plan_absent(case: PoolCase, record: ThinPool) -> Plan:
    """Only what is provably the store's own, healthy, and empty is deleted."""
    if case.live.device is None:
        return plan_contradiction(case, record) or plan_gone(case, record)
    if case.known is None:
        return _never_seen(case)
    shape = shape_of(record)
    return (
        _shared(case, record)
        or plan_device(case, shape)
        or plan_contradiction(case, record)
        or plan_health(case, record, shape)
        or plan_gone(case, record)
    )


def _never_seen(case: PoolCase) -> Plan:
    message = (
        f"pool {case.name} is live, and this store has never seen it: nothing is touched. `state: Active` in its "
        f"record, with `adopt: true` if it is not empty, makes it known"
    )
    return find(case, Reason.METADATA_MISMATCH, message)


def _plan_features(case: PoolCase, record: ThinPool, shape: PoolShape) -> Plan | None:
    table = read_table(case.live.device.table) if case.live.device else None
    if not isinstance(table, PoolTable):
        return find(case, Reason.CONFLICT, f"{case.name} carries another table than a thin pool's: it is left alone")
    wanted = _wanted_features(table, shape)
    present = (table.low_water, table.zero_new_blocks, table.discards, table.error_if_full or _still_fails(case))
    if wanted == present:
        return None
    if table.discards != shape.discards and "ignore" in {table.discards, shape.discards}:
        message = f"discards cannot go from {table.discards} to {shape.discards} while the pool is live"
        return find(case, Reason.INVALID_CHANGE, message)
    message = f"the features of pool {case.name} are {present}, the record wants {wanted}"
    return find(case, Reason.POOL_TABLE_WRONG, message).but(LoadPool(record.dm_name, shape))


def _still_fails(case: PoolCase) -> bool:
    """A pool that was full for the kernel's no_space_timeout fails writes that find no room, whatever its table says:
    with room again, a load of that table lets them wait again.
    """
    status = case.live.status
    return isinstance(status, PoolStatus) and status.mode is PoolMode.RW and status.errors_when_full


def _wanted_features(table: PoolTable, shape: PoolShape) -> tuple[int, bool, str, bool]:
    low_water = shape.low_water(table.length)
    return low_water, shape.zero_new_blocks, shape.discards, shape.error_if_full
