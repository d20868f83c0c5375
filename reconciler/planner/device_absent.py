"""Devices whose records are Absent: no device, no thin id, no data."""

from __future__ import annotations

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolStatus
from reconciler.model.names import private_dm_name, private_uuid
from reconciler.model.records import ThinDevice
from reconciler.model.steps import Begin, DeleteThin, DiscardThin, Finish, SetTransactionId, Step
from reconciler.model.stored import Intent, IntentKind, KnownDevice
from reconciler.planner.device_findings import converged, find, thin_target
from reconciler.planner.device_inactive import take_down
from reconciler.planner.facts import DeviceCase
from reconciler.planner.plan import Plan


def plan_absent(case: DeviceCase, record: ThinDevice) -> Plan:
    if case.live is not None:
        return take_down(case, case.live, record)
    if case.known is None:
        return converged(case, "as desired: absent")
    plan = find(
        case, Reason.PRESENT_BUT_DESIRED_ABSENT, f"{case.key} is to be absent: deleting thin id {case.known.thin_id}"
    )
    return delete(case, case.known, plan, discard=record.spec.discard_on_delete)


def delete(case: DeviceCase, known: KnownDevice, plan: Plan, *, discard: bool) -> Plan:
    """Delete a thin of a healthy pool, with the intent flushed first."""
    if case.other_intent:
        return plan.under(Reason.WAITING_FOR_POOL, f"the operation under way on {case.other_intent} has to end first")
    status = case.pool.status
    assert isinstance(status, PoolStatus)  # noqa: S101  # full access means that it answers
    intent = Intent(
        key=case.key,
        kind=IntentKind.DELETE,
        thin_id=known.thin_id,
        transaction_id=status.transaction_id,
        uuid=known.uuid,
        dm_name=known.dm_name,
        size=known.size,
    )
    steps: list[Step] = [Begin(case.key, intent)]
    if discard and not known.external:
        name = private_dm_name(case.key.pool, case.key.device)
        # An adopted device's UUID is its maker's, and would not show that the private one is the reconciler's.
        uuid = private_uuid(case.new_uuid if known.adopted else known.uuid)
        steps.append(DiscardThin(name, uuid, thin_target(case, known.thin_id, known.size)))
    return plan.but(*steps, *forward(case, intent))


def forward(case: DeviceCase, intent: Intent) -> tuple[Step, ...]:
    """The rest of a deletion, whose intent is flushed."""
    return (
        DeleteThin(case.key.pool, intent.thin_id, intent.transaction_id),
        SetTransactionId(case.key.pool, intent.transaction_id),
        Finish(case.key, None),
    )
