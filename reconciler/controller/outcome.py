"""What became of a key: the closed set that one `match` turns into what the queue does."""

from __future__ import annotations

from dataclasses import dataclass


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


Outcome = Done | LookAgain | Retry

BUSY_MOST = 30.0
"""Seconds between two tries on something that is only busy."""
ERROR_MOST = 300.0
"""Seconds between two tries after any other error."""
