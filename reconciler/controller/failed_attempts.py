"""Decides when something is tried again: what failed, what had no effect, and what somebody keeps breaking.

A failed attempt is not repeated before its time, however often events cause a scan meanwhile. A step that reported
success has failed as well if the scan after it finds the same work again. What succeeds, and is found broken again at
once, is mended at once at first (`BURST` times), and then at a steady pace (`PACE`).
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
"""How many times the same drift is mended as soon as it is found."""
PACE: Final = 5.0
"""Seconds for which each of those repairs counts, and therefore the interval between two repairs after the burst."""

_REMEMBERED: Final = 4
"""How many different failures of one record are remembered."""


@dataclass(frozen=True)
class Circumstances:
    """What decides whether a plan's steps work. Thin ids and UUIDs are left out, because they differ each time."""

    what: object
    """The reason, the steps and the size of the pool. A changed size means that growing the pool made progress."""
    around: object
    """The record, and what else is live; None if that does not matter."""

    def fits(self, now: Circumstances) -> bool:
        return self.what == now.what and (self.around is None or self.around == now.around)


def of_device(facts: DeviceFacts, plan: Plan) -> Circumstances:
    live = None if facts.live is None else (facts.live.info, facts.live.table)
    status = facts.pool.status
    around = facts.record, status.mode if isinstance(status, PoolStatus) else status, live
    return Circumstances((plan.reason, _sizes(status), _kinds(plan)), around)


def of_pool(facts: PoolFacts, plan: Plan) -> Circumstances:
    """The circumstances of a pool's plan. Free space and open counts are left out, because they change all the time."""
    live = facts.live
    device = None if live.device is None else (replace(live.device.info, event_nr=0, open_count=0), live.device.table)
    mode = live.status.mode if isinstance(live.status, PoolStatus) else live.status
    around = facts.record, mode, device, _backing(live.data), _backing(live.metadata)
    return Circumstances((plan.reason, _sizes(live.status), _kinds(plan)), around)


def _backing(found: LiveBacking) -> object:
    """What a backing device is and who uses it, without what is written to it."""
    place = found.kind, found.size, found.devno, found.loops, found.folder_exists, found.elsewhere
    return *place, found.superblock, found.used_by, found.read_only


def _sizes(status: object) -> object:
    return (status.data_total, status.metadata_total) if isinstance(status, PoolStatus) else None


def _kinds(plan: Plan) -> object:
    on_host = any(isinstance(step, HostStep) for step in plan.steps)
    return tuple(_kind(step, whole=not on_host) for step in plan.steps)


def _kind(step: Step, *, whole: bool) -> object:
    """What identifies a step. A step on the store counts with its content if the plan has nothing but such steps."""
    if isinstance(step, HostStep):
        return type(step), step.subject
    return step if whole and not isinstance(step, BeginIntent) else (type(step), step.key)


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float
    is_news: bool


@dataclass(slots=True)
class _Spent:
    """How often something was mended lately; each time counts for a while."""

    what: object
    at: float
    level: float = 0.0
    told: bool = False

    def left(self, now: float) -> float:
        return max(0.0, self.level - (now - self.at) / PACE)


class FailedAttempts:
    """The failed attempts of one pool's keys. In changed circumstances, an attempt is made at once."""

    def __init__(self, queue: WorkQueue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._failed: dict[Key, list[tuple[Circumstances, Condition]]] = {}
        """The failures of each key, the latest first. Several are kept, so that alternating
        failures are all delayed.
        """
        self._spent: dict[Key, list[_Spent]] = {}

    def failed(self, key: Key, circumstances: Circumstances, condition: Condition) -> None:
        """Remembers a failed attempt and the condition that it ended with."""
        before = [(old, said) for old, said in self._failed.get(key, []) if not old.fits(circumstances)]
        self._failed[key] = [(circumstances, condition), *before][:_REMEMBERED]

    def had_no_effect(self, key: Key, circumstances: Circumstances, condition: Condition) -> None:
        """Remembers an attempt that had no effect, in any circumstances: each attempt changes the
        device's own state.
        """
        self.failed(key, replace(circumstances, around=None), condition)

    def worked(self, key: Key) -> None:
        self._failed.pop(key, None)

    def forget(self) -> None:
        """Forgets all failures, because the records have changed and everything may work now."""
        self._failed.clear()
        self._spent.clear()

    def standing(self, key: Key, circumstances: Circumstances) -> Condition | None:
        """The condition that the last attempt in identical circumstances ended with, or None; valid until one works."""
        return next((said for before, said in self._failed.get(key, []) if before.fits(circumstances)), None)

    def is_too_early(self, key: Key) -> bool:
        """Whether the key's next attempt is still to come; the queue holds the key until then."""
        return self._queue.hold(key)

    def pause(self, key: Key, circumstances: Circumstances) -> Pause | None:
        """How long to wait if this was mended too often lately. None: it may be mended now, and is counted."""
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
    """What was done for one key in one pass. Finding the same work again means that it had no effect."""

    def __init__(self) -> None:
        self._done: list[object] = []

    @property
    def has_done(self) -> bool:
        """Whether any step has worked in this pass."""
        return bool(self._done)

    def is_again(self, circumstances: Circumstances) -> bool:
        return circumstances.what in self._done

    def did(self, circumstances: Circumstances) -> None:
        self._done.append(circumstances.what)
