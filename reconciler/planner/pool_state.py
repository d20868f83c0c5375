"""Plans a pool whose device or metadata is suspended, half made, unknown, damaged, or not what the record says.

The causes of a live pool's trouble are told apart, and what is safe without a person is done.

The kernel reports `ro` for several of them. A pool with full metadata is undamaged and goes on once it has more: its
mode changes when the longer metadata device is taken into use (observed on 6.1). So growing a pool belongs here as
well, and is not blocked by the very state that it mends. A pool with needs_check does not grow, because the kernel
refuses that until the pool is repaired.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from reconciler.model.conditions import Condition, Reason
from reconciler.model.dm_tables import PoolStatus, PoolTable, read_table
from reconciler.model.live import LiveDevice
from reconciler.model.names import Key
from reconciler.model.records import ThinPool
from reconciler.model.steps import (
    CancelDeferredRemove,
    Clear,
    LoadPool,
    MakeWritable,
    PoolShape,
    RemovePool,
    Resume,
    SavePool,
)
from reconciler.planner.facts import PoolFacts
from reconciler.planner.ownership import (
    Cause,
    cause_of,
    cut_off,
    expected_transactions,
    how_to_write,
    lies_on_record,
    read_only,
    words_of,
)
from reconciler.planner.plan import Plan, Sign
from reconciler.planner.pool_identity import contradiction, noted_now, renamed
from reconciler.planner.pool_shape import backings, finding, known_from, plan_size, pool_low, shape_of, whole_blocks


def plan_health(facts: PoolFacts, record: ThinPool, shape: PoolShape) -> Plan | None:
    """The rows for a pool in trouble, with steps where they are safe without a person."""
    status = facts.live.status
    if status is None:
        return finding(facts, Reason.POOL_UNHEALTHY, f"pool {facts.name} did not tell its status")
    cause = cause_of(facts)
    if cause is Cause.READ_ONLY_TABLE:
        message = f"the table of pool {facts.name} says read_only, and its record does not: nothing is wrong with it"
        return finding(facts, Reason.POOL_TABLE_WRONG, f"{message}, so it is loaded without").with_steps(
            LoadPool(record.dm_name, shape)
        )
    if cause is Cause.METADATA_FULL:
        return more_metadata(facts, record, shape)
    if cause is not None:
        return finding(facts, Reason.POOL_UNHEALTHY, words_of(facts, cause))
    if isinstance(status, PoolStatus) and status.transaction_id not in expected_transactions(facts):
        return _at_another_transaction(facts, record, shape, status)
    return None


def more_metadata(facts: PoolFacts, record: ThinPool, shape: PoolShape) -> Plan:
    """Takes into use what record, device or `extend` adds to full metadata, while the pool is up and undamaged."""
    found = plan_size(facts, record, shape, whole=True) or pool_low(facts, record, shape)
    return found or finding(facts, Reason.POOL_UNHEALTHY, words_of(facts, Cause.METADATA_FULL))


def _at_another_transaction(facts: PoolFacts, record: ThinPool, shape: PoolShape, status: PoolStatus) -> Plan:
    """Plans a pool at an unexpected transaction: nothing is created or deleted, but more space harms nobody."""
    expected = " or ".join(str(number) for number in sorted(expected_transactions(facts)))
    message = (
        f"pool {facts.name} is at transaction {status.transaction_id}, the store expects {expected}: somebody else "
        f"changed it, or the store is an old copy. Nothing is created or deleted until `dm-reconciler doctor --fix`"
    )
    growing = plan_size(facts, record, shape) or pool_low(facts, record, shape)
    if growing is None:
        return finding(facts, Reason.METADATA_MISMATCH, message)
    return finding(facts, Reason.METADATA_MISMATCH, f"{message}. Besides, {growing.condition.message}").with_steps(
        *growing.steps
    )


def plan_damage(facts: PoolFacts) -> Plan | None:
    """Reports a pool that only a person can bring back, and how, if the store does not know the pool."""
    cause = cause_of(facts)
    return None if cause is None else finding(facts, Reason.POOL_UNHEALTHY, words_of(facts, cause))


def plan_device(facts: PoolFacts, shape: PoolShape) -> Plan | None:
    """Plans the device itself: its tables and its suspension, each after its grace."""
    device = facts.live.device
    if device is None:
        return None
    info = device.info
    if not info.live_table:
        # The kernel would format missing metadata if a table were loaded here. Without its shell the pool counts as
        # missing, and comes back with all the checks of that row.
        plan = finding(
            facts, Reason.TABLELESS_SHELL, f"pool {facts.name} was created, and no table was loaded: removing it"
        )
        return after_grace(facts, Sign.NO_TABLE, plan.with_steps(RemovePool(info.name, info.uuid)))
    if info.suspended:
        return _resume(facts, device, shape)
    if info.inactive_table:
        plan = finding(facts, Reason.INACTIVE_TABLE_LEFT, f"a table waits in the inactive slot of pool {facts.name}")
        return after_grace(facts, Sign.INACTIVE_TABLE, plan.with_steps(Clear(info.name)))
    if info.deferred_remove:
        plan = finding(facts, Reason.DEFERRED_REMOVE_PENDING, f"pool {facts.name} is to vanish at its last close")
        return plan.with_steps(CancelDeferredRemove(info.name))
    if info.read_only:  # a pool's table is never read-only by itself; the block layer's flag is meant
        plan = finding(facts, Reason.POOL_TABLE_WRONG, f"the device of pool {facts.name} is read-only")
        return plan.with_steps(MakeWritable(info.name, None))
    return None


def _resume(facts: PoolFacts, device: LiveDevice, shape: PoolShape) -> Plan:
    info = device.info
    plan = finding(facts, Reason.POOL_SUSPENDED, f"pool {facts.name} is suspended: all its devices are frozen with it")
    if _too_short(facts, device):
        # A resume with a table that is too short fails and leaves the pool suspended, so a good table is loaded first.
        return after_grace(facts, Sign.SUSPENDED, plan.with_steps(LoadPool(info.name, shape)))
    clear = (Clear(info.name),) if info.inactive_table else ()
    return after_grace(facts, Sign.SUSPENDED, plan.with_steps(*clear, Resume(info.name)))


def after_grace(facts: PoolFacts, sign: Sign, plan: Plan, length: float | None = None) -> Plan:
    left = facts.grace.left(sign, length)
    if left <= 0:
        return plan
    message = f"{plan.condition.message}; it is left for {ceil(left)} s more, as somebody may be at work"
    return Plan(Condition(plan.reason, message, plan.condition.live), requeue_after=left)


def _too_short(facts: PoolFacts, device: LiveDevice) -> bool:
    table, known = read_table(device.table), facts.known
    if known is None or not isinstance(table, PoolTable):
        return False
    return table.length < whole_blocks(known.data_size, table.block)


def plan_knowledge(facts: PoolFacts, record: ThinPool) -> Plan | None:
    """Plans a live pool of ours that the store does not know, or knows only as begun."""
    status, known = facts.live.status, facts.known
    if not isinstance(status, PoolStatus) or (known is not None and known.created):
        return None
    if record.spec.adopt:
        return finding(facts, Reason.CONVERGED, "taken over").with_steps(
            SavePool(record.key, known_from(facts, record))
        )
    if facts.ids is None:  # a pool that cannot be written to cannot report them
        reading = finding(facts, Reason.METADATA_MISMATCH, "reading the pool's thin ids").condition
        return _plan_unread(facts, record) or Plan(reading, needs_ids=True)
    if status.transaction_id == 0 and not facts.ids:
        return finding(facts, Reason.CONVERGED, "as desired").with_steps(
            SavePool(record.key, known_from(facts, record), empty=True)
        )
    message = (
        f"pool {facts.name} holds {len(facts.ids)} thin ids at transaction {status.transaction_id}, and this store "
        f"has never seen it: nothing is touched. `adopt: true` in the record takes it over; "
        f"`dm-reconciler doctor --fix --manifests DIR` shows what can be mended"
    )
    return finding(facts, Reason.METADATA_MISMATCH, message)


def _plan_unread(facts: PoolFacts, record: ThinPool) -> Plan | None:
    """What is wrong with a pool whose ids were not read yet. One whose creation has begun is ours, and may be grown."""
    if facts.known is not None and cause_of(facts) is Cause.METADATA_FULL:
        return plan_below(facts, record) or more_metadata(facts, record, shape_of(record))
    return plan_damage(facts)


def _lies_elsewhere(facts: PoolFacts, record: ThinPool, table: PoolTable) -> str:
    parts = (
        ("metadata", table.metadata, record.spec.metadata, facts.live.metadata.devno),
        ("data", table.data, record.spec.data, facts.live.data.devno),
    )
    moved = "; ".join(
        f"its {what} is {devno}, and {backing.path} leads to {now or 'no device that is in use'} now"
        for what, devno, backing, now in parts
        if backing is not None and devno != now
    )
    return (
        f"pool {facts.name} is live, but {moved}: a file was replaced, or a device moved. It goes on as it is, and is not "
        f"brought up like this again: put back what was there, or name in the record what the pool lies on"
    )


def plan_contradiction(facts: PoolFacts, record: ThinPool) -> Plan | None:
    """Reports what a record cannot change about an existing pool."""
    words = contradiction(facts, record)
    if words:
        return finding(facts, Reason.INVALID_CHANGE, f"{words}; put it back in the record, or make a new pool")
    table = read_table(facts.live.device.table) if facts.live.device else None
    if isinstance(table, PoolTable) and not lies_on_record(facts.live, table):
        return finding(facts, Reason.METADATA_MISMATCH, _lies_elsewhere(facts, record, table))
    known = renamed(facts, record)
    if known is not None:
        return finding(facts, Reason.CONVERGED, "the record names the same disks by other paths").with_steps(
            SavePool(record.key, known)
        )
    return None


def plan_below(facts: PoolFacts, record: ThinPool) -> Plan | None:
    """Reports a change in what the pool is on, which the pool itself does not report."""
    words = cut_off(facts.live)
    if words:
        message = (
            f"pool {facts.name} is live, but {words}. It is not grown, which would hide that: what its devices had beyond "
            f"is lost, unless a copy of the file is put back while the pool is down (`state: Inactive`)"
        )
        return finding(facts, Reason.METADATA_MISMATCH, message)
    paths = dict(zip(("data", "metadata"), (backing.path for backing in backings(record)), strict=True))
    for word, backing in read_only(facts.live):
        cure = how_to_write(paths[word], backing)
        message = (
            f"pool {facts.name} is live on {word} that is read-only, {paths[word]}: what is written to it fails. {cure}"
        )
        return finding(facts, Reason.POOL_UNHEALTHY, message)
    return None


def plan_note(facts: PoolFacts) -> Plan | None:
    """Notes what a live and healthy pool is on, so that it is recognised again."""
    noted = noted_now(facts)
    if noted is None or facts.known is None:
        return None
    return finding(facts, Reason.CONVERGED, "as desired").with_steps(
        SavePool(Key(facts.name), replace(facts.known, noted=noted))
    )
