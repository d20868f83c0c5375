"""Clock and random source, passed in so that a test can control them."""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """The monotonic time, in seconds since an arbitrary moment."""

    def wall(self) -> float:
        """The time of day, in seconds since 1970."""


class SystemClock:
    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


def system_random() -> random.Random:
    """A random source for jitter and for UUIDs."""
    return random.SystemRandom()
