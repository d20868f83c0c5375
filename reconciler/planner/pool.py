"""Plans pools by the ladder of docs/reference/healing.md, "Pools": the first row that matches decides.

Pools of other owners (LVM, containerd) are only observed, and never created, extended, resumed or removed.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.conditions import Condition, Reason
from reconciler.model.dm_tables import PoolFailure, PoolMode, PoolStatus, PoolTable, read_table
from reconciler.model.live import LiveDevice
from reconciler.model.records import PoolState, ThinPool
from reconciler.model.steps import LoadPool, PoolShape, RefreshNodes, SavePool
from reconciler.model.stored import StoredPool
from reconciler.model.units import Sectors
from reconciler.planner.facts import PoolFacts
from reconciler.planner.ownership import owner_of, owns_pool
from reconciler.planner.plan import NODE_GRACE, Plan, Sign, paused
from reconciler.planner.pool_absent import plan_gone, plan_inactive
from reconciler.planner.pool_missing import plan_missing
from reconciler.planner.pool_shape import backings, finding, plan_size, pool_low, shape_of
from reconciler.planner.pool_state import (
    after_grace,
    plan_below,
    plan_contradiction,
    plan_device,
    plan_health,
    plan_knowledge,
    plan_note,
)


def plan_external(facts: PoolFacts, record: ThinPool) -> Plan:
    """Reports what is wrong with an external pool, without steps: its owner mends it."""
    if record.spec.state is not PoolState.ACTIVE:
        message = (
            f"pool {facts.name} is external: its owner decides whether it is there; remove `state` from the record"
        )
        return finding(facts, Reason.INVALID_CHANGE, message)
    if facts.known is not None and not facts.known.external:
        message = (
            f"pool {facts.name} is this store's own: leave `external` out of its record, or "
            f"`dm-reconciler forget pool {facts.name}` first"
        )
        return finding(facts, Reason.INVALID_CHANGE, message)
    device = facts.live.device
    if device is None or not device.info.live_table:
        return finding(
            facts, Reason.POOL_MISSING, f"pool {facts.name} is external and not active: its owner must activate it"
        )
    if device.info.suspended:
        message = (
            f"pool {facts.name} is external and suspended: its owner must resume it (`dmsetup resume {facts.name}`)"
        )
        return finding(facts, Reason.POOL_SUSPENDED, message)
    status = facts.live.status
    if status is None or isinstance(status, PoolFailure) or status.mode is not PoolMode.RW:
        word = "without a status" if status is None else status.mode.value
        return finding(
            facts, Reason.POOL_UNHEALTHY, f"pool {facts.name} is external and {word}: its owner must repair it"
        )
    plan = finding(facts, Reason.CONVERGED, "as desired; its owner keeps it")
    return plan if facts.known is not None else plan.with_steps(SavePool(record.key, _known(facts.name, device)))


def _known(name: str, device: LiveDevice) -> StoredPool:
    """What the store notes of an external pool: just enough to hold the devices that are adopted from it."""
    nothing = Sectors(0)
    return StoredPool(
        name, device.info.uuid, created=True, data="", metadata="", block=nothing, discards="", external=True
    )


def plan_pool(facts: PoolFacts) -> Plan:
    """The plan of the first row that matches."""
    record = facts.record
    if record is None:
        return _plan_unrecorded(facts)
    if record.spec.paused:
        return paused(_plan_running(facts, record), f"pool {facts.name} is paused by its record")
    return _plan_running(facts, record)


def _plan_unrecorded(facts: PoolFacts) -> Plan:
    """Plans a pool that the store knows and no record names. It is never pruned, as its devices would be lost."""
    condition = finding(facts, Reason.ORPHANED, f"no record names pool {facts.name}: it is left as it is").condition
    return Plan(Condition(condition.reason, condition.message, condition.live, retained=True))


def _plan_running(facts: PoolFacts, record: ThinPool) -> Plan:
    facts = _without_former_owner(facts, record)
    device = facts.live.device
    if facts.live.renamed and not facts.stuck:
        return finding(facts, Reason.CONFLICT, _renamed(facts, record))
    if device is not None and not owns_pool(facts.live, record, facts.known) and not facts.stuck:
        owner = owner_of(device.info)
        message = (
            f"the name {facts.name} is carried by a device that is not this pool: {owner}. Rename the record or it"
        )
        return finding(facts, Reason.CONFLICT, message)
    if facts.stuck:
        return finding(facts, Reason.STUCK, facts.stuck)
    if facts.live.suspended_below:
        return _below(facts)
    if record.spec.external:
        return plan_external(facts, record)
    if _is_going(facts):
        return _plan_going(facts, record)
    if record.spec.state is PoolState.ABSENT and not facts.needed:
        return _plan_absent(facts, record)
    if record.spec.state is PoolState.INACTIVE and not (facts.needed and _can_delete(facts)):
        return _plan_inactive(facts, record)
    plan = plan_missing(facts, record) if device is None else _plan_live(facts, record)
    return plan if record.spec.state is PoolState.ACTIVE else _not_yet_down(facts, record, plan)


def _renamed(facts: PoolFacts, record: ThinPool) -> str:
    name = record.dm_name
    rename = f"`dmsetup rename {facts.live.renamed} {name}`"
    if facts.live.device is not None:
        rename = f"{name} is the name of another device now: `dmsetup rename {name} {name}.other`, then {rename}"
    return (
        f"pool {facts.name} is live as {facts.live.renamed}, which has its UUID: it was renamed. {rename} puts it right; "
        f"until then nothing is done to it or to its devices"
    )


def _can_delete(facts: PoolFacts) -> bool:
    """Whether devices can be deleted from the pool. If not, it is taken down at once, as its repair needs that."""
    status = facts.live.status
    if facts.live.device is None:
        return not facts.live.metadata.needs_check
    return status is None or status.mode in {PoolMode.RW, PoolMode.OUT_OF_DATA_SPACE}


def _not_yet_down(facts: PoolFacts, record: ThinPool, plan: Plan) -> Plan:
    """The plan of a pool that stays live until a device is deleted: as for an Active pool, but never converged."""
    if plan.reason is not Reason.CONVERGED:
        return plan
    gone = record.spec.state is PoolState.ABSENT
    reason = Reason.PRESENT_BUT_DESIRED_ABSENT if gone else Reason.ACTIVE_BUT_DESIRED_INACTIVE
    return plan.blocked(
        reason, f"pool {facts.name} is to be {record.spec.state.value.lower()}, once its Absent devices are deleted"
    )


def _without_former_owner(facts: PoolFacts, record: ThinPool) -> PoolFacts:
    """The facts without what is stored, if the pool was external: it is unknown until `adopt: true` takes it over."""
    if record.spec.external or facts.known is None or not facts.known.external:
        return facts
    return replace(facts, known=None)


def _is_going(facts: PoolFacts) -> bool:
    """Whether the deletion of the pool has begun. A pool that is still being made has no transaction id yet."""
    return facts.known is not None and not facts.known.created and facts.known.transaction_id > 0


def _plan_going(facts: PoolFacts, record: ThinPool) -> Plan:
    """Goes on with a deletion, even against the record, because the metadata may be zeroed already."""
    plan = _plan_absent(facts, record)
    if record.spec.state is PoolState.ABSENT or not plan.steps:
        return plan
    message = f"the deletion of pool {facts.name} has begun and goes on; then it is made anew, empty"
    return replace(plan, condition=Condition(Reason.INVALID_CHANGE, message, plan.condition.live))


def _below(facts: PoolFacts) -> Plan:
    words = [f"{below.name} ({below.uuid or 'no UUID'})" for below in facts.live.suspended_below]
    message = (
        f"{', '.join(words)}, which the pool lies on, is suspended; nothing is sent to the pool until it is resumed, "
        f"by its owner or with `dmsetup resume {facts.live.suspended_below[0].name}`"
    )
    return finding(facts, Reason.STUCK, message)


def _plan_live(facts: PoolFacts, record: ThinPool) -> Plan:
    """Plans a pool whose device is live and ours."""
    shape = shape_of(record)
    return (
        _shared(facts, record)
        or plan_device(facts, shape)
        or plan_contradiction(facts, record)
        or plan_knowledge(facts, record)
        or plan_below(facts, record)
        or plan_health(facts, record, shape)
        or plan_note(facts)
        or plan_size(facts, record, shape)
        or _plan_features(facts, record, shape)
        or _low_or_without_node(facts, record, shape)
        or finding(facts, Reason.CONVERGED, "as desired")
    )


def _low_or_without_node(facts: PoolFacts, record: ThinPool, shape: PoolShape) -> Plan | None:
    """Space for the devices comes before the node, and the node before what only the operator can change."""
    low, device = pool_low(facts, record, shape), facts.live.device
    if (low is not None and low.steps) or device is None or not device.missing_nodes:
        return low
    missing = finding(facts, Reason.NODE_MISSING, f"missing: {', '.join(device.missing_nodes)}")
    refresh = RefreshNodes(device.info.name, device.info.devno)
    return after_grace(facts, Sign.NODE, missing.with_steps(refresh), NODE_GRACE)


def _shared(facts: PoolFacts, record: ThinPool) -> Plan | None:
    """Reports a backing device that another pool uses as well; the kernel does not prevent that."""
    for wanted, found in zip(backings(record), (facts.live.data, facts.live.metadata), strict=True):
        if found.used_by:
            message = (
                f"{wanted.path} is also in use by {', '.join(found.used_by)}: each overwrites what the other holds. "
                f"Nothing is done to pool {facts.name} until one of them is taken down (`state: Inactive`)"
            )
            return finding(facts, Reason.CONFLICT, message)
    return None


def _plan_inactive(facts: PoolFacts, record: ThinPool) -> Plan:
    """Plans an Inactive pool. A damaged one is taken down too, to be repaired; an unknown one is not ours."""
    device = facts.live.device
    if device is None:
        return plan_contradiction(facts, record) or plan_inactive(facts, record)
    if device.info.suspended:
        waiting = after_grace(
            facts, Sign.SUSPENDED, finding(facts, Reason.POOL_SUSPENDED, f"pool {facts.name} is suspended")
        )
        if waiting.requeue_after is not None:
            return waiting
    unknown = plan_knowledge(facts, record)
    if unknown is not None and unknown.reason is Reason.POOL_UNHEALTHY:
        unknown = None
    return (
        plan_contradiction(facts, record)
        or unknown
        or (_never_seen(facts) if facts.known is None else None)
        or plan_inactive(facts, record)
    )


def _plan_absent(facts: PoolFacts, record: ThinPool) -> Plan:
    """Plans an Absent pool: it is deleted only if it is provably the store's own, healthy and empty."""
    if facts.live.device is None:
        return plan_contradiction(facts, record) or plan_gone(facts, record)
    if facts.known is None:
        return _never_seen(facts)
    shape = shape_of(record)
    return (
        _shared(facts, record)
        or plan_device(facts, shape)
        or plan_contradiction(facts, record)
        or plan_health(facts, record, shape)
        or plan_gone(facts, record)
    )


def _never_seen(facts: PoolFacts) -> Plan:
    message = (
        f"pool {facts.name} is live, and this store has never seen it: nothing is touched. `state: Active` in its "
        f"record, with `adopt: true` if it is not empty, makes it known"
    )
    return finding(facts, Reason.METADATA_MISMATCH, message)


def _plan_features(facts: PoolFacts, record: ThinPool, shape: PoolShape) -> Plan | None:
    table = read_table(facts.live.device.table) if facts.live.device else None
    if not isinstance(table, PoolTable):
        return finding(
            facts, Reason.CONFLICT, f"{facts.name} carries another table than a thin pool's: it is left alone"
        )
    wanted = _wanted_features(table, shape)
    present = (table.low_water, table.zero_new_blocks, table.discards, table.error_if_full or _still_fails(facts))
    if wanted == present:
        return None
    if table.discards != shape.discards and "ignore" in {table.discards, shape.discards}:
        message = f"discards cannot go from {table.discards} to {shape.discards} while the pool is live"
        return finding(facts, Reason.INVALID_CHANGE, message)
    message = f"the features of pool {facts.name} are {present}, the record wants {wanted}"
    return finding(facts, Reason.POOL_TABLE_WRONG, message).with_steps(LoadPool(record.dm_name, shape))


def _still_fails(facts: PoolFacts) -> bool:
    """Whether the pool still fails writes because it was full for the kernel's no_space_timeout. Its table does not
    show that; once there is space, loading the same table makes such writes wait again.
    """
    status = facts.live.status
    return isinstance(status, PoolStatus) and status.mode is PoolMode.RW and status.errors_when_full


def _wanted_features(table: PoolTable, shape: PoolShape) -> tuple[int, bool, str, bool]:
    low_water = shape.low_water(table.length)
    return low_water, shape.zero_new_blocks, shape.discards, shape.error_if_full
