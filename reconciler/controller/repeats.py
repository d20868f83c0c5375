"""A fault that lasts is told once, and then with its count, each time after twice as many tries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from typing import Final

from reconciler.model.names import Key

_MOST: Final = 32
"""Different things that are counted of one record: with more, each is told as if it were new."""


class Repeats:
    """Not for several threads at a time."""

    def __init__(self) -> None:
        self._counts: defaultdict[Key, Counter[Hashable]] = defaultdict(Counter)

    def again(self, key: Key, what: Hashable) -> int:
        """How often it has happened by now, if that is worth a line: 1, 2, 4, 8 and so on; else 0."""
        counts = self._counts[key]
        if len(counts) >= _MOST and what not in counts:
            counts.clear()
        counts[what] += 1
        count = counts[what]
        return count if count & (count - 1) == 0 else 0

    def over(self, key: Key) -> None:
        """All is well, or nothing is left of it: what happens from now on is news."""
        self._counts.pop(key, None)


def times(count: int) -> str:
    """What is put behind a line that was told before."""
    return "" if count == 1 else f" ({count} times by now)"
