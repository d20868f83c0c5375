"""Whose is what: private devices left by a crash, names that others carry, thins that are live twice."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import Devno, ThinTable, read_table
from reconciler.model.live import LiveDevice
from reconciler.model.records import DeviceState
from reconciler.model.steps import KnowDevice, Remove, Resume, Step
from reconciler.planner.device_findings import find, hangs, held, shows_thin
from reconciler.planner.facts import Access, DeviceCase
from reconciler.planner.making import plan_intent
from reconciler.planner.ownership import is_made_by, is_private_of, owner_of, owns_device
from reconciler.planner.plan import Plan


def plan_private(case: DeviceCase) -> Plan | None:
    """A private device of ours, left by a crash: away with it, then its intent is taken up again."""
    private = case.private
    if private is None or case.access.access is Access.NONE:
        return None
    name = private.info.name
    if not is_private_of(private.info, case.new_uuid):
        message = f"{name} is somebody else's ({owner_of(private.info)}): the reconciler needs that name for {case.key}"
        return find(case, Reason.CONFLICT, message) if case.known is None and case.record is not None else None
    plan = find(case, Reason.NOT_CREATED, f"{name} was left by an interrupted step: removing it")
    steps: list[Step] = [Resume(name)] if hangs(private) else []
    if private.info.open_count:
        return plan.under(Reason.BUSY, f"{name} was left by an interrupted step, and is held by {held(private)}").but(
            *steps
        )
    return plan.but(*steps, Remove(name, private.info.uuid))


def plan_claims(case: DeviceCase) -> Plan | None:
    """Somebody else's device under this record's name, or another device on its thin."""
    moved = _plan_moved(case)
    if moved is not None:
        return moved
    if case.renamed:
        return find(case, Reason.CONFLICT, _renamed(case))
    if case.elsewhere:
        names = ", ".join(case.elsewhere)
        message = (
            f"the thin of {case.key} is also live as {names}, which is not the reconciler's: remove one of the two"
        )
        return find(case, Reason.CONFLICT, message)
    live = case.live
    if live is None or not is_foreign(case):
        return None
    if _can_end_operation(case):
        # Half-done work needs only the thin id, not the name; left open, it would hold up the whole pool.
        return plan_intent(replace(case, live=None), case.record)
    return find(case, Reason.CONFLICT, _carried_by(case, live))


def _renamed(case: DeviceCase) -> str:
    name = case.dm_name
    rename = f"`dmsetup rename {case.renamed} {name}`"
    if case.live is not None:  # two names may have been swapped: a third one undoes that, and nothing is removed
        rename = f"{name} is the name of another device now: `dmsetup rename {name} {name}.other`, then {rename}"
    return f"{case.key} is live as {case.renamed}: it has the UUID of {case.dm_name}, and was renamed. {rename} puts it right"


def _plan_moved(case: DeviceCase) -> Plan | None:
    """Whoever made an adopted device has given it another thin, as LVM does when it merges a snapshot into it."""
    known, live, pool = case.known, case.live, case.pool.device
    if known is None or not known.adopted or live is None or pool is None or live.info.uuid != known.uuid:
        return None
    table, adopt = read_table(live.table), case.record.spec.adopt if case.record is not None else None
    if not isinstance(table, ThinTable) or table.pool != pool.info.devno or table.thin_id == known.thin_id:
        return None
    if adopt is not None and adopt.device_id == table.thin_id and not case.adopted_by:
        plan = find(case, Reason.CONFLICT, f"{case.dm_name} shows thin id {table.thin_id} now, as its record says")
        return plan.but(KnowDevice(case.key, replace(known, thin_id=table.thin_id, size=live.length)))
    message = (
        f"{case.dm_name} shows thin id {table.thin_id} now, and not {known.thin_id}, which was adopted: its owner has "
        f"moved it, as LVM does when it merges a snapshot. It is left so: `adopt: {{deviceId: {table.thin_id}, dmName: "
        f"{case.dm_name}}}` in the record of {case.key} follows"
    )
    return find(case, Reason.CONFLICT, message)


def _carried_by(case: DeviceCase, live: LiveDevice) -> str:
    name, table, pool = live.info.name, read_table(live.table), case.pool.device
    is_in_it = isinstance(table, ThinTable) and pool is not None and table.pool == pool.info.devno
    if isinstance(table, ThinTable) and is_in_it and is_made_by(live.info, case.new_uuid):
        # To rename it would have the record made anew, empty, beside it.
        return (
            f"the name {name} is carried by a device that this store made and does not know any more: it was forgotten, "
            f"or an older copy of the store was put back. Take it in by `adopt: {{deviceId: {table.thin_id}, dmName: {name}}}`"
        )
    return (
        f"the name {name} is carried by a device that is not this record's: {owner_of(live.info)}. Rename one of them"
    )


def is_foreign(case: DeviceCase) -> bool:
    """Whether the device under the record's name is somebody else's."""
    pool = case.pool.device.info.devno if case.pool.device is not None else None
    return case.live is not None and not owns_device(case.live, case.known, pool) and not _to_be_adopted(case, pool)


def _to_be_adopted(case: DeviceCase, pool: Devno | None) -> bool:
    """Never for a record that is Absent: its thin may be long gone, and the id somebody else's by now."""
    adopt = case.record.spec.adopt if case.record is not None else None
    if case.record is None or adopt is None or case.known is not None or case.live is None or pool is None:
        return False
    return case.record.spec.state is not DeviceState.ABSENT and shows_thin(case.live, pool, adopt.device_id)


def _can_end_operation(case: DeviceCase) -> bool:
    external = case.pool_record is not None and case.pool_record.spec.external
    return case.intent is not None and case.access.may_delete and not external
