"""What became of a key: the closed set that one `match` turns into what the queue does."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.condition import Condition, Reason
from reconciler.model.steps import MakeFilesystem, Step
from reconciler.planner.plan import Plan


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more to do until something changes."""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """A look is due, though nothing may announce itself."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Retry:
    """A step did not work: again, each time later, at most so many seconds later."""

    most: float
    first: float | None = None
    """Seconds until the first try, where it is not to be made at once."""


Outcome = Done | LookAgain | Retry

BUSY_MOST = 30.0
"""Seconds between two tries on something that is only busy."""
ERROR_MOST = 300.0
"""Seconds between two tries after any other error."""
FIRST_ANEW = 5.0
"""Seconds until the first try of what makes its device anew each time: that takes a thin id and two transactions."""


def after(plan: Plan) -> Outcome:
    """Of a plan that was carried out, or has nothing to carry out."""
    if plan.reason is Reason.KERNEL_ERROR:
        return Retry(ERROR_MOST)
    return Done() if plan.look_again is None else LookAgain(plan.look_again)


def after_fault(condition: Condition, step: Step | None = None) -> Outcome:
    """Of a step that did not work."""
    if isinstance(step, MakeFilesystem):
        return Retry(ERROR_MOST, FIRST_ANEW)
    return Retry(BUSY_MOST if condition.reason is Reason.BUSY else ERROR_MOST)
