"""A pool's device and metadata as they are: suspended, half made, unknown, damaged, or not what the record says.

A live pool that is unwell: each cause is told apart, and what is safe without a person is done.

The kernel says `ro` of several things. A pool whose metadata is full is whole, and goes on once that has room: its mode
changes as the longer metadata device is taken into use (observed on 6.1). So what grows a pool comes here too, and is
not kept back by what it mends. A pool with needs_check does not grow: the kernel refuses that until it is repaired.
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
    KnowPool,
    LoadPool,
    MakeWritable,
    PoolShape,
    RemovePool,
    Resume,
)
from reconciler.planner.facts import PoolCase
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
from reconciler.planner.pool_shape import backings, find, known_from, plan_size, pool_low, shape_of, whole_blocks


def plan_health(case: PoolCase, record: ThinPool, shape: PoolShape) -> Plan | None:
    """The rows of what is unwell, with what mends it where that is safe without a person."""
    status = case.live.status
    if status is None:
        return find(case, Reason.POOL_UNHEALTHY, f"pool {case.name} did not tell its status")
    cause = cause_of(case)
    if cause is Cause.READ_ONLY_TABLE:
        message = f"the table of pool {case.name} says read_only, and its record does not: nothing is wrong with it"
        return find(case, Reason.POOL_TABLE_WRONG, f"{message}, so it is loaded without").but(
            LoadPool(record.dm_name, shape)
        )
    if cause is Cause.METADATA_FULL:
        return more_metadata(case, record, shape)
    if cause is not None:
        return find(case, Reason.POOL_UNHEALTHY, words_of(case, cause))
    if isinstance(status, PoolStatus) and status.transaction_id not in expected_transactions(case):
        return _at_another_transaction(case, record, shape, status)
    return None


def more_metadata(case: PoolCase, record: ThinPool, shape: PoolShape) -> Plan:
    """Nothing is damaged: what its record, its device or `extend` gives it more is taken into use while it is up."""
    found = plan_size(case, record, shape, whole=True) or pool_low(case, record, shape)
    return found or find(case, Reason.POOL_UNHEALTHY, words_of(case, Cause.METADATA_FULL))


def _at_another_transaction(case: PoolCase, record: ThinPool, shape: PoolShape, status: PoolStatus) -> Plan:
    """Nothing is created or deleted. Room for what is written harms nobody, whoever has changed the pool."""
    expected = " or ".join(str(number) for number in sorted(expected_transactions(case)))
    message = (
        f"pool {case.name} is at transaction {status.transaction_id}, the store expects {expected}: somebody else "
        f"changed it, or the store is an old copy. Nothing is created or deleted until `dm-reconciler doctor --fix`"
    )
    growing = plan_size(case, record, shape) or pool_low(case, record, shape)
    if growing is None:
        return find(case, Reason.METADATA_MISMATCH, message)
    return find(case, Reason.METADATA_MISMATCH, f"{message}. Besides, {growing.condition.message}").but(*growing.steps)


def plan_damage(case: PoolCase) -> Plan | None:
    """A pool that only a person can bring back, with the words how; of one that the store does not know."""
    cause = cause_of(case)
    return None if cause is None else find(case, Reason.POOL_UNHEALTHY, words_of(case, cause))


def plan_device(case: PoolCase, shape: PoolShape) -> Plan | None:
    """The device itself: its tables and its suspension, each after its grace."""
    device = case.live.device
    if device is None:
        return None
    info = device.info
    if not info.live_table:
        # Loading a table here would let the kernel format metadata that has gone missing meanwhile. Without its
        # shell the pool is missing, and comes back with all the checks of that row.
        plan = find(case, Reason.TABLELESS_SHELL, f"pool {case.name} was created, and no table was loaded: removing it")
        return after_grace(case, Sign.NO_TABLE, plan.but(RemovePool(info.name, info.uuid)))
    if info.suspended:
        return _resume(case, device, shape)
    if info.inactive_table:
        plan = find(case, Reason.INACTIVE_TABLE_LEFT, f"a table waits in the inactive slot of pool {case.name}")
        return after_grace(case, Sign.INACTIVE_TABLE, plan.but(Clear(info.name)))
    if info.deferred_remove:
        plan = find(case, Reason.DEFERRED_REMOVE_PENDING, f"pool {case.name} is to vanish at its last close")
        return plan.but(CancelDeferredRemove(info.name))
    if info.read_only:  # a pool's table never is: it is the block layer's flag
        plan = find(case, Reason.POOL_TABLE_WRONG, f"the device of pool {case.name} is read-only")
        return plan.but(MakeWritable(info.name, None))
    return None


def _resume(case: PoolCase, device: LiveDevice, shape: PoolShape) -> Plan:
    info = device.info
    plan = find(case, Reason.POOL_SUSPENDED, f"pool {case.name} is suspended: all its devices are frozen with it")
    if _too_short(case, device):
        # A resume under a table that is too short fails, and leaves the pool suspended: load a good one first.
        return after_grace(case, Sign.SUSPENDED, plan.but(LoadPool(info.name, shape)))
    clear = (Clear(info.name),) if info.inactive_table else ()
    return after_grace(case, Sign.SUSPENDED, plan.but(*clear, Resume(info.name)))


def after_grace(case: PoolCase, sign: Sign, plan: Plan, length: float | None = None) -> Plan:
    left = case.grace.left(sign, length)
    if left <= 0:
        return plan
    message = f"{plan.condition.message}; it is left for {ceil(left)} s more, as somebody may be at work"
    return Plan(Condition(plan.reason, message, plan.condition.live), look_again=left)


def _too_short(case: PoolCase, device: LiveDevice) -> bool:
    table, known = read_table(device.table), case.known
    if known is None or not isinstance(table, PoolTable):
        return False
    return table.length < whole_blocks(known.data_size, table.block)


def plan_knowledge(case: PoolCase, record: ThinPool) -> Plan | None:
    """A live pool of ours that the store does not know, or knows only as begun."""
    status, known = case.live.status, case.known
    if not isinstance(status, PoolStatus) or (known is not None and known.created):
        return None
    if record.spec.adopt:
        return find(case, Reason.CONVERGED, "taken over").but(KnowPool(record.key, known_from(case, record)))
    if case.ids is None:  # a pool that cannot be written to cannot tell them
        reading = find(case, Reason.METADATA_MISMATCH, "reading the pool's thin ids").condition
        return _plan_unread(case, record) or Plan(reading, needs_ids=True)
    if status.transaction_id == 0 and not case.ids:
        return find(case, Reason.CONVERGED, "as desired").but(
            KnowPool(record.key, known_from(case, record), empty=True)
        )
    message = (
        f"pool {case.name} holds {len(case.ids)} thin ids at transaction {status.transaction_id}, and this store "
        f"has never seen it: nothing is touched. `adopt: true` in the record takes it over; "
        f"`dm-reconciler doctor --fix --manifests DIR` shows what can be mended"
    )
    return find(case, Reason.METADATA_MISMATCH, message)


def _plan_unread(case: PoolCase, record: ThinPool) -> Plan | None:
    """What is wrong with a pool whose ids nobody has read yet. One that was being made is ours, and may be grown."""
    if case.known is not None and cause_of(case) is Cause.METADATA_FULL:
        return plan_below(case, record) or more_metadata(case, record, shape_of(record))
    return plan_damage(case)


def _lies_elsewhere(case: PoolCase, record: ThinPool, table: PoolTable) -> str:
    parts = (
        ("metadata", table.metadata, record.spec.metadata, case.live.metadata.devno),
        ("data", table.data, record.spec.data, case.live.data.devno),
    )
    moved = "; ".join(
        f"its {what} is {devno}, and {backing.path} leads to {now or 'no device that is in use'} now"
        for what, devno, backing, now in parts
        if backing is not None and devno != now
    )
    return (
        f"pool {case.name} is live, but {moved}: a file was replaced, or a device moved. It goes on as it is, and is not "
        f"brought up like this again: put back what was there, or name in the record what the pool lies on"
    )


def plan_contradiction(case: PoolCase, record: ThinPool) -> Plan | None:
    """What a record cannot change about a pool that exists."""
    words = contradiction(case, record)
    if words:
        return find(case, Reason.INVALID_CHANGE, f"{words}; put it back in the record, or make a new pool")
    table = read_table(case.live.device.table) if case.live.device else None
    if isinstance(table, PoolTable) and not lies_on_record(case.live, table):
        return find(case, Reason.METADATA_MISMATCH, _lies_elsewhere(case, record, table))
    known = renamed(case, record)
    if known is not None:
        return find(case, Reason.CONVERGED, "the record names the same disks by other paths").but(
            KnowPool(record.key, known)
        )
    return None


def plan_below(case: PoolCase, record: ThinPool) -> Plan | None:
    """What the pool lies on has changed under it, which the pool itself does not tell."""
    words = cut_off(case.live)
    if words:
        message = (
            f"pool {case.name} is live, but {words}. It is not grown, which would hide that: what its devices had beyond "
            f"is lost, unless a copy of the file is put back while the pool is down (`state: Inactive`)"
        )
        return find(case, Reason.METADATA_MISMATCH, message)
    paths = dict(zip(("data", "metadata"), (backing.path for backing in backings(record)), strict=True))
    for word, backing in read_only(case.live):
        cure = how_to_write(paths[word], backing)
        message = (
            f"pool {case.name} is live on {word} that is read-only, {paths[word]}: what is written to it fails. {cure}"
        )
        return find(case, Reason.POOL_UNHEALTHY, message)
    return None


def plan_note(case: PoolCase) -> Plan | None:
    """What a live and healthy pool lies on is noted, so that it is known again."""
    noted = noted_now(case)
    if noted is None or case.known is None:
        return None
    return find(case, Reason.CONVERGED, "as desired").but(KnowPool(Key(case.name), replace(case.known, noted=noted)))
