"""The work queue: each key is in it at most once, with the time at which it is due.

The outcome of a key is a closed set of types, which one `match` turns into what the queue does.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import Final, Protocol

from reconciler.controller.clock import Clock
from reconciler.model.conditions import Condition, Reason
from reconciler.model.names import Key
from reconciler.model.steps import MakeFilesystem, Step
from reconciler.planner.plan import Plan


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do until something changes."""


@dataclass(frozen=True, slots=True)
class RequeueAfter:
    """A scan is due after some seconds, even if no event announces a change."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RequeueWithBackoff:
    """A step failed: the key is retried with growing delays, of at most `most` seconds."""

    most: float
    first: float | None = None
    """Seconds until the first attempt, if not the default of `FIRST_RETRY`."""


Outcome = Done | RequeueAfter | RequeueWithBackoff

BUSY_MOST = 30.0
"""The longest delay between two attempts, in seconds, while a device is only busy."""
ERROR_MOST = 300.0
"""The longest delay between two attempts, in seconds, after any other error."""
FIRST_ANEW = 5.0
"""Seconds until the first retry of a step that makes its device anew, which takes a thin id and two transactions."""


def after(plan: Plan) -> Outcome:
    """The outcome of a plan that was carried out, or has no steps."""
    if plan.reason is Reason.KERNEL_ERROR:
        return RequeueWithBackoff(ERROR_MOST)
    return Done() if plan.requeue_after is None else RequeueAfter(plan.requeue_after)


def after_fault(condition: Condition, step: Step | None = None) -> Outcome:
    """The outcome of a step that failed."""
    if isinstance(step, MakeFilesystem):
        return RequeueWithBackoff(ERROR_MOST, FIRST_ANEW)
    return RequeueWithBackoff(BUSY_MOST if condition.reason is Reason.BUSY else ERROR_MOST)


FIRST_RETRY: Final = 0.05
"""Seconds until the first retry; doubles with each further attempt."""


class QueueWatcher(Protocol):
    """An observer that counts what happens in the queue, for the metrics."""

    def add(self) -> None: ...

    def retry(self) -> None: ...

    def started(self, waited: float) -> None: ...

    def done(self, worked: float) -> None: ...

    def depth(self, count: int) -> None: ...


class WorkQueue:
    """A thread-safe queue. A key that is added while it is worked on is due again afterwards."""

    def __init__(self, clock: Clock, rng: random.Random, watcher: QueueWatcher) -> None:
        self.clock = self._clock = clock
        self._rng = rng
        self._watcher = watcher
        self._changed = threading.Condition()
        self._due: dict[str, dict[Key, float]] = {}
        self._attempts: dict[Key, int] = {}
        self._not_before: dict[Key, float] = {}
        self._stopped = False

    def add(self, key: Key, after: float = 0.0) -> None:
        """Makes the key due in `after` seconds, unless it is due earlier already."""
        due = self._clock.now() + after
        with self._changed:
            pool_controller = self._due.setdefault(key.pool, {})
            if key not in pool_controller:
                self._watcher.add()
            if pool_controller.get(key, due) >= due:
                pool_controller[key] = due
                self._changed.notify_all()
            self._watcher.depth(sum(map(len, self._due.values())))

    def finish(self, key: Key, outcome: Outcome) -> None:
        """Ends the work on a key, and decides by its outcome when it is due again."""
        match outcome:
            case Done():
                self._forget_tries(key)
            case RequeueAfter(seconds):
                self._forget_tries(key)
                self.add(key, seconds)
            case RequeueWithBackoff(most, first):
                attempts = self._attempts.get(key, 0)
                self._attempts[key] = attempts + 1
                self._watcher.retry()
                # The jitter keeps pools that failed together from retrying together for ever.
                delay = min(most, (first or FIRST_RETRY) * 2 ** min(attempts, 20)) * self._rng.uniform(0.75, 1.25)
                self._not_before[key] = self._clock.now() + delay
                self.add(key, delay)

    def is_backing_off(self, key: Key) -> bool:
        return key in self._attempts

    def hold(self, key: Key) -> bool:
        """Whether the key's next attempt is still to come. The key is then due at that time, and not before."""
        left = self._not_before.get(key, 0.0) - self._clock.now()
        if left > 0:
            self.add(key, left)
        return left > 0

    def _forget_tries(self, key: Key) -> None:
        self._attempts.pop(key, None)
        self._not_before.pop(key, None)

    def take(self, pool: str, timeout: float | None = None) -> set[Key]:
        """Waits until keys of the pool are due, and returns them all. Empty after the timeout, or once stopped."""
        end = None if timeout is None else self._clock.now() + timeout
        with self._changed:
            while not self._stopped:
                keys = self._take_due(pool)
                if keys:
                    return keys
                wait = self._wait(pool, end)
                if wait is not None and wait <= 0:
                    return set()
                self._changed.wait(wait)
        return set()

    def stop(self) -> None:
        """Stops the queue, and wakes all threads that wait on it."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _take_due(self, pool: str) -> set[Key]:
        now, pool_controller = self._clock.now(), self._due.get(pool, {})
        keys = {key for key, due in pool_controller.items() if due <= now}
        for key in keys:
            self._watcher.started(now - pool_controller.pop(key))
        return keys

    def _wait(self, pool: str, end: float | None) -> float | None:
        times = [*self._due.get(pool, {}).values(), *([end] if end is not None else [])]
        return min(times) - self._clock.now() if times else None
