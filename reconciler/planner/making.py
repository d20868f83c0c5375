"""Making a device: intent, create, scan, transaction id, filesystem, outcome; only then does the device get its public
name. See docs/reference/healing.md, "Making a device".

Unfinished intents: what a crash or a failed step has left half done is finished or undone. A deletion only goes
forward. A creation is finished only if the pool's transaction id proves that all of it happened; else it is undone and
begun again, because a half-made snapshot would be of an unknown moment.

An empty device must not take the place of one with data, and everything that makes a device passes the guard for that.
The store may know less than the pool holds: a pool or a device was forgotten, an older copy of the store was restored,
the state directory is new, or a pool was taken over. A record without a stored device may then have its data in a thin
id that nobody names. As long as there is such an id, nothing is made; the operator says whose each id is.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Final

from reconciler.model.conditions import Condition, Reason
from reconciler.model.dm_tables import Devno, PoolStatus, ThinStatus, ThinTable, read_table
from reconciler.model.live import ThinEntry, ThinIds
from reconciler.model.names import private_dm_name, private_uuid
from reconciler.model.records import DeviceState, ThinDevice
from reconciler.model.steps import (
    AbortIntent,
    Activate,
    BeginIntent,
    Clear,
    CompleteIntent,
    CreateSnapshot,
    CreateThin,
    DeleteThin,
    MakeFilesystem,
    MarkCreated,
    MarkThinIdTaken,
    Resume,
    SaveDevice,
    SetTransactionId,
    Step,
)
from reconciler.model.stored import Intent, IntentKind, StoredDevice, StoredPool
from reconciler.model.units import SECTOR, Sectors, format_size, sectors
from reconciler.planner.device_findings import external_of, finding, hangs, pool_devno, shows_thin, thin_target
from reconciler.planner.device_inactive import forward, remove_live
from reconciler.planner.facts import DeviceFacts, Origin
from reconciler.planner.ownership import owns_device
from reconciler.planner.plan import Plan

_SHOWN: Final = 12


def suspects_of(
    pool: StoredPool | None,
    ids: ThinIds,
    *,
    named: Container[int],
    left: Mapping[int, int | None],
    foreign: Container[int] = (),
) -> ThinIds:
    """The thin ids that may be the data of a device that the store does not know.

    `named` are the ids of devices, intents and adoptions. `left` are those that a device of this name had when it was
    forgotten, each with the transaction that created it, if known. `foreign` are those that the pool's record says are
    nobody's.
    """
    until = pool.taken_over_at if pool is not None else None
    if until is None and not left:
        return {}
    return {
        number: entry
        for number, entry in sorted(ids.items())
        if number not in named
        and number not in foreign
        and ((until is not None and entry.created_at <= until) or (number in left and _is_still(left[number], entry)))
    }


def _is_still(made_at: int | None, entry: ThinEntry) -> bool:
    return made_at is None or made_at == entry.created_at


def withheld(facts: DeviceFacts, record: ThinDevice) -> str | None:
    """Why the device is not made and what to do about it; None if it may be made."""
    pool = facts.key.pool
    if facts.suspects is None:
        return (
            f"{facts.key} is made only where no thin id of pool {pool} that nobody names may be its data: `apply` or the "
            f"daemon reads them first"
        )
    if not facts.suspects:
        return None
    first = next(iter(facts.suspects))
    return (
        f"{facts.key} is not made: it would be empty, and its data may be in a thin id of pool {pool} that no record "
        f"names: {told(facts.suspects, facts.pool_known.block if facts.pool_known is not None else Sectors(0))}. If one of "
        f"them is its data, add `adopt: {{deviceId: {first}, dmName: {record.dm_name}}}` (with its id) to its record; if one "
        f"is no record's data, add it to `foreignThins: [{first}]` in the record of pool {pool}"
    )


def told(ids: ThinIds, block: Sectors) -> str:
    """The ids for a message, each with its creating transaction if known, which shows the order of creation."""
    shown = [f"{number}{_figures(entry, block)}" for number, entry in ids.items()]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def _figures(entry: ThinEntry, block: Sectors) -> str:
    if entry == ThinEntry(0, 0):
        return ""
    return f" ({format_size(entry.mapped_blocks * block * SECTOR)}, of transaction {entry.created_at})"


def plan_making(facts: DeviceFacts, record: ThinDevice) -> Plan:
    """Plans a device that the store does not know."""
    plan = finding(facts, Reason.NOT_CREATED, f"{facts.key} does not exist yet: making it")
    if record.spec.adopt is not None:
        return _adopt(facts, record, plan)
    if facts.other_intent:
        return plan.blocked(
            Reason.WAITING_FOR_POOL, f"the operation under way on {facts.other_intent} has to end first"
        )
    if facts.access.no_room:
        return plan.blocked(Reason.WAITING_FOR_POOL, facts.access.no_room)
    if facts.ids is None:
        return Plan(plan.condition, needs_ids=True)
    why_not = withheld(facts, record)
    if why_not:
        return plan.blocked(Reason.METADATA_MISMATCH, why_not)
    if record.spec.snapshot_of is None:
        return plan.with_steps(*_steps(facts, record, _intent(facts, record), None))
    return _snapshot(facts, record, plan)


def _snapshot(facts: DeviceFacts, record: ThinDevice, plan: Plan) -> Plan:
    origin = facts.origin
    if origin is None or origin.known is None:
        message = f"{facts.key} is to be a snapshot of {record.spec.snapshot_of}, which does not exist (yet)"
        return plan.blocked(Reason.WAITING_FOR_ORIGIN, message)
    obstacle = _origin_obstacle(facts, origin)
    if obstacle:
        return plan.blocked(Reason.WAITING_FOR_ORIGIN, obstacle)
    if record.spec.size is not None and sectors(record.spec.size) < origin.known.size:
        message = f"{facts.key} has {sectors(record.spec.size)}s, less than its origin's {origin.known.size}s: a snapshot never shrinks"
        return plan.blocked(Reason.INVALID_CHANGE, message)
    return plan.with_steps(*_steps(facts, record, _intent(facts, record), origin))


def _origin_obstacle(facts: DeviceFacts, origin: Origin) -> str | None:
    """Why no snapshot of the origin can be taken now; None if one can."""
    if facts.ids is not None and origin.known is not None and origin.known.thin_id not in facts.ids:
        return f"the thin of {origin.name} is not in the pool"
    if origin.elsewhere:
        return (
            f"the thin of {origin.name} is also live as {', '.join(origin.elsewhere)}, which cannot be suspended safely"
        )
    if origin.live is None:
        return None
    if origin.live.info.suspended:
        return f"{origin.dm_name} is suspended, by somebody who is at work on it; waiting for its resume"
    if origin.live.info.inactive_table:
        return (
            f"a table waits in the inactive slot of {origin.dm_name}, and the resume after the snapshot would take it"
        )
    if origin.paused:
        return f"{origin.name} is paused by its record, so it is not suspended either: end that pause first"
    if origin.protected:
        return f"{origin.dm_name} carries what the daemon stands on: it is never suspended, so no snapshot of it while live"
    return None


def _intent(facts: DeviceFacts, record: ThinDevice) -> Intent:
    status, origin = facts.pool.status, facts.origin
    assert isinstance(status, PoolStatus)  # noqa: S101  # full access means that it answers
    size = sectors(record.spec.size) if record.spec.size is not None else Sectors(0)
    is_snapshot = record.spec.snapshot_of is not None and origin is not None and origin.known is not None
    if is_snapshot and record.spec.size is None and origin is not None and origin.known is not None:
        size = origin.known.size
    filesystem = record.spec.filesystem.type if record.spec.filesystem is not None else ""
    return Intent(
        key=facts.key,
        kind=IntentKind.SNAPSHOT if is_snapshot else IntentKind.CREATE,
        thin_id=facts.new_id,
        transaction_id=status.transaction_id,
        uuid=facts.new_uuid,
        dm_name=record.dm_name,
        size=size,
        origin=record.spec.snapshot_of or "",
        suspended=_to_suspend(facts, origin) if is_snapshot else "",
        filesystem=filesystem,
    )


def _to_suspend(facts: DeviceFacts, origin: Origin | None) -> str:
    """The dm name of the origin if it is live on its thin, else empty: a device that is not live needs no suspend."""
    if origin is None or origin.known is None or origin.live is None or not origin.live.info.live_table:
        return ""
    return origin.dm_name if shows_thin(origin.live, pool_devno(facts), origin.known.thin_id) else ""


def _steps(facts: DeviceFacts, record: ThinDevice, intent: Intent, origin: Origin | None) -> tuple[Step, ...]:
    pool = facts.key.pool
    steps: list[Step] = [BeginIntent(facts.key, intent)]
    if origin is not None and origin.known is not None:
        steps.append(CreateSnapshot(pool, intent.thin_id, origin.known.thin_id, intent.suspended))
        if intent.suspended:
            # The origin is resumed by now, so a later suspension is somebody else's.
            steps.append(MarkCreated(facts.key))
    else:
        steps.append(CreateThin(pool, intent.thin_id))
    steps.append(SetTransactionId(pool, intent.transaction_id))
    if intent.filesystem_to_make:
        steps += [MarkCreated(facts.key), _mkfs(facts, record, intent)]
    steps.append(CompleteIntent(facts.key, device_of(intent, record, origin)))
    lacks_origin = bool(_external(origin)) and _origins_external(facts, origin) is None
    if record.spec.state is DeviceState.ACTIVE and not lacks_origin:
        table = thin_target(facts, intent.thin_id, intent.size, _origins_external(facts, origin))
        steps.append(Activate(intent.dm_name, intent.uuid, table, read_only=record.spec.read_only))
    return tuple(steps)


def _mkfs(facts: DeviceFacts, record: ThinDevice, intent: Intent) -> MakeFilesystem:
    filesystem = record.spec.filesystem
    assert filesystem is not None  # noqa: S101  # the intent says that one is to be made
    return MakeFilesystem(
        private_dm_name(facts.key.pool, facts.key.device),
        private_uuid(intent.uuid),
        thin_target(facts, intent.thin_id, intent.size),
        type=filesystem.type,
        label=filesystem.label,
        block_size=filesystem.block_size,
        discard=filesystem.discard,
    )


def device_of(intent: Intent, record: ThinDevice, origin: Origin | None) -> StoredDevice:
    """What the store is to hold once the intent has completed."""
    return StoredDevice(
        key=intent.key,
        uuid=intent.uuid,
        dm_name=intent.dm_name,
        thin_id=intent.thin_id,
        size=intent.size,
        created_at=intent.transaction_id,
        active=record.spec.state is DeviceState.ACTIVE,
        committed=record.spec.state is DeviceState.COMMITTED,
        read_only=record.spec.read_only,
        filesystem=intent.filesystem,
        filesystem_size=_filesystem_size(intent, origin),
        origin=intent.origin,
        external=_external(origin) if intent.kind is IntentKind.SNAPSHOT else "",
    )


def _external(origin: Origin | None) -> str:
    """The external origin of a snapshot is that of its origin, which has the blocks that neither has written."""
    if origin is None or origin.known is None:
        return ""
    table = read_table(origin.live.table) if origin.live is not None else None
    seen = table.external if isinstance(table, ThinTable) and table.thin_id == origin.known.thin_id else None
    return origin.known.external if seen is None else str(seen)


def _origins_external(facts: DeviceFacts, origin: Origin | None) -> Devno | None:
    """The external origin in the live table of the origin."""
    if origin is None or origin.known is None:
        return None
    return external_of(origin.live, pool_devno(facts), origin.known.thin_id)


def _filesystem_size(intent: Intent, origin: Origin | None) -> Sectors:
    """The size of the filesystem. A snapshot has that of its origin, which may be smaller than either device."""
    if intent.kind is not IntentKind.SNAPSHOT:
        return intent.size
    if origin is None or origin.known is None:
        return Sectors(0)
    return min(intent.size, origin.known.filesystem_size)


def _adopt(facts: DeviceFacts, record: ThinDevice, plan: Plan) -> Plan:
    """Adopts a thin that exists, with the name and the UUID (or none) that it has."""
    adopt = record.spec.adopt
    assert adopt is not None  # noqa: S101  # the caller looked
    live = facts.live
    if facts.adopted_by:
        message = f"thin id {adopt.device_id} is {facts.adopted_by}'s already: a thin has one record"
        return plan.blocked(Reason.INVALID_CHANGE, message)
    if facts.other_intent:  # that intent may be about this very thin, if its create found it to be somebody else's
        return plan.blocked(
            Reason.WAITING_FOR_POOL, f"the operation under way on {facts.other_intent} has to end first"
        )
    # The ids of an external pool are not read, as that writes to its metadata. If the thin is missing, the load says
    # so.
    own = facts.pool_record is None or not facts.pool_record.spec.external
    if own and live is None and facts.ids is None:
        return Plan(plan.condition, needs_ids=True)
    if own and live is None and facts.ids is not None and adopt.device_id not in facts.ids:
        message = f"thin id {adopt.device_id}, which {facts.key} is to adopt, is not in the pool"
        return plan.blocked(Reason.METADATA_MISMATCH, message)
    size = live.length if live is not None else Sectors(0)
    if live is None and record.spec.size is not None:
        size = sectors(record.spec.size)
    if size == 0:
        message = f"{adopt.dm_name} is not active, so its size cannot be seen: add `size` to the record of {facts.key}"
        return plan.blocked(Reason.INVALID_CHANGE, message)
    known = StoredDevice(
        key=facts.key,
        uuid=live.info.uuid if live is not None else "",
        dm_name=adopt.dm_name,
        thin_id=adopt.device_id,
        size=size,
        active=live is not None and isinstance(live.status, ThinStatus),
        filesystem=record.spec.filesystem.type if record.spec.filesystem is not None else "",
        filesystem_size=size,
        adopted=True,
        external=_text(external_of(live, pool_devno(facts), adopt.device_id)),
    )
    return plan.with_steps(SaveDevice(facts.key, known))


def _text(external: Devno | None) -> str:
    return "" if external is None else str(external)


def plan_intent(facts: DeviceFacts, record: ThinDevice | None) -> Plan:
    intent = facts.intent
    assert intent is not None  # noqa: S101  # the caller looked
    if intent.kind is IntentKind.DELETE:
        return _delete(facts, intent, record)
    return _create(facts, intent, record)


def _transaction(facts: DeviceFacts) -> int:
    status = facts.pool.status
    assert isinstance(status, PoolStatus)  # noqa: S101  # full access means that it answers
    return status.transaction_id


def _delete(facts: DeviceFacts, intent: Intent, record: ThinDevice | None) -> Plan:
    plan = finding(facts, Reason.PRESENT_BUT_DESIRED_ABSENT, f"going on with the deletion of thin id {intent.thin_id}")
    if record is not None and record.spec.state is not DeviceState.ABSENT:
        message = f"the deletion of {facts.key} has begun and goes on; then it is made anew, empty"
        plan = Plan(Condition(Reason.INVALID_CHANGE, message, plan.condition.live))
    if facts.live is not None:
        return remove_live(facts, facts.live, plan)
    now = _transaction(facts)
    if now == intent.transaction_id:
        return plan.with_steps(*forward(facts, intent))
    if now != intent.transaction_id + 1:
        # The pool has moved on, so the deletion is begun again from its present transaction.
        return plan.with_steps(AbortIntent(facts.key, now))
    if facts.ids is None:
        return Plan(plan.condition, needs_ids=True)
    if intent.thin_id in facts.ids:
        return plan.with_steps(
            AbortIntent(facts.key, now)
        )  # somebody else changed the transaction; freeing the id would leak its thin
    return plan.with_steps(CompleteIntent(facts.key, None))


def _create(facts: DeviceFacts, intent: Intent, record: ThinDevice | None) -> Plan:
    message = f"the making of {facts.key} as thin id {intent.thin_id} was interrupted"
    plan = finding(facts, Reason.NOT_CREATED, message)
    if facts.ids is None:
        return Plan(plan.condition, needs_ids=True)
    if record is not None and _is_complete(facts, intent, record, facts.ids):
        return plan.with_steps(
            *_resume_origin(facts, intent), CompleteIntent(facts.key, device_of(intent, record, facts.origin))
        )
    return plan.with_steps(*_resume_origin(facts, intent), *_undo(facts, intent, facts.ids))


def _is_complete(facts: DeviceFacts, intent: Intent, record: ThinDevice, ids: ThinIds) -> bool:
    """Whether everything happened and is still wanted. After an interrupted mkfs there is nothing worth keeping."""
    if record.spec.state is DeviceState.ABSENT or intent.filesystem_to_make or facts.id_taken:
        return False
    return _transaction(facts) == intent.transaction_id + 1 and intent.thin_id in ids


def _undo(facts: DeviceFacts, intent: Intent, ids: ThinIds) -> tuple[Step, ...]:
    now = _transaction(facts)
    abandon = AbortIntent(facts.key, now)
    entry = ids.get(intent.thin_id)
    if entry is None or facts.id_taken:
        return (abandon,)
    empty = intent.kind is IntentKind.SNAPSHOT or intent.made or entry.mapped_blocks == 0
    if entry.created_at == intent.transaction_id and empty:
        return (DeleteThin(facts.key.pool, intent.thin_id, now), abandon)
    return (MarkThinIdTaken(facts.key, intent.thin_id), abandon)


def _resume_origin(facts: DeviceFacts, intent: Intent) -> tuple[Step, ...]:
    """Resumes the origin that the intent has suspended, at once, and even if the origin's record is paused.

    If the intent is marked as made, the origin was resumed before: then a suspension is somebody else's, and stays.

    The intent is ended after this, and with it the note of who suspended the origin, so that is first saved with the
    origin itself. If the resume fails, the origin's own plan repeats it, and the intent does not stand in its way.
    """
    origin = facts.origin
    if not intent.suspended or intent.made or origin is None:
        return ()
    if origin.known is None or origin.live is None or origin.known.frozen:
        return ()
    live, known = origin.live, origin.known
    if not hangs(live) or not owns_device(live, known, pool_devno(facts)):
        return ()
    clear = (Clear(live.info.name),) if live.info.inactive_table else ()
    frozen = SaveDevice(known.key, replace(known, frozen=True))
    return (frozen, *clear, Resume(live.info.name), SaveDevice(known.key, replace(known, frozen=False)))
