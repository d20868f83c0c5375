"""Time and chance, passed in, so that a test can hold them still."""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds that only go forward, from anywhere."""

    def wall(self) -> float:
        """Seconds since 1970."""


class SystemClock:
    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


def system_random() -> random.Random:
    """For jitter and for UUIDs."""
    return random.SystemRandom()
