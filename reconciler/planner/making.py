"""Making a device: intent, create, look, transaction id, filesystem, outcome; only then is it published.

docs/reference/healing.md, "Making a device".
"""

from __future__ import annotations

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import Devno, PoolStatus, ThinStatus, ThinTable, read_table
from reconciler.model.names import private_dm_name, private_uuid
from reconciler.model.records import DeviceState, ThinDevice
from reconciler.model.steps import (
    Activate,
    Begin,
    CreateSnapshot,
    CreateThin,
    Finish,
    KnowDevice,
    MakeFilesystem,
    NoteMade,
    SetTransactionId,
    Step,
)
from reconciler.model.stored import Intent, IntentKind, KnownDevice
from reconciler.model.units import Sectors, sectors
from reconciler.planner.device_findings import external_of, find, pool_devno, shows_thin, thin_target
from reconciler.planner.facts import DeviceCase, Origin
from reconciler.planner.plan import Plan
from reconciler.planner.suspects import held_back


def plan_making(case: DeviceCase, record: ThinDevice) -> Plan:
    """A device that the store does not know."""
    plan = find(case, Reason.NOT_CREATED, f"{case.key} does not exist yet: making it")
    if record.spec.adopt is not None:
        return _adopt(case, record, plan)
    if case.other_intent:
        return plan.under(Reason.WAITING_FOR_POOL, f"the operation under way on {case.other_intent} has to end first")
    if case.access.no_room:
        return plan.under(Reason.WAITING_FOR_POOL, case.access.no_room)
    if case.ids is None:
        return Plan(plan.condition, needs_ids=True)
    why_not = held_back(case, record)
    if why_not:
        return plan.under(Reason.METADATA_MISMATCH, why_not)
    if record.spec.snapshot_of is None:
        return plan.but(*_steps(case, record, _intent(case, record), None))
    return _snapshot(case, record, plan)


def _snapshot(case: DeviceCase, record: ThinDevice, plan: Plan) -> Plan:
    origin = case.origin
    if origin is None or origin.known is None:
        message = f"{case.key} is to be a snapshot of {record.spec.snapshot_of}, which does not exist (yet)"
        return plan.under(Reason.WAITING_FOR_ORIGIN, message)
    obstacle = _origin_obstacle(case, origin)
    if obstacle:
        return plan.under(Reason.WAITING_FOR_ORIGIN, obstacle)
    if record.spec.size is not None and sectors(record.spec.size) < origin.known.size:
        message = f"{case.key} has {sectors(record.spec.size)}s, less than its origin's {origin.known.size}s: a snapshot never shrinks"
        return plan.under(Reason.INVALID_CHANGE, message)
    return plan.but(*_steps(case, record, _intent(case, record), origin))


def _origin_obstacle(case: DeviceCase, origin: Origin) -> str:
    """Why no snapshot of the origin can be taken now; empty if one can."""
    if case.ids is not None and origin.known is not None and origin.known.thin_id not in case.ids:
        return f"the thin of {origin.name} is not in the pool"
    if origin.elsewhere:
        return (
            f"the thin of {origin.name} is also live as {', '.join(origin.elsewhere)}, which cannot be suspended safely"
        )
    if origin.live is None:
        return ""
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
    return ""


def _intent(case: DeviceCase, record: ThinDevice) -> Intent:
    status, origin = case.pool.status, case.origin
    assert isinstance(status, PoolStatus)  # noqa: S101  # full access means that it answers
    size = sectors(record.spec.size) if record.spec.size is not None else Sectors(0)
    is_snapshot = record.spec.snapshot_of is not None and origin is not None and origin.known is not None
    if is_snapshot and record.spec.size is None and origin is not None and origin.known is not None:
        size = origin.known.size
    filesystem = record.spec.filesystem.type if record.spec.filesystem is not None else ""
    return Intent(
        key=case.key,
        kind=IntentKind.SNAPSHOT if is_snapshot else IntentKind.CREATE,
        thin_id=case.new_id,
        transaction_id=status.transaction_id,
        uuid=case.new_uuid,
        dm_name=record.dm_name,
        size=size,
        origin=record.spec.snapshot_of or "",
        suspended=_to_suspend(case, origin) if is_snapshot else "",
        filesystem=filesystem,
    )


def _to_suspend(case: DeviceCase, origin: Origin | None) -> str:
    """The origin's dm name where it is live and shows the origin's thin; one that is not live needs no suspend."""
    if origin is None or origin.known is None or origin.live is None or not origin.live.info.live_table:
        return ""
    return origin.dm_name if shows_thin(origin.live, pool_devno(case), origin.known.thin_id) else ""


def _steps(case: DeviceCase, record: ThinDevice, intent: Intent, origin: Origin | None) -> tuple[Step, ...]:
    pool = case.key.pool
    steps: list[Step] = [Begin(case.key, intent)]
    if origin is not None and origin.known is not None:
        steps.append(CreateSnapshot(pool, intent.thin_id, origin.known.thin_id, intent.suspended))
        if intent.suspended:
            steps.append(NoteMade(case.key))  # the origin runs again: who suspends it from now on is somebody else
    else:
        steps.append(CreateThin(pool, intent.thin_id))
    steps.append(SetTransactionId(pool, intent.transaction_id))
    if intent.filesystem_to_make:
        steps += [NoteMade(case.key), _mkfs(case, record, intent)]
    steps.append(Finish(case.key, device_of(intent, record, origin)))
    lacks_origin = bool(_external(origin)) and _origins_external(case, origin) is None
    if record.spec.state is DeviceState.ACTIVE and not lacks_origin:
        table = thin_target(case, intent.thin_id, intent.size, _origins_external(case, origin))
        steps.append(Activate(intent.dm_name, intent.uuid, table, read_only=record.spec.read_only))
    return tuple(steps)


def _mkfs(case: DeviceCase, record: ThinDevice, intent: Intent) -> MakeFilesystem:
    filesystem = record.spec.filesystem
    assert filesystem is not None  # noqa: S101  # the intent says that one is to be made
    return MakeFilesystem(
        private_dm_name(case.key.pool, case.key.device),
        private_uuid(intent.uuid),
        thin_target(case, intent.thin_id, intent.size),
        type=filesystem.type,
        label=filesystem.label,
        block_size=filesystem.block_size,
        discard=filesystem.discard,
    )


def device_of(intent: Intent, record: ThinDevice, origin: Origin | None) -> KnownDevice:
    """What the store is to know once the intent has come true."""
    return KnownDevice(
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
    """A snapshot has the external origin of its origin: the blocks that neither has written are there."""
    if origin is None or origin.known is None:
        return ""
    table = read_table(origin.live.table) if origin.live is not None else None
    seen = table.external if isinstance(table, ThinTable) and table.thin_id == origin.known.thin_id else None
    return origin.known.external if seen is None else str(seen)


def _origins_external(case: DeviceCase, origin: Origin | None) -> Devno | None:
    """As the live origin shows it now."""
    if origin is None or origin.known is None:
        return None
    return external_of(origin.live, pool_devno(case), origin.known.thin_id)


def _filesystem_size(intent: Intent, origin: Origin | None) -> Sectors:
    """A snapshot has its origin's filesystem on it, which may be smaller than the snapshot, or than the origin."""
    if intent.kind is not IntentKind.SNAPSHOT:
        return intent.size
    if origin is None or origin.known is None:
        return Sectors(0)
    return min(intent.size, origin.known.filesystem_size)


def _adopt(case: DeviceCase, record: ThinDevice, plan: Plan) -> Plan:
    """Take over a thin that exists, with the name and the UUID (or none) that it has."""
    adopt = record.spec.adopt
    assert adopt is not None  # noqa: S101  # the caller looked
    live = case.live
    if case.adopted_by:
        message = f"thin id {adopt.device_id} is {case.adopted_by}'s already: a thin has one record"
        return plan.under(Reason.INVALID_CHANGE, message)
    if case.other_intent:  # it may be about this very thin, found to be somebody else's
        return plan.under(Reason.WAITING_FOR_POOL, f"the operation under way on {case.other_intent} has to end first")
    # Of a pool of somebody else's the ids are not read, as that writes to it: a load tells that the thin is missing.
    own = case.pool_record is None or not case.pool_record.spec.external
    if own and live is None and case.ids is None:
        return Plan(plan.condition, needs_ids=True)
    if own and live is None and case.ids is not None and adopt.device_id not in case.ids:
        message = f"thin id {adopt.device_id}, which {case.key} is to adopt, is not in the pool"
        return plan.under(Reason.METADATA_MISMATCH, message)
    size = live.length if live is not None else Sectors(0)
    if live is None and record.spec.size is not None:
        size = sectors(record.spec.size)
    if size == 0:
        message = f"{adopt.dm_name} is not active, so its size cannot be seen: add `size` to the record of {case.key}"
        return plan.under(Reason.INVALID_CHANGE, message)
    known = KnownDevice(
        key=case.key,
        uuid=live.info.uuid if live is not None else "",
        dm_name=adopt.dm_name,
        thin_id=adopt.device_id,
        size=size,
        active=live is not None and isinstance(live.status, ThinStatus),
        filesystem=record.spec.filesystem.type if record.spec.filesystem is not None else "",
        filesystem_size=size,
        adopted=True,
        external=_text(external_of(live, pool_devno(case), adopt.device_id)),
    )
    return plan.but(KnowDevice(case.key, known))


def _text(external: Devno | None) -> str:
    return "" if external is None else str(external)
