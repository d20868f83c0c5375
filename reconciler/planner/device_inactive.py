"""Devices whose records ask for no live device: Inactive and Committed keep the thin, Absent deletes it."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolStatus
from reconciler.model.live import LiveDevice
from reconciler.model.names import private_dm_name, private_uuid
from reconciler.model.records import DeviceState, ThinDevice
from reconciler.model.steps import (
    BeginIntent,
    CompleteIntent,
    DeleteThin,
    DiscardThin,
    Remove,
    SaveDevice,
    SetTransactionId,
    Step,
)
from reconciler.model.stored import Intent, IntentKind, StoredDevice
from reconciler.model.units import sectors
from reconciler.planner.device_findings import (
    after_grace,
    after_suspension,
    converged,
    external_of,
    finding,
    hangs,
    held,
    pool_devno,
    resume_stalled,
    shows_thin,
    thin_target,
)
from reconciler.planner.facts import DeviceFacts
from reconciler.planner.plan import Plan, Sign

_REASONS = {
    DeviceState.COMMITTED: (Reason.COMMITTED_BUT_ACTIVE, "committed"),
    DeviceState.INACTIVE: (Reason.ACTIVE_BUT_DESIRED_INACTIVE, "recorded as Inactive"),
    DeviceState.ABSENT: (Reason.PRESENT_BUT_DESIRED_ABSENT, "recorded as Absent"),
}


def plan_inactive(facts: DeviceFacts, record: ThinDevice) -> Plan:
    if facts.live is not None:
        return take_down(facts, facts.live, record)
    known = facts.known
    assert known is not None  # noqa: S101  # an unknown one is made first
    size = known.size if record.spec.size is None else max(known.size, sectors(record.spec.size))
    committed = known.committed or record.spec.state is DeviceState.COMMITTED
    now_known = replace(known, active=False, committed=committed, size=size, frozen=False)
    if now_known == known:
        return converged(facts)
    return converged(facts).with_steps(SaveDevice(facts.key, now_known))


def take_down(facts: DeviceFacts, live: LiveDevice, record: ThinDevice) -> Plan:
    """Resumes the device first, so that whoever waits on it can go on; then removes it if nobody has it open."""
    reason, words = _REASONS[record.spec.state]
    return remove_live(facts, live, finding(facts, reason, f"{live.info.name} is {words}, and is active"))


def remove_live(facts: DeviceFacts, live: LiveDevice, plan: Plan) -> Plan:
    """Adds the steps that remove a live device, or reports why they have to wait."""
    info = live.info
    if hangs(live):
        return after_suspension(facts, plan.with_steps(*resume_stalled(facts, live)))
    if info.inactive_table:
        waits = after_grace(facts, Sign.INACTIVE_TABLE, plan)
        if waits.requeue_after is not None:
            return waits
    elif not info.live_table:
        waits = after_grace(facts, Sign.NO_TABLE, plan)
        if waits.requeue_after is not None:
            return waits
    if info.open_count:
        return plan.blocked(Reason.BUSY, f"{plan.condition.message}, but is held by {held(live)}")
    return plan.with_steps(*_note_size(facts, live), Remove(info.name, info.uuid))


def _note_size(facts: DeviceFacts, live: LiveDevice) -> tuple[Step, ...]:
    """Notes a live size or external origin that the store does not know, without which the device would lose data."""
    known = facts.known
    if known is None or not shows_thin(live, pool_devno(facts), known.thin_id):
        return ()
    external = external_of(live, pool_devno(facts), known.thin_id)
    seen = known.external if external is None else str(external)
    now_known = replace(known, size=max(known.size, live.length), external=seen)
    return (SaveDevice(facts.key, now_known),) if now_known != known else ()


def plan_absent(facts: DeviceFacts, record: ThinDevice) -> Plan:
    if facts.live is not None:
        return take_down(facts, facts.live, record)
    if facts.known is None:
        return converged(facts, "as desired: absent")
    plan = finding(
        facts, Reason.PRESENT_BUT_DESIRED_ABSENT, f"{facts.key} is to be absent: deleting thin id {facts.known.thin_id}"
    )
    return delete(facts, facts.known, plan, discard=record.spec.discard_on_delete)


def delete(facts: DeviceFacts, known: StoredDevice, plan: Plan, *, discard: bool) -> Plan:
    """Deletes a thin of a healthy pool; the intent is flushed first."""
    if facts.other_intent:
        return plan.blocked(
            Reason.WAITING_FOR_POOL, f"the operation under way on {facts.other_intent} has to end first"
        )
    status = facts.pool.status
    assert isinstance(status, PoolStatus)  # noqa: S101  # full access means that it answers
    intent = Intent(
        key=facts.key,
        kind=IntentKind.DELETE,
        thin_id=known.thin_id,
        transaction_id=status.transaction_id,
        uuid=known.uuid,
        dm_name=known.dm_name,
        size=known.size,
    )
    steps: list[Step] = [BeginIntent(facts.key, intent)]
    if discard and not known.external:
        name = private_dm_name(facts.key.pool, facts.key.device)
        # The UUID of an adopted device is its maker's, and would not show that the private device is the reconciler's.
        uuid = private_uuid(facts.new_uuid if known.adopted else known.uuid)
        steps.append(DiscardThin(name, uuid, thin_target(facts, known.thin_id, known.size)))
    return plan.with_steps(*steps, *forward(facts, intent))


def forward(facts: DeviceFacts, intent: Intent) -> tuple[Step, ...]:
    """The rest of a deletion whose intent is already flushed."""
    return (
        DeleteThin(facts.key.pool, intent.thin_id, intent.transaction_id),
        SetTransactionId(facts.key.pool, intent.transaction_id),
        CompleteIntent(facts.key, None),
    )
