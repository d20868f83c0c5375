"""Open drift of every record, from the scan that found it to the one that finds it gone; and a throttle for its log lines.

A fault that lasts is logged once, and then with its count, each time after twice as many attempts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Final

from reconciler.model.conditions import Reason
from reconciler.model.names import Key

_MOST: Final = 32
"""Different things that are counted of one record: with more, each is told as if it were new."""


class LogThrottle:
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


_SHOWN: Final = 6
"""Steps that are named, of those that an episode took."""


@dataclass(frozen=True, slots=True)
class OpenDrift:
    reason: Reason
    since: float
    done: tuple[str, ...] = ()
    """The steps that worked while it was what was told, each once."""
    left: bool = False
    """It was told what is not done about it, as nothing may be done."""

    @property
    def how(self) -> str:
        """What was done about it, for people."""
        shown = ", ".join(self.done[:_SHOWN]) + (", ..." if len(self.done) > _SHOWN else "")
        return shown or "by itself"


class DriftTracker:
    """Of all records. A look tells one drift of a record, the first that fits: another may be there behind it.

    So a drift that is no longer told, though nothing was done about it, is not over: it is over once the record is as
    desired. Not for several threads at a time.
    """

    def __init__(self) -> None:
        self._open: defaultdict[Key, dict[Reason, OpenDrift]] = defaultdict(dict)
        self._told: dict[Key, Reason] = {}

    def told(self, key: Key) -> OpenDrift | None:
        """The one that the last look has told."""
        return self._open.get(key, {}).get(self._told[key]) if key in self._told else None

    def found(self, key: Key, reason: Reason, now: float) -> bool:
        """Whether it is news."""
        self._told[key] = reason
        if reason in self._open[key]:
            return False
        self._open[key][reason] = OpenDrift(reason, now)
        return True

    def left(self, key: Key) -> bool:
        """What is told is left alone. Whether that is news."""
        open_drift = self.told(key)
        if open_drift is None or open_drift.left:
            return False
        self._open[key][open_drift.reason] = replace(open_drift, left=True)
        return True

    def worked(self, key: Key, what: str) -> OpenDrift | None:
        """A step that was taken against what is told."""
        open_drift = self.told(key)
        if open_drift is not None and what not in open_drift.done:
            self._open[key][open_drift.reason] = replace(open_drift, done=(*open_drift.done, what))
        return open_drift

    def over(self, key: Key, drift: Reason | None, *, converged: bool) -> list[OpenDrift]:
        """Those that a look finds to be gone, which tells this drift, if any."""
        mine = self._open.get(key, {})
        ended = [one for one in mine.values() if converged or (drift and drift is not one.reason and one.done)]
        for open_drift in ended:
            del mine[open_drift.reason]
        return ended

    def forget(self, key: Key) -> None:
        self._open.pop(key, None)
        self._told.pop(key, None)
