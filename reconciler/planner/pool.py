"""Pools: the ladder of docs/reference/healing.md, "Pools", first row that fits."""

from __future__ import annotations

from reconciler.model.condition import Condition, Reason
from reconciler.model.records import PoolState, ThinPool
from reconciler.model.status import PoolFailure, PoolMode, PoolStatus
from reconciler.model.steps import Clear, KnowPool, LoadPool, PoolShape, Resume
from reconciler.model.table import PoolTable, read_table
from reconciler.model.units import sectors
from reconciler.planner.access import expected_transactions
from reconciler.planner.cases import PoolCase
from reconciler.planner.identity import lies_on_record, owner_of, owns_pool
from reconciler.planner.plan import Plan, Sign
from reconciler.planner.pool_absent import plan_gone, plan_inactive
from reconciler.planner.pool_external import plan_external
from reconciler.planner.pool_missing import plan_missing
from reconciler.planner.pool_size import plan_size, pool_low
from reconciler.planner.pool_words import contradiction, find, known_from, repair_words, shape_of


def plan_pool(case: PoolCase) -> Plan:
    """The first row of the table that fits."""
    record = case.record
    if record is None:
        return _plan_unrecorded(case)
    if record.spec.paused:
        return _plan_running(case, record).under(Reason.PAUSED, f"pool {case.name} is paused by its record")
    return _plan_running(case, record)


def _plan_unrecorded(case: PoolCase) -> Plan:
    """A pool that the store knows and no record names: never pruned, as its devices would go with it."""
    condition = find(case, Reason.ORPHANED, f"no record names pool {case.name}: it is left as it is").condition
    return Plan(Condition(condition.reason, condition.message, condition.live, retained=True))


def _plan_running(case: PoolCase, record: ThinPool) -> Plan:
    device = case.live.device
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
    wanted_up = record.spec.state is PoolState.ACTIVE or case.needed
    if record.spec.state is PoolState.ABSENT and not case.needed:
        return plan_gone(case, record)
    if not wanted_up:
        return plan_inactive(case, record)
    if device is None:
        return plan_missing(case, record)
    return _plan_live(case, record)


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
        _plan_device(case, record, shape)
        or _plan_knowledge(case, record)
        or _plan_health(case)
        or _plan_contradiction(case, record)
        or plan_size(case, record, shape)
        or _plan_features(case, record, shape)
        or pool_low(case, record, shape)
        or find(case, Reason.CONVERGED, "as desired")
    )


def _plan_device(case: PoolCase, record: ThinPool, shape: PoolShape) -> Plan | None:
    """The device itself: its tables and its suspension, each after its grace."""
    device = case.live.device
    assert device is not None  # noqa: S101  # the caller looked
    info = device.info
    load = LoadPool(record.dm_name, shape)
    if not info.live_table:
        plan = find(case, Reason.TABLELESS_SHELL, f"pool {case.name} was created, and no table was loaded")
        return _after_grace(case, Sign.NO_TABLE, plan.but(load))
    if info.suspended:
        clear = (Clear(record.dm_name),) if info.inactive_table else ()
        plan = find(case, Reason.POOL_SUSPENDED, f"pool {case.name} is suspended: all its devices are frozen with it")
        # A resume under a table that is too short fails, and leaves the pool suspended: load a good one first.
        steps = (load,) if _too_short(case) else (*clear, Resume(record.dm_name))
        return _after_grace(case, Sign.SUSPENDED, plan.but(*steps))
    if info.inactive_table:
        plan = find(case, Reason.INACTIVE_TABLE_LEFT, f"a table waits in the inactive slot of pool {case.name}")
        return _after_grace(case, Sign.INACTIVE_TABLE, plan.but(Clear(record.dm_name)))
    return None


def _after_grace(case: PoolCase, sign: Sign, plan: Plan) -> Plan:
    left = case.grace.left(sign)
    if left <= 0:
        return plan
    message = f"{plan.condition.message}; it is left for {left:.1f} s more, as somebody may be at work"
    return Plan(Condition(plan.reason, message, plan.condition.live), look_again=left)


def _too_short(case: PoolCase) -> bool:
    table = read_table(case.live.device.table) if case.live.device else None
    return isinstance(table, PoolTable) and case.known is not None and table.length < sectors(case.known.data_size)


def _plan_knowledge(case: PoolCase, record: ThinPool) -> Plan | None:
    """A live pool of ours that the store does not know, or knows only as begun."""
    status = case.live.status
    if not isinstance(status, PoolStatus) or (case.known is not None and case.known.created):
        return None
    if record.spec.adopt:
        return find(case, Reason.CONVERGED, "taken over").but(KnowPool(record.key, known_from(case, record)))
    if case.ids is None:
        return Plan(find(case, Reason.METADATA_MISMATCH, "reading the pool's thin ids").condition, needs_ids=True)
    if status.transaction_id == 0 and not case.ids:
        return find(case, Reason.CONVERGED, "as desired").but(KnowPool(record.key, known_from(case, record)))
    message = (
        f"pool {case.name} holds {len(case.ids)} thin ids at transaction {status.transaction_id}, and this store "
        f"has never seen it: nothing is touched. `dm-reconciler import live` writes records for what is there; "
        f"`dm-reconciler doctor --fix` shows what can be mended"
    )
    return find(case, Reason.METADATA_MISMATCH, message)


def _plan_health(case: PoolCase) -> Plan | None:
    status = case.live.status
    if status is None:
        return find(case, Reason.POOL_UNHEALTHY, f"pool {case.name} did not tell its status")
    if isinstance(status, PoolFailure) or status.mode in {PoolMode.RO, PoolMode.NEEDS_CHECK}:
        return find(case, Reason.POOL_UNHEALTHY, repair_words(case, status))
    if status.transaction_id in expected_transactions(case):
        return None
    expected = " or ".join(str(number) for number in sorted(expected_transactions(case)))
    message = (
        f"pool {case.name} is at transaction {status.transaction_id}, the store expects {expected}: somebody else "
        f"changed it, or the store is an old copy. Nothing is created or deleted until `dm-reconciler doctor --fix`"
    )
    return find(case, Reason.METADATA_MISMATCH, message)


def _plan_contradiction(case: PoolCase, record: ThinPool) -> Plan | None:
    """What a record cannot change about a pool that exists."""
    words = contradiction(case, record)
    if words:
        return find(case, Reason.INVALID_CHANGE, f"{words}; put it back in the record, or make a new pool")
    table = read_table(case.live.device.table) if case.live.device else None
    if isinstance(table, PoolTable) and not lies_on_record(case.live, table):
        message = (
            f"the live pool lies on {table.metadata} and {table.data}, which are not what the record's paths lead to "
            f"now ({case.live.metadata.devno} and {case.live.data.devno}): a file was replaced, or a device moved"
        )
        return find(case, Reason.METADATA_MISMATCH, message)
    return None


def _plan_features(case: PoolCase, record: ThinPool, shape: PoolShape) -> Plan | None:
    table = read_table(case.live.device.table) if case.live.device else None
    if not isinstance(table, PoolTable):
        return find(case, Reason.CONFLICT, f"{case.name} carries another table than a thin pool's: it is left alone")
    wanted = _wanted_features(table, shape)
    present = (table.low_water, table.zero_new_blocks, table.discards, table.error_if_full)
    if wanted == present:
        return None
    if table.discards != shape.discards and "ignore" in {table.discards, shape.discards}:
        message = f"discards cannot go from {table.discards} to {shape.discards} while the pool is live"
        return find(case, Reason.INVALID_CHANGE, message)
    message = f"the features of pool {case.name} are {present}, the record wants {wanted}"
    return find(case, Reason.POOL_TABLE_WRONG, message).but(LoadPool(record.dm_name, shape))


def _wanted_features(table: PoolTable, shape: PoolShape) -> tuple[int, bool, str, bool]:
    low_water = shape.low_water(table.length)
    return low_water, shape.zero_new_blocks, shape.discards, shape.error_if_full
