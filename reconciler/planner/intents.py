"""Unfinished intents: what a crash, or a step that failed, has left half done is finished or undone.

A deletion only goes forward. A creation is finished only if the pool's transaction id says that all of it happened;
else it is undone, and begun again: a half-taken snapshot is of an unknown moment.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.conditions import Condition, Reason
from reconciler.model.dm_tables import PoolStatus
from reconciler.model.live import ThinIds
from reconciler.model.records import DeviceState, ThinDevice
from reconciler.model.steps import Abandon, Clear, DeleteThin, Finish, KnowDevice, NoteTaken, Resume, Step
from reconciler.model.stored import Intent, IntentKind
from reconciler.planner.device_absent import forward
from reconciler.planner.device_findings import find, hangs, pool_devno
from reconciler.planner.device_inactive import remove_live
from reconciler.planner.facts import DeviceCase
from reconciler.planner.making import device_of
from reconciler.planner.ownership import owns_device
from reconciler.planner.plan import Plan


def plan_intent(case: DeviceCase, record: ThinDevice | None) -> Plan:
    intent = case.intent
    assert intent is not None  # noqa: S101  # the caller looked
    if intent.kind is IntentKind.DELETE:
        return _delete(case, intent, record)
    return _create(case, intent, record)


def _transaction(case: DeviceCase) -> int:
    status = case.pool.status
    assert isinstance(status, PoolStatus)  # noqa: S101  # full access means that it answers
    return status.transaction_id


def _delete(case: DeviceCase, intent: Intent, record: ThinDevice | None) -> Plan:
    plan = find(case, Reason.PRESENT_BUT_DESIRED_ABSENT, f"going on with the deletion of thin id {intent.thin_id}")
    if record is not None and record.spec.state is not DeviceState.ABSENT:
        message = f"the deletion of {case.key} has begun and goes on; then it is made anew, empty"
        plan = Plan(Condition(Reason.INVALID_CHANGE, message, plan.condition.live))
    if case.live is not None:
        return remove_live(case, case.live, plan)
    now = _transaction(case)
    if now == intent.transaction_id:
        return plan.but(*forward(case, intent))
    if now != intent.transaction_id + 1:
        return plan.but(Abandon(case.key, now))  # the pool has moved on: it is begun again from where it is
    if case.ids is None:
        return Plan(plan.condition, needs_ids=True)
    if intent.thin_id in case.ids:
        return plan.but(Abandon(case.key, now))  # somebody else moved the pool on: freeing the id would leak its thin
    return plan.but(Finish(case.key, None))


def _create(case: DeviceCase, intent: Intent, record: ThinDevice | None) -> Plan:
    message = f"the making of {case.key} as thin id {intent.thin_id} was interrupted"
    plan = find(case, Reason.NOT_CREATED, message)
    if case.ids is None:
        return Plan(plan.condition, needs_ids=True)
    if record is not None and _is_complete(case, intent, record, case.ids):
        return plan.but(*_let_origin_go(case, intent), Finish(case.key, device_of(intent, record, case.origin)))
    return plan.but(*_let_origin_go(case, intent), *_undo(case, intent, case.ids))


def _is_complete(case: DeviceCase, intent: Intent, record: ThinDevice, ids: ThinIds) -> bool:
    """All of it happened, and it is still wanted. An interrupted mkfs leaves nothing worth keeping."""
    if record.spec.state is DeviceState.ABSENT or intent.filesystem_to_make or case.id_taken:
        return False
    return _transaction(case) == intent.transaction_id + 1 and intent.thin_id in ids


def _undo(case: DeviceCase, intent: Intent, ids: ThinIds) -> tuple[Step, ...]:
    now = _transaction(case)
    abandon = Abandon(case.key, now)
    entry = ids.get(intent.thin_id)
    if entry is None or case.id_taken:
        return (abandon,)
    empty = intent.kind is IntentKind.SNAPSHOT or intent.made or entry.mapped_blocks == 0
    if entry.created_at == intent.transaction_id and empty:
        return (DeleteThin(case.key.pool, intent.thin_id, now), abandon)
    return (NoteTaken(case.key, intent.thin_id), abandon)


def _let_origin_go(case: DeviceCase, intent: Intent) -> tuple[Step, ...]:
    """Resume at once what the intent says that it suspended, whatever its own record says (it may be paused).

    Not if the snapshot was seen to have ended, and the origin to run again: then it is somebody else's freeze.

    The intent goes, and with it the memory of who suspended the origin: that is handed to what is known of the origin
    first. If the resume fails, the origin's own row goes on with it, and this intent is not in its way.
    """
    origin = case.origin
    if not intent.suspended or intent.made or origin is None:
        return ()
    if origin.known is None or origin.live is None or origin.known.frozen:
        return ()
    live, known = origin.live, origin.known
    if not hangs(live) or not owns_device(live, known, pool_devno(case)):
        return ()
    clear = (Clear(live.info.name),) if live.info.inactive_table else ()
    frozen = KnowDevice(known.key, replace(known, frozen=True))
    return (frozen, *clear, Resume(live.info.name), KnowDevice(known.key, replace(known, frozen=False)))
