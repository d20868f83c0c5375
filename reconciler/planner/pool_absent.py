"""Pools whose records are Inactive or Absent: taken down, and deleted only if they are provably empty."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolStatus
from reconciler.model.live import LiveBacking, PathKind, Superblock
from reconciler.model.records import Backing, ThinPool
from reconciler.model.steps import (
    ConfirmEmpty,
    DeleteFile,
    DetachLoop,
    ForgetRecord,
    RemovePool,
    SavePool,
    Step,
    ZeroSuperblock,
)
from reconciler.model.stored import StoredPool
from reconciler.planner.facts import PoolFacts
from reconciler.planner.plan import Plan
from reconciler.planner.pool_identity import noted_at_rest, noted_going_down
from reconciler.planner.pool_missing import plan_missing
from reconciler.planner.pool_shape import backings, finding


def plan_inactive(facts: PoolFacts, record: ThinPool) -> Plan:
    """Takes the pool down once nothing is above it."""
    held = _held(facts)
    if held:
        return finding(facts, Reason.BUSY, f"pool {facts.name} is to be inactive, and {held}")
    steps = _take_down(facts, record)
    if not steps:
        return _at_rest(facts, record)
    message = f"pool {facts.name} is to be inactive: taking it down"
    return finding(facts, Reason.ACTIVE_BUT_DESIRED_INACTIVE, message).with_steps(*steps)


def _at_rest(facts: PoolFacts, record: ThinPool) -> Plan:
    plan = finding(facts, Reason.CONVERGED, "as desired: inactive")
    noted = noted_at_rest(facts, record)
    if noted is None or facts.known is None:
        return plan
    return plan.with_steps(SavePool(record.key, replace(facts.known, noted=noted)))


def _held(facts: PoolFacts) -> str | None:
    """What keeps the pool's device from being removed; None if nothing does."""
    if facts.live.device is None:
        return None
    if facts.devices_live:
        return f"still active on it: {', '.join(facts.devices_live[:5])}"
    count = facts.live.device.info.open_count
    return f"{count} opener(s) hold its device" if count else None


def _take_down(facts: PoolFacts, record: ThinPool) -> tuple[Step, ...]:
    known = facts.known
    remove: tuple[Step, ...] = ()
    if facts.live.device is not None and known is not None:
        noted = noted_going_down(facts)
        knows = () if noted is None else (SavePool(record.key, noted),)
        remove = (
            *knows,
            RemovePool(record.dm_name, facts.live.device.info.uuid),
        )
    if known is None:
        return remove
    return (*remove, *_detach(record, facts.live.data, facts.live.metadata))


def _detach(record: ThinPool, data: LiveBacking, metadata: LiveBacking) -> tuple[Step, ...]:
    """Detaches the loops on the pool's own files, except those that somebody else uses."""
    pairs = zip(backings(record), (data, metadata), strict=True)
    return tuple(
        DetachLoop(wanted.file)
        for wanted, found in pairs
        if wanted.file is not None and len(found.loops) == 1 and not found.used_by
    )


def plan_gone(facts: PoolFacts, record: ThinPool) -> Plan:
    """Plans an Absent pool that is down: only an empty pool is deleted, and only files that the reconciler made."""
    known = facts.known
    if known is None:
        return finding(facts, Reason.CONVERGED, "as desired: absent")
    if facts.live.device is None and known.created and not _has_metadata(facts):
        message = (
            f"the metadata of pool {facts.name} is gone, so nobody can tell that it is empty; bring it back, or, if all "
            f"in it may be lost, `dm-reconciler forget pool {facts.name}`"
        )
        return finding(facts, Reason.METADATA_MISMATCH, message)
    left = f"delete them first with `state: Absent` in their records, or see `dm-reconciler describe pool {facts.name}`"
    if facts.known_devices:
        return finding(
            facts, Reason.BUSY, f"pool {facts.name} still has the devices {', '.join(facts.known_devices[:5])}: {left}"
        )
    held = _held(facts)
    if held:
        return finding(facts, Reason.BUSY, f"pool {facts.name} is to be absent, and {held}: {left}")
    if facts.live.device is not None:
        return _if_empty(facts, record)
    if known.created:
        return plan_missing(facts, record)
    found = facts.live.metadata
    if found.superblock is Superblock.POOL and found.transaction_id != known.transaction_id:
        message = (
            f"the metadata of pool {facts.name} holds another pool, at transaction {found.transaction_id}: it is left "
            f"alone. `dm-reconciler forget pool {facts.name}` ends the deletion"
        )
        return finding(facts, Reason.METADATA_MISMATCH, message)
    if found.used_by:
        message = f"the metadata of pool {facts.name}, {known.metadata}, is in use by {', '.join(found.used_by)}"
        return finding(facts, Reason.CONFLICT, f"{message}: it is left alone until that use ends")
    return _destroy(facts, record)


def _has_metadata(facts: PoolFacts) -> bool:
    return facts.live.metadata.kind is not PathKind.MISSING and facts.live.metadata.superblock is not Superblock.ZERO


def _if_empty(facts: PoolFacts, record: ThinPool) -> Plan:
    if facts.ids is None:
        return Plan(
            finding(facts, Reason.PRESENT_BUT_DESIRED_ABSENT, "reading the pool's thin ids").condition, needs_ids=True
        )
    if facts.ids:
        ids = ", ".join(str(number) for number in sorted(facts.ids)[:20])
        message = f"pool {facts.name} still holds the thin ids {ids}: it is deleted only when it is empty"
        return finding(facts, Reason.BUSY, message)
    status = facts.live.status
    if isinstance(status, PoolStatus) and status.data_used:
        # Either the ids were read before somebody made another thin, or nothing refers to the blocks in use.
        node = facts.known.metadata if facts.known is not None else "METADATA"
        message = (
            f"pool {facts.name} shows no thin id, and yet {status.data_used} blocks of data are in use. If they have leaked, "
            f"as where a disk failed, `state: Inactive` and `thin_check --auto-repair {node}` free them; then it is deleted"
        )
        return finding(facts, Reason.BUSY, message)
    return _destroy(facts, record)


def _destroy(facts: PoolFacts, record: ThinPool) -> Plan:
    """Destroys the pool. This is flushed first, so that a crash never leaves a stored pool without its metadata."""
    known = facts.known
    assert known is not None  # noqa: S101  # the caller looked
    steps: list[Step] = []
    if known.created:
        if facts.live.device is not None and facts.live.device.info.live_table:
            steps.append(ConfirmEmpty(record.dm_name))
        steps.append(SavePool(record.key, replace(known, created=False)))
    if facts.live.device is not None:
        steps.append(RemovePool(record.dm_name, facts.live.device.info.uuid))
    if facts.live.device is not None or facts.live.metadata.superblock is Superblock.POOL:
        steps.append(ZeroSuperblock(known.metadata))
    steps += _detach(record, facts.live.data, facts.live.metadata)
    steps += _delete_files(facts, known, backings(record))
    steps.append(ForgetRecord(record.key))
    message = f"pool {facts.name} is to be absent and is empty: deleting it"
    return finding(facts, Reason.PRESENT_BUT_DESIRED_ABSENT, message).with_steps(*steps)


def _delete_files(facts: PoolFacts, known: StoredPool, wanted: tuple[Backing, Backing]) -> list[Step]:
    """Deletes the files that the reconciler made, also one that only an earlier version of the record named."""
    kinds = dict(
        zip((backing.path for backing in wanted), (facts.live.data.kind, facts.live.metadata.kind), strict=True)
    )
    steps: list[Step] = []
    for path in known.made_files:
        if path not in kinds:
            steps += [DetachLoop(path), DeleteFile(path)]
        elif kinds[path] is not PathKind.MISSING:
            steps.append(DeleteFile(path))
    return steps
