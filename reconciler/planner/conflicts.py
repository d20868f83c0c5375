"""Conflicts of ownership: private devices left by a crash, names that others carry, thins that are live twice."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import Devno, ThinTable, read_table
from reconciler.model.live import LiveDevice
from reconciler.model.records import DeviceState
from reconciler.model.steps import Remove, Resume, SaveDevice, Step
from reconciler.planner.device_findings import finding, hangs, held, shows_thin
from reconciler.planner.facts import Access, DeviceFacts
from reconciler.planner.making import plan_intent
from reconciler.planner.ownership import is_made_by, is_private_of, owner_of, owns_device
from reconciler.planner.plan import Plan


def plan_private(facts: DeviceFacts) -> Plan | None:
    """Removes a private device of this store that a crash has left; after that, its intent is taken up again."""
    private = facts.private
    if private is None or facts.access.access is Access.NONE:
        return None
    name = private.info.name
    if not is_private_of(private.info, facts.new_uuid):
        message = (
            f"{name} is somebody else's ({owner_of(private.info)}): the reconciler needs that name for {facts.key}"
        )
        return finding(facts, Reason.CONFLICT, message) if facts.known is None and facts.record is not None else None
    plan = finding(facts, Reason.NOT_CREATED, f"{name} was left by an interrupted step: removing it")
    steps: list[Step] = [Resume(name)] if hangs(private) else []
    if private.info.open_count:
        return plan.blocked(
            Reason.BUSY, f"{name} was left by an interrupted step, and is held by {held(private)}"
        ).with_steps(*steps)
    return plan.with_steps(*steps, Remove(name, private.info.uuid))


def plan_claims(facts: DeviceFacts) -> Plan | None:
    """Reports somebody else's device under this record's name, or another device on its thin."""
    moved = _plan_moved(facts)
    if moved is not None:
        return moved
    if facts.renamed:
        return finding(facts, Reason.CONFLICT, _renamed(facts))
    if facts.elsewhere:
        names = ", ".join(facts.elsewhere)
        message = (
            f"the thin of {facts.key} is also live as {names}, which is not the reconciler's: remove one of the two"
        )
        return finding(facts, Reason.CONFLICT, message)
    live = facts.live
    if live is None or not is_foreign(facts):
        return None
    if _can_end_operation(facts):
        # A half-done operation needs only the thin id and not the name; left open, it would block the whole pool.
        return plan_intent(replace(facts, live=None), facts.record)
    return finding(facts, Reason.CONFLICT, _carried_by(facts, live))


def _renamed(facts: DeviceFacts) -> str:
    name = facts.dm_name
    rename = f"`dmsetup rename {facts.renamed} {name}`"
    if facts.live is not None:  # two names may have been swapped; a third name undoes that without removing anything
        rename = f"{name} is the name of another device now: `dmsetup rename {name} {name}.other`, then {rename}"
    return f"{facts.key} is live as {facts.renamed}: it has the UUID of {facts.dm_name}, and was renamed. {rename} puts it right"


def _plan_moved(facts: DeviceFacts) -> Plan | None:
    """Reports an adopted device that its maker moved to another thin (as an LVM merge does); follows if its record does."""
    known, live, pool = facts.known, facts.live, facts.pool.device
    if known is None or not known.adopted or live is None or pool is None or live.info.uuid != known.uuid:
        return None
    table, adopt = read_table(live.table), facts.record.spec.adopt if facts.record is not None else None
    if not isinstance(table, ThinTable) or table.pool != pool.info.devno or table.thin_id == known.thin_id:
        return None
    if adopt is not None and adopt.device_id == table.thin_id and not facts.adopted_by:
        plan = finding(facts, Reason.CONFLICT, f"{facts.dm_name} shows thin id {table.thin_id} now, as its record says")
        return plan.with_steps(SaveDevice(facts.key, replace(known, thin_id=table.thin_id, size=live.length)))
    message = (
        f"{facts.dm_name} shows thin id {table.thin_id} now, and not {known.thin_id}, which was adopted: its owner has "
        f"moved it, as LVM does when it merges a snapshot. It is left so: `adopt: {{deviceId: {table.thin_id}, dmName: "
        f"{facts.dm_name}}}` in the record of {facts.key} follows"
    )
    return finding(facts, Reason.CONFLICT, message)


def _carried_by(facts: DeviceFacts, live: LiveDevice) -> str:
    name, table, pool = live.info.name, read_table(live.table), facts.pool.device
    is_in_it = isinstance(table, ThinTable) and pool is not None and table.pool == pool.info.devno
    if isinstance(table, ThinTable) and is_in_it and is_made_by(live.info, facts.new_uuid):
        # If this device were renamed, the record would be made anew beside it, empty.
        return (
            f"the name {name} is carried by a device that this store made and does not know any more: it was forgotten, "
            f"or an older copy of the store was put back. Take it in by `adopt: {{deviceId: {table.thin_id}, dmName: {name}}}`"
        )
    return (
        f"the name {name} is carried by a device that is not this record's: {owner_of(live.info)}. Rename one of them"
    )


def is_foreign(facts: DeviceFacts) -> bool:
    """Whether the device under the record's name is somebody else's."""
    pool = facts.pool.device.info.devno if facts.pool.device is not None else None
    return facts.live is not None and not owns_device(facts.live, facts.known, pool) and not _to_be_adopted(facts, pool)


def _to_be_adopted(facts: DeviceFacts, pool: Devno | None) -> bool:
    """Whether the live device is to be adopted. Never for an Absent record: its thin may be gone, and the id reused by
    somebody else.
    """
    adopt = facts.record.spec.adopt if facts.record is not None else None
    if facts.record is None or adopt is None or facts.known is not None or facts.live is None or pool is None:
        return False
    return facts.record.spec.state is not DeviceState.ABSENT and shows_thin(facts.live, pool, adopt.device_id)


def _can_end_operation(facts: DeviceFacts) -> bool:
    external = facts.pool_record is not None and facts.pool_record.spec.external
    return facts.intent is not None and facts.access.may_delete and not external
