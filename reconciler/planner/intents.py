"""Unfinished intents: what a crash, or a step that failed, has left half done is finished or undone.

A deletion only goes forward. A creation is finished only if the pool's transaction id says that all of it happened;
else it is undone, and begun again: a half-taken snapshot is of an unknown moment.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.condition import Condition, Reason
from reconciler.model.knowledge import Intent, IntentKind
from reconciler.model.records import DeviceState, ThinDevice
from reconciler.model.status import PoolStatus
from reconciler.model.steps import Abandon, DeleteThin, Finish, KnowDevice, NoteTaken, Step
from reconciler.planner.cases import DeviceCase
from reconciler.planner.device_absent import forward
from reconciler.planner.device_inactive import remove_live
from reconciler.planner.device_words import find
from reconciler.planner.making import device_of
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
    if _transaction(case) == intent.transaction_id + 1:
        return plan.but(Finish(case.key, None))
    return plan.but(*forward(case, intent))


def _create(case: DeviceCase, intent: Intent, record: ThinDevice | None) -> Plan:
    message = f"the making of {case.key} as thin id {intent.thin_id} was interrupted"
    plan = find(case, Reason.NOT_CREATED, message)
    wanted = record is not None and record.spec.state is not DeviceState.ABSENT
    complete = _transaction(case) == intent.transaction_id + 1 and not intent.filesystem_to_make
    if wanted and complete and record is not None:
        return plan.but(*_unfreeze_later(case, intent), Finish(case.key, device_of(intent, record)))
    if case.ids is None:
        return Plan(plan.condition, needs_ids=True)
    return plan.but(*_unfreeze_later(case, intent), *_undo(case, intent))


def _undo(case: DeviceCase, intent: Intent) -> tuple[Step, ...]:
    abandon = Abandon(case.key, _transaction(case))
    entry = case.ids.get(intent.thin_id) if case.ids is not None else None
    if entry is None:
        return (abandon,)
    empty = intent.kind is IntentKind.SNAPSHOT or intent.made or entry.mapped_blocks == 0
    if entry.created_at == intent.transaction_id and empty:
        return (DeleteThin(case.key.pool, intent.thin_id, _transaction(case)), abandon)
    return (NoteTaken(case.key, intent.thin_id), abandon)


def _unfreeze_later(case: DeviceCase, intent: Intent) -> tuple[Step, ...]:
    """The intent goes, and with it the memory of who suspended the origin: hand that to the origin's own record."""
    origin = case.origin
    if not intent.suspended or origin is None or origin.known is None or origin.known.frozen:
        return ()
    if origin.live is None or not origin.live.info.suspended:
        return ()
    return (KnowDevice(origin.known.key, replace(origin.known, frozen=True)),)
