"""What a planner answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from reconciler.model.conditions import Condition, Reason
from reconciler.model.live import LiveDevice, LiveState
from reconciler.model.steps import Step


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
    look_again: float | None = None
    """Seconds until a look is needed though nothing may announce itself."""
    needs_ids: bool = False
    """It cannot be decided without the pool's thin ids: look with them, and plan again."""

    @property
    def reason(self) -> Reason:
        return self.condition.reason

    def under(self, reason: Reason, message: str) -> Plan:
        """The same find with no steps, because of `reason`; what was found stays visible beneath it."""
        found = self.condition.beneath or (None if self.reason is Reason.CONVERGED else self.reason)
        return Plan(Condition(reason, message, self.condition.live, beneath=found))

    def but(self, *steps: Step) -> Plan:
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
