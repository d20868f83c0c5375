"""Time that stands still."""

from __future__ import annotations


class FakeClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 1_000_000 + self.time
