"""When something is tried again: what did not work, what changed nothing, and what somebody breaks again and again.

What failed is not tried again before its time, however often events have it looked at meanwhile. A step that was answered
with OK has failed too where the look after it finds the same to be done. And what works, and is found broken again at
once, is put right often at first, and then at a steady pace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from reconciler.controller.clock import Clock
from reconciler.controller.queue import WorkQueue
from reconciler.model.conditions import Condition
from reconciler.model.dm_tables import PoolStatus
from reconciler.model.live import LiveBacking
from reconciler.model.names import Key
from reconciler.model.steps import BeginIntent, HostStep, Step
from reconciler.planner.facts import DeviceFacts, PoolFacts
from reconciler.planner.plan import Plan

BURST: Final = 10
"""So often the same is put right as soon as it is found."""
PACE: Final = 5.0
"""Seconds for which each of those counts, and so between two from then on."""

_REMEMBERED: Final = 4
"""Different failures of one record."""


@dataclass(frozen=True)
class Circumstances:
    """What bears on whether a plan's steps work. Not the ids and UUIDs in them, which are others each time."""

    what: object
    """Reason and steps, and how large the pool is: where that changes, growing it has led on."""
    around: object
    """The record, and what else is live. None: whatever that is."""

    def fits(self, now: Circumstances) -> bool:
        return self.what == now.what and (self.around is None or self.around == now.around)


def of_device(facts: DeviceFacts, plan: Plan) -> Circumstances:
    live = None if facts.live is None else (facts.live.info, facts.live.table)
    status = facts.pool.status
    around = facts.record, status.mode if isinstance(status, PoolStatus) else status, live
    return Circumstances((plan.reason, _sizes(status), _kinds(plan)), around)


def of_pool(facts: PoolFacts, plan: Plan) -> Circumstances:
    """Not how much room there is, nor who uses the pool's devices: that changes all the time."""
    live = facts.live
    device = None if live.device is None else (replace(live.device.info, event_nr=0, open_count=0), live.device.table)
    mode = live.status.mode if isinstance(live.status, PoolStatus) else live.status
    around = facts.record, mode, device, _backing(live.data), _backing(live.metadata)
    return Circumstances((plan.reason, _sizes(live.status), _kinds(plan)), around)


def _backing(found: LiveBacking) -> object:
    """What it is and who has it: not what is written to it."""
    place = found.kind, found.size, found.devno, found.loops, found.folder_exists, found.elsewhere
    return *place, found.superblock, found.used_by, found.read_only


def _sizes(status: object) -> object:
    return (status.data_total, status.metadata_total) if isinstance(status, PoolStatus) else None


def _kinds(plan: Plan) -> object:
    on_host = any(isinstance(step, HostStep) for step in plan.steps)
    return tuple(_kind(step, whole=not on_host) for step in plan.steps)


def _kind(step: Step, *, whole: bool) -> object:
    """A note in the store is another one if it says something else, where noting is all that is done."""
    if isinstance(step, HostStep):
        return type(step), step.subject
    return step if whole and not isinstance(step, BeginIntent) else (type(step), step.key)


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float
    is_news: bool


@dataclass(slots=True)
class _Spent:
    """How often something was put right lately: each time counts for a while."""

    what: object
    at: float
    level: float = 0.0
    told: bool = False

    def left(self, now: float) -> float:
        return max(0.0, self.level - (now - self.at) / PACE)


class FailedAttempts:
    """Of one pool's keys. Other circumstances are another matter: then it is tried at once."""

    def __init__(self, queue: WorkQueue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._failed: dict[Key, list[tuple[Circumstances, Condition]]] = {}
        """The last first: what fails by turns is held back by turns."""
        self._spent: dict[Key, list[_Spent]] = {}

    def failed(self, key: Key, circumstances: Circumstances, condition: Condition) -> None:
        """With what is said of it."""
        before = [(old, said) for old, said in self._failed.get(key, []) if not old.fits(circumstances)]
        self._failed[key] = [(circumstances, condition), *before][:_REMEMBERED]

    def had_no_effect(self, key: Key, circumstances: Circumstances, condition: Condition) -> None:
        """The same will be found whatever else changes: each try changes the device's own state."""
        self.failed(key, replace(circumstances, around=None), condition)

    def worked(self, key: Key) -> None:
        self._failed.pop(key, None)

    def forget(self) -> None:
        """New records: all of it may work now."""
        self._failed.clear()
        self._spent.clear()

    def standing(self, key: Key, circumstances: Circumstances) -> Condition | None:
        """What was said when the same failed the last time. It stands until a try works, also while one is made."""
        return next((said for before, said in self._failed.get(key, []) if before.fits(circumstances)), None)

    def is_too_early(self, key: Key) -> bool:
        """Whether its next try is still to come: the queue has it then."""
        return self._queue.hold(key)

    def pause(self, key: Key, circumstances: Circumstances) -> Pause | None:
        """Where this was put right too often lately, when it is again. None: now, and it counts as done."""
        now = self._clock.now()
        spent = self._spent[key] = [one for one in self._spent.get(key, ()) if one.left(now) > 0]
        mine = next((one for one in spent if one.what == circumstances.what), None)
        if mine is None:
            mine = _Spent(circumstances.what, now)
            spent.append(mine)
        level = mine.left(now)
        if level > BURST - 1:
            news, mine.told = not mine.told, True
            return Pause((level - (BURST - 1)) * PACE, news)
        mine.at, mine.level = now, level + 1
        return None


class Pass:
    """One key in one pass: what was done for it, which must not be found to be done once more."""

    def __init__(self) -> None:
        self._done: list[object] = []

    @property
    def has_done(self) -> bool:
        """Something worked."""
        return bool(self._done)

    def is_again(self, circumstances: Circumstances) -> bool:
        return circumstances.what in self._done

    def did(self, circumstances: Circumstances) -> None:
        self._done.append(circumstances.what)
