"""The planner's output: a condition, steps, and when to scan again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from reconciler.model.conditions import DRIFT, Condition, Reason
from reconciler.model.live import LiveDevice, LiveState
from reconciler.model.recordset import Permissions
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
    """A state that may be somebody's work in progress, and counts as drift only once it has lasted for its grace."""

    SUSPENDED = "suspended"
    INACTIVE_TABLE = "inactive table"
    NO_TABLE = "no table"
    NODE = "node missing"


NODE_GRACE = 1.0
"""Seconds that udev has to make a node before its absence counts, because its rules run after the resume."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The condition that was found, the steps that mend it, and when to scan again."""

    condition: Condition
    steps: tuple[Step, ...] = ()
    requeue_after: float | None = None
    """Seconds until a scan is needed even if no event announces a change."""
    needs_ids: bool = False
    """Whether the plan needs the pool's thin ids: the caller reads them and plans again."""

    @property
    def reason(self) -> Reason:
        return self.condition.reason

    def blocked(self, reason: Reason, message: str) -> Plan:
        """The same finding without steps because of `reason`; the first condition stays visible beneath it."""
        found = self.condition.beneath or (None if self.reason is Reason.CONVERGED else self.reason)
        return Plan(Condition(reason, message, self.condition.live, beneath=found))

    def with_steps(self, *steps: Step) -> Plan:
        return replace(self, steps=steps)


def signs(device: LiveDevice | None) -> frozenset[Sign]:
    """The signs that a device shows in this scan."""
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
    """The state of a device as one word. `exists` says whether its thin exists, with or without a live device."""
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
    """Why the source of the record does not permit these steps, or not yet; None if it does."""
    activates = any(isinstance(step, _ACTIVATING) for step in plan.steps)
    removes = any(isinstance(step, _REMOVING) for step in plan.steps)
    is_early = bool(plan.steps) and now < permissions.not_before
    if is_early or (activates and not permissions.may_activate) or (removes and not permissions.may_remove):
        return permissions.why or "the source of its record does not permit it"  # also if the source does not say why
    return None


_SHOWN: Final = 6
"""How many steps a message names."""


def paused(plan: Plan, why: str) -> Plan:
    """The plan of a paused record: the finding stays visible, the steps are dropped."""
    told = suppressed(plan, why)
    message = told.message
    if message == plan.condition.message:  # the message names nothing that would be done
        message = why if plan.reason is Reason.CONVERGED else f"{why}; what is found: {message}"
    under = plan.blocked(Reason.PAUSED, message)
    return replace(under, condition=replace(under.condition, would=told.would))


def suppressed(plan: Plan, why: str | None) -> Condition:
    """The plan's condition, with why nothing is done about it and what would be done otherwise."""
    steps = [f"{step.action} {step.subject}" for step in plan.steps if isinstance(step, HostStep)]
    waits = plan.reason in DRIFT and plan.requeue_after is not None
    if not why or not (steps or waits):
        return plan.condition
    would = ", ".join(steps[:_SHOWN]) + (", ..." if len(steps) > _SHOWN else "")
    told = f"{why}; it would: {would}" if steps else f"{why}; it would when that time is over"
    return replace(plan.condition, message=f"{plan.condition.message} (not done: {told})", would=would)
