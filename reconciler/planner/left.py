"""What is said of a plan that is not carried out: its own words speak as if it were."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from reconciler.model.conditions import DRIFT, Condition, Reason
from reconciler.model.steps import HostStep
from reconciler.planner.plan import Plan

_SHOWN: Final = 6
"""Steps that are named."""


def paused(plan: Plan, why: str) -> Plan:
    """The plan of a record that is paused: no steps, and what is found stays visible."""
    told = left_alone(plan, why)
    message = told.message
    if message == plan.condition.message:  # it does not speak of anything that would be done
        message = why if plan.reason is Reason.CONVERGED else f"{why}; what is found: {message}"
    under = plan.under(Reason.PAUSED, message)
    return replace(under, condition=replace(under.condition, would=told.would))


def left_alone(plan: Plan, why: str) -> Condition:
    """The plan's condition, with why nothing is done about it and with what would be done else."""
    steps = [f"{step.action} {step.subject}" for step in plan.steps if isinstance(step, HostStep)]
    waits = plan.reason in DRIFT and plan.look_again is not None
    if not why or not (steps or waits):
        return plan.condition
    would = ", ".join(steps[:_SHOWN]) + (", ..." if len(steps) > _SHOWN else "")
    told = f"{why}; it would: {would}" if steps else f"{why}; it would when that time is over"
    return replace(plan.condition, message=f"{plan.condition.message} (not done: {told})", would=would)
