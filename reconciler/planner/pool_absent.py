"""Pools whose records are Inactive or Absent: taken down, and deleted only when provably empty."""

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
    Forget,
    KnowPool,
    RemovePool,
    Step,
    ZeroSuperblock,
)
from reconciler.model.stored import KnownPool
from reconciler.planner.facts import PoolCase
from reconciler.planner.plan import Plan
from reconciler.planner.pool_identity import noted_at_rest, noted_going_down
from reconciler.planner.pool_missing import plan_missing
from reconciler.planner.pool_shape import backings, find


def plan_inactive(case: PoolCase, record: ThinPool) -> Plan:
    """Down with the pool once nothing is above it."""
    held = _held(case)
    if held:
        return find(case, Reason.BUSY, f"pool {case.name} is to be inactive, and {held}")
    steps = _take_down(case, record)
    if not steps:
        return _at_rest(case, record)
    message = f"pool {case.name} is to be inactive: taking it down"
    return find(case, Reason.ACTIVE_BUT_DESIRED_INACTIVE, message).but(*steps)


def _at_rest(case: PoolCase, record: ThinPool) -> Plan:
    plan = find(case, Reason.CONVERGED, "as desired: inactive")
    noted = noted_at_rest(case, record)
    if noted is None or case.known is None:
        return plan
    return plan.but(KnowPool(record.key, replace(case.known, noted=noted)))


def _held(case: PoolCase) -> str:
    """What keeps the pool's device from being removed; empty if nothing does."""
    if case.live.device is None:
        return ""
    if case.devices_live:
        return f"still active on it: {', '.join(case.devices_live[:5])}"
    count = case.live.device.info.open_count
    return f"{count} opener(s) hold its device" if count else ""


def _take_down(case: PoolCase, record: ThinPool) -> tuple[Step, ...]:
    known = case.known
    remove: tuple[Step, ...] = ()
    if case.live.device is not None and known is not None:
        noted = noted_going_down(case)
        knows = () if noted is None else (KnowPool(record.key, noted),)
        remove = (
            *knows,
            RemovePool(record.dm_name, case.live.device.info.uuid),
        )
    if known is None:
        return remove
    return (*remove, *_detach(record, case.live.data, case.live.metadata))


def _detach(record: ThinPool, data: LiveBacking, metadata: LiveBacking) -> tuple[Step, ...]:
    """The loops on the pool's own files, but for those that somebody else uses."""
    pairs = zip(backings(record), (data, metadata), strict=True)
    return tuple(
        DetachLoop(wanted.file)
        for wanted, found in pairs
        if wanted.file is not None and len(found.loops) == 1 and not found.used_by
    )


def plan_gone(case: PoolCase, record: ThinPool) -> Plan:
    """Absent: delete the pool, but only an empty one, and of its files only those that the reconciler made."""
    known = case.known
    if known is None:
        return find(case, Reason.CONVERGED, "as desired: absent")
    if case.live.device is None and known.created and not _has_metadata(case):
        message = (
            f"the metadata of pool {case.name} is gone, so nobody can tell that it is empty; bring it back, or, if all "
            f"in it may be lost, `dm-reconciler forget pool {case.name}`"
        )
        return find(case, Reason.METADATA_MISMATCH, message)
    left = f"delete them first with `state: Absent` in their records, or see `dm-reconciler describe pool {case.name}`"
    if case.known_devices:
        return find(
            case, Reason.BUSY, f"pool {case.name} still has the devices {', '.join(case.known_devices[:5])}: {left}"
        )
    held = _held(case)
    if held:
        return find(case, Reason.BUSY, f"pool {case.name} is to be absent, and {held}: {left}")
    if case.live.device is not None:
        return _if_empty(case, record)
    if known.created:
        return plan_missing(case, record)
    found = case.live.metadata
    if found.superblock is Superblock.POOL and found.transaction_id != known.transaction_id:
        message = (
            f"the metadata of pool {case.name} holds another pool, at transaction {found.transaction_id}: it is left "
            f"alone. `dm-reconciler forget pool {case.name}` ends the deletion"
        )
        return find(case, Reason.METADATA_MISMATCH, message)
    if found.used_by:
        message = f"the metadata of pool {case.name}, {known.metadata}, is in use by {', '.join(found.used_by)}"
        return find(case, Reason.CONFLICT, f"{message}: it is left alone until that use ends")
    return _destroy(case, record)


def _has_metadata(case: PoolCase) -> bool:
    return case.live.metadata.kind is not PathKind.MISSING and case.live.metadata.superblock is not Superblock.ZERO


def _if_empty(case: PoolCase, record: ThinPool) -> Plan:
    if case.ids is None:
        return Plan(
            find(case, Reason.PRESENT_BUT_DESIRED_ABSENT, "reading the pool's thin ids").condition, needs_ids=True
        )
    if case.ids:
        ids = ", ".join(str(number) for number in sorted(case.ids)[:20])
        message = f"pool {case.name} still holds the thin ids {ids}: it is deleted only when it is empty"
        return find(case, Reason.BUSY, message)
    status = case.live.status
    if isinstance(status, PoolStatus) and status.data_used:
        # Ids that were read before somebody made another one; or blocks that nothing refers to.
        node = case.known.metadata if case.known is not None else "METADATA"
        message = (
            f"pool {case.name} shows no thin id, and yet {status.data_used} blocks of data are in use. If they have leaked, "
            f"as where a disk failed, `state: Inactive` and `thin_check --auto-repair {node}` free them; then it is deleted"
        )
        return find(case, Reason.BUSY, message)
    return _destroy(case, record)


def _destroy(case: PoolCase, record: ThinPool) -> Plan:
    """That it may go is flushed first, so that a crash on the way does not leave a known pool without metadata."""
    known = case.known
    assert known is not None  # noqa: S101  # the caller looked
    steps: list[Step] = []
    if known.created:
        if case.live.device is not None and case.live.device.info.live_table:
            steps.append(ConfirmEmpty(record.dm_name))
        steps.append(KnowPool(record.key, replace(known, created=False)))
    if case.live.device is not None:
        steps.append(RemovePool(record.dm_name, case.live.device.info.uuid))
    if case.live.device is not None or case.live.metadata.superblock is Superblock.POOL:
        steps.append(ZeroSuperblock(known.metadata))
    steps += _detach(record, case.live.data, case.live.metadata)
    steps += _delete_files(case, known, backings(record))
    steps.append(Forget(record.key))
    message = f"pool {case.name} is to be absent and is empty: deleting it"
    return find(case, Reason.PRESENT_BUT_DESIRED_ABSENT, message).but(*steps)


def _delete_files(case: PoolCase, known: KnownPool, wanted: tuple[Backing, Backing]) -> list[Step]:
    """What the reconciler made: also a file that the record named once, and does not any more."""
    kinds = dict(zip((backing.path for backing in wanted), (case.live.data.kind, case.live.metadata.kind), strict=True))
    steps: list[Step] = []
    for path in known.made_files:
        if path not in kinds:
            steps += [DetachLoop(path), DeleteFile(path)]
        elif kinds[path] is not PathKind.MISSING:
            steps.append(DeleteFile(path))
    return steps
