"""What is said of a plan that is not carried out: its own words speak as if it were."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from reconciler.model.condition import DRIFT, Condition
from reconciler.model.steps import HostStep
from reconciler.planner.plan import Plan

_SHOWN: Final = 6
"""Steps that are named."""


def left_alone(plan: Plan, why: str) -> Condition:
    """The plan's condition, with why nothing is done about it and with what would be done else."""
    steps = [f"{step.action} {step.subject}" for step in plan.steps if isinstance(step, HostStep)]
    waits = plan.reason in DRIFT and plan.look_again is not None
    if not why or not (steps or waits):
        return plan.condition
    would = f"; it would: {', '.join(steps[:_SHOWN])}" if steps else ""
    more = ", ..." if len(steps) > _SHOWN else ""
    return replace(plan.condition, message=f"{plan.condition.message} (not done: {why}{would}{more})")
