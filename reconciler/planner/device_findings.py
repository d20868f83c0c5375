"""What the rows of the device table share: findings, sizes and tables."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Final

from reconciler.model.conditions import Condition, Reason
from reconciler.model.dm_tables import Devno, ErrorTable, Target, ThinTable, read_table
from reconciler.model.live import LiveDevice
from reconciler.model.records import ThinDevice
from reconciler.model.steps import Clear, Resume, SaveDevice, Step
from reconciler.model.units import Sectors, sectors
from reconciler.planner.facts import DeviceFacts
from reconciler.planner.plan import Plan, Sign, live_state

_SHOWN: Final = 8


def finding(facts: DeviceFacts, reason: Reason, message: str) -> Plan:
    """A plan with a finding about this device and without steps."""
    return Plan(Condition(reason, message, live_state(facts.live, exists=facts.known is not None)))


def converged(facts: DeviceFacts, message: str = "as desired") -> Plan:
    return finding(facts, Reason.CONVERGED, message)


def pool_devno(facts: DeviceFacts) -> Devno:
    """The pool's device number. Only for devices whose access was checked, so that the pool is live."""
    device = facts.pool.device
    assert device is not None  # noqa: S101  # access says that it is live
    return device.info.devno


def wanted_size(facts: DeviceFacts, record: ThinDevice) -> Sectors:
    """The size in the record, or the present size of the device where the record leaves it open."""
    known = facts.known.size if facts.known is not None else Sectors(0)
    return known if record.spec.size is None else sectors(record.spec.size)


def thin_target(facts: DeviceFacts, thin_id: int, size: Sectors, external: Devno | None = None) -> Target:
    return ThinTable(size, pool_devno(facts), thin_id, external).target()


def external_of(live: LiveDevice | None, pool: Devno | None, thin_id: int) -> Devno | None:
    """The external origin of a device that shows this thin."""
    table = read_table(live.table) if live is not None else None
    if not isinstance(table, ThinTable) or (table.pool, table.thin_id) != (pool, thin_id):
        return None
    return table.external


def shows_thin(live: LiveDevice, pool: Devno, thin_id: int) -> bool:
    table = read_table(live.table)
    return isinstance(table, ThinTable) and table.pool == pool and table.thin_id == thin_id


def is_error(live: LiveDevice, size: Sectors) -> bool:
    """Whether it has an error table of this size, which `dmsetup remove --force` puts under an open device."""
    table = read_table(live.table)
    return isinstance(table, ErrorTable) and table.length == size


def held(live: LiveDevice) -> str:
    """Who has the device open, for messages."""
    if live.holders:
        more = len(live.holders) - _SHOWN
        return ", ".join(live.holders[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{live.info.open_count} opener(s) that cannot be seen from here"


def after_grace(facts: DeviceFacts, sign: Sign, plan: Plan, length: float | None = None) -> Plan:
    """The plan, once the sign has lasted for its grace; until then its finding, and when to scan again."""
    left = facts.grace.left(sign, length)
    if left <= 0:
        return plan
    message = f"{plan.condition.message}; it is left for {ceil(left)} s more, as somebody may be at work"
    return Plan(Condition(plan.reason, message, plan.condition.live), requeue_after=left)


def hangs(live: LiveDevice) -> bool:
    """Whether the device holds back I/O. A shell may be suspended too, but holds back nothing and cannot be resumed."""
    return live.info.suspended and live.info.live_table


def after_suspension(facts: DeviceFacts, plan: Plan) -> Plan:
    """The plan after the grace of a suspension. What the reconciler itself suspended is resumed at once."""
    frozen = facts.known is not None and facts.known.frozen
    return plan if frozen else after_grace(facts, Sign.SUSPENDED, plan)


def resume_stalled(facts: DeviceFacts, live: LiveDevice, wanted: Target | None = None) -> tuple[Step, ...]:
    """The steps that resume the device. RESUME swaps in the inactive table, so an unwanted one is cleared first."""
    name, known = live.info.name, facts.known
    steps: list[Step] = []
    if live.info.inactive_table and (wanted is None or live.inactive != (wanted,)):
        steps.append(Clear(name))
    steps.append(Resume(name))
    if known is not None and known.frozen:
        steps.append(SaveDevice(facts.key, replace(known, frozen=False)))
    return tuple(steps)
