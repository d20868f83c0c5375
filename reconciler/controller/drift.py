"""Open drift of every record, from the scan that found it to the scan that finds it gone, and a throttle for its log
lines.

A fault that lasts is logged at its first attempt, and then with its count whenever the number of attempts has doubled.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Final

from reconciler.model.conditions import Reason
from reconciler.model.names import Key

_MOST: Final = 32
"""How many different things are counted for one record. Beyond that, the counts begin anew, all is logged again."""


class LogThrottle:
    """Decides which repetitions of an event are worth a log line. Not thread-safe."""

    def __init__(self) -> None:
        self._counts: defaultdict[Key, Counter[Hashable]] = defaultdict(Counter)

    def again(self, key: Key, what: Hashable) -> int:
        """How often `what` has happened to the record, if that is worth a line (1, 2, 4, 8 and so on), else 0."""
        counts = self._counts[key]
        if len(counts) >= _MOST and what not in counts:
            counts.clear()
        counts[what] += 1
        count = counts[what]
        return count if count & (count - 1) == 0 else 0

    def over(self, key: Key) -> None:
        """Resets the record's counts, because it is well or gone: whatever happens from now on is news."""
        self._counts.pop(key, None)


def times(count: int) -> str:
    """The suffix of a log line that repeats an earlier one."""
    return "" if count == 1 else f" ({count} times by now)"


_SHOWN: Final = 6
"""How many of the steps against one drift a message names."""


@dataclass(frozen=True, slots=True)
class OpenDrift:
    reason: Reason
    since: float
    done: tuple[str, ...] = ()
    """The steps that worked while this was the reported drift, each once."""
    left: bool = False
    """Whether it was reported that nothing may be done about this drift."""

    @property
    def how(self) -> str:
        """What was done about the drift, in words for a message."""
        shown = ", ".join(self.done[:_SHOWN]) + (", ..." if len(self.done) > _SHOWN else "")
        return shown or "by itself"


class DriftTracker:
    """Open drift of every record. The planner reports only its first match, so other drift may be masked by it.

    Drift that is no longer reported is therefore not closed by that alone: it closes when a step against it succeeded,
    or when the record converged. Not thread-safe.
    """

    def __init__(self) -> None:
        self._open: defaultdict[Key, dict[Reason, OpenDrift]] = defaultdict(dict)
        self._told: dict[Key, Reason] = {}

    def told(self, key: Key) -> OpenDrift | None:
        """The drift that the last scan reported for the record."""
        return self._open.get(key, {}).get(self._told[key]) if key in self._told else None

    def found(self, key: Key, reason: Reason, now: float) -> bool:
        """Opens the reported drift, and returns whether it is new."""
        self._told[key] = reason
        if reason in self._open[key]:
            return False
        self._open[key][reason] = OpenDrift(reason, now)
        return True

    def left(self, key: Key) -> bool:
        """Marks the reported drift as left alone, and returns whether that is new."""
        open_drift = self.told(key)
        if open_drift is None or open_drift.left:
            return False
        self._open[key][open_drift.reason] = replace(open_drift, left=True)
        return True

    def worked(self, key: Key, what: str) -> OpenDrift | None:
        """Notes that a step against the reported drift worked, and returns that drift."""
        open_drift = self.told(key)
        if open_drift is not None and what not in open_drift.done:
            self._open[key][open_drift.reason] = replace(open_drift, done=(*open_drift.done, what))
        return open_drift

    def over(self, key: Key, drift: Reason | None, *, converged: bool) -> list[OpenDrift]:
        """Closes and returns the record's drift that a scan found to be gone. `drift` is what it reports now."""
        mine = self._open.get(key, {})
        ended = [one for one in mine.values() if converged or (drift and drift is not one.reason and one.done)]
        for open_drift in ended:
            del mine[open_drift.reason]
        return ended

    def forget(self, key: Key) -> None:
        self._open.pop(key, None)
        self._told.pop(key, None)
