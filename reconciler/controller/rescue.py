"""Rescue for a pool whose worker does not answer.

Somebody else may have suspended the pool, or a device of it, in the middle of a step, and the worker then hangs until
it is resumed. A second worker scans the pool, and resumes what may be resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from reconciler.controller.execute import Executor
from reconciler.controller.fact_gatherer import FactGatherer
from reconciler.controller.observer import PoolObserver
from reconciler.controller.recorder import Recorder
from reconciler.kernel.worker.client import WorkerClient
from reconciler.model.conditions import EventType, Reason
from reconciler.model.names import Key
from reconciler.model.recordset import PoolRecords
from reconciler.model.steps import HostStep
from reconciler.planner.plan import Sign
from reconciler.planner.rescue import rescue_of_device, rescue_of_pool, suspended_in

_PAUSE: Final = 30.0
"""Seconds until anything is tried again after a step that failed."""


class Rescuer:
    """A `kernel.worker.client.StallHandler`, called in the pool controller's thread. It records no status, because it
    sees only a part of the pool's state.
    """

    def __init__(
        self,
        gatherer: FactGatherer,
        recorder: Recorder,
        latest: Callable[[], PoolRecords],
        only: frozenset[Key] | None,
    ) -> None:
        """`latest` returns the records in force: the step may have begun long before, and the pool be paused by now."""
        self._key = Key(gatherer.name)
        self._store = gatherer.store
        self._recorder = recorder
        self._clock = gatherer.clock
        self._settings = gatherer.settings
        self._only = only
        self._latest = latest
        self._gatherer = gatherer
        self._observer: PoolObserver | None = None
        """The observer of the present stall: a suspension counts if it was seen without a break during this stall."""
        self._since = 0.0
        """When the first scan of the present stall was made, in monotonic seconds."""
        self._not_before = 0.0
        self._cause: str | None = None
        """The suspended device below the pool, or the pool itself, in the second worker's last scan; else None."""

    def waiting(self, beside: WorkerClient) -> None:
        if self._settings.observe_only or self._store.trouble is not None or self._clock.now() < self._not_before:
            return
        self._gatherer.use(self._latest(), self._clock.now())
        if self._observer is None:
            self._since = self._clock.now()
        # Only observes: reading the thin ids writes to the pool's metadata, where a call may be going on.
        observer = self._observer = self._observer or PoolObserver(beside, self._gatherer, observe_only=True)
        trouble = observer.look((), whole=True)
        self._cause = None if trouble else suspended_in(self._gatherer.pool_facts(observer.observed))
        if trouble:
            return  # the second worker hangs too
        executor = Executor(beside, self._store, self._recorder)
        for key, steps in self._steps(observer):
            self._say(key, steps)
            if executor.run(key, steps).failed is not None:
                self._not_before = self._clock.now() + _PAUSE
                return
            self._recorder.relieved(key, _reason(key), self._clock.now() - self._since)

    def cause(self) -> str | None:
        return self._cause

    def answered(self) -> None:
        self._observer = self._cause = None

    def _steps(self, observer: PoolObserver) -> Iterator[tuple[Key, tuple[HostStep, ...]]]:
        """Yields the steps for the pool, or, in a later scan that finds it resumed, those for its devices."""
        observed, now = observer.observed, self._clock.now()
        pool = self._gatherer.pool_facts(observed)
        steps = rescue_of_pool(pool)
        if steps and self._is_asked_for(self._key):
            yield self._key, steps
            return
        origins = {intent.origin for intent in self._store.intents(self._key.pool)}
        for key, (dm_name, private) in self._gatherer.scope().names.items():
            suspended = Sign.SUSPENDED in observed.signs_of(dm_name) or Sign.SUSPENDED in observed.signs_of(private)
            if not suspended or not self._is_asked_for(key):
                continue
            facts = self._gatherer.device_facts(key, observed, pool)
            steps = rescue_of_device(facts, observed.grace(private, now, self._settings.grace), origins)
            if steps:
                yield key, steps

    def _is_asked_for(self, key: Key) -> bool:
        return self._only is None or key in self._only

    def _say(self, key: Key, steps: tuple[HostStep, ...]) -> None:
        name = steps[-1].subject
        message = f"the worker of pool {key.pool} does not answer, and {name} is suspended: a second worker resumes it"
        self._recorder.warn(key, _reason(key), message)
        self._recorder.event(key, EventType.FOUND, _reason(key), message)


def _reason(key: Key) -> Reason:
    return Reason.SUSPENDED if key.device else Reason.POOL_SUSPENDED
