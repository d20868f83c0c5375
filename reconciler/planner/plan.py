"""What a planner answers: a condition, steps, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from reconciler.model.conditions import DRIFT, Condition, Reason
from reconciler.model.live import LiveDevice, LiveState
from reconciler.model.recordset import PERMITTED, Permissions
from reconciler.model.steps import (
    Activate,
    Clear,
    DeleteThin,
    DiscardThin,
    HostStep,
    Load,
    MakeWritable,
    Remove,
    Resume,
    Step,
)


class Sign(StrEnum):
    """What may be somebody's work in progress for a moment, and counts as drift only once it has lasted."""

    SUSPENDED = "suspended"
    INACTIVE_TABLE = "inactive table"
    NO_TABLE = "no table"
    NODE = "node missing"


NODE_GRACE = 1.0
"""Seconds that udev is given to make a node before its absence counts: its rules run after the resume."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The condition that was found, the steps that mend it, and when to look again."""

    condition: Condition
    steps: tuple[Step, ...] = ()
    requeue_after: float | None = None
    """Seconds until a look is needed though nothing may announce itself."""
    needs_ids: bool = False
    """It cannot be decided without the pool's thin ids: look with them, and plan again."""

    @property
    def reason(self) -> Reason:
        return self.condition.reason

    def blocked(self, reason: Reason, message: str) -> Plan:
        """The same find with no steps, because of `reason`; what was found stays visible beneath it."""
        found = self.condition.beneath or (None if self.reason is Reason.CONVERGED else self.reason)
        return Plan(Condition(reason, message, self.condition.live, beneath=found))

    def with_steps(self, *steps: Step) -> Plan:
        return replace(self, steps=steps)


def signs(device: LiveDevice | None) -> frozenset[Sign]:
    """The signs that a device shows at this look."""
    if device is None:
        return frozenset()
    info = device.info
    shown = {
        Sign.SUSPENDED: info.suspended,
        Sign.INACTIVE_TABLE: info.inactive_table,
        Sign.NO_TABLE: not info.live_table,
        Sign.NODE: bool(device.missing_nodes),
    }
    return frozenset(sign for sign, is_shown in shown.items() if is_shown)


def live_state(device: LiveDevice | None, *, exists: bool) -> LiveState:
    """The one word for a device; `exists` says whether there is something of it besides a dm device."""
    if device is None:
        return LiveState.INACTIVE if exists else LiveState.ABSENT
    if device.info.suspended:
        return LiveState.SUSPENDED
    if not device.info.live_table:
        return LiveState.INACTIVE
    return LiveState.ACTIVE


_ACTIVATING: Final = (Activate, Load, MakeWritable, Resume, Clear)
_REMOVING: Final = (Remove, DeleteThin, DiscardThin)


def forbidden(plan: Plan, permissions: Permissions, now: float) -> str | None:
    """Why the source of its record does not permit these steps, or not yet; None if it does."""
    if not plan.steps or permissions is PERMITTED:
        return None
    activates = any(isinstance(step, _ACTIVATING) for step in plan.steps)
    removes = any(isinstance(step, _REMOVING) for step in plan.steps)
    if now >= permissions.not_before and (permissions.may_activate or not activates):
        return None if permissions.may_remove or not removes else permissions.why
    return permissions.why


_SHOWN: Final = 6
"""Steps that are named."""


def paused(plan: Plan, why: str) -> Plan:
    """The plan of a record that is paused: no steps, and what is found stays visible."""
    told = suppressed(plan, why)
    message = told.message
    if message == plan.condition.message:  # it does not speak of anything that would be done
        message = why if plan.reason is Reason.CONVERGED else f"{why}; what is found: {message}"
    under = plan.blocked(Reason.PAUSED, message)
    return replace(under, condition=replace(under.condition, would=told.would))


def suppressed(plan: Plan, why: str | None) -> Condition:
    """The plan's condition, with why nothing is done about it and with what would be done else."""
    steps = [f"{step.action} {step.subject}" for step in plan.steps if isinstance(step, HostStep)]
    waits = plan.reason in DRIFT and plan.requeue_after is not None
    if not why or not (steps or waits):
        return plan.condition
    would = ", ".join(steps[:_SHOWN]) + (", ..." if len(steps) > _SHOWN else "")
    told = f"{why}; it would: {would}" if steps else f"{why}; it would when that time is over"
    return replace(plan.condition, message=f"{plan.condition.message} (not done: {told})", would=would)
