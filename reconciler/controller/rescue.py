"""Relief for a pool whose worker does not answer: somebody else may have suspended the pool, or a device of it, in the
midst of a step, and the worker hangs until that is resumed. A second worker looks, and lets go what may be let go.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from reconciler.controller.clock import Clock
from reconciler.controller.desired import Desired
from reconciler.controller.execute import Executor
from reconciler.controller.fact_gatherer import Gatherer, Settings
from reconciler.controller.observer import Viewer
from reconciler.controller.recorder import Recorder
from reconciler.kernel.worker.client import PoolPort
from reconciler.model.conditions import EventType, Reason
from reconciler.model.names import Key
from reconciler.model.steps import HostStep
from reconciler.planner.plan import Sign
from reconciler.planner.rescue import rescue_of_device, rescue_of_pool, suspended_in
from reconciler.store.store import Store

_PAUSE: Final = 30.0
"""Seconds until anything is tried again after a step that did not work."""


class Relief:
    """A `kernel.worker.client.Helper`, called in the lane's own thread. It records no status: that is for who sees the whole."""

    def __init__(  # noqa: PLR0913  # the wiring of one pool, all by name
        self,
        name: str,
        *,
        store: Store,
        recorder: Recorder,
        clock: Clock,
        rng: random.Random,
        settings: Settings,
        only: frozenset[Key] | None,
        latest: Callable[[], Desired],
    ) -> None:
        """`latest` are the records in force: a step may have begun long before them, and a pool be paused by now."""
        self._key = Key(name)
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._settings = settings
        self._only = only
        self._latest = latest
        self._gatherer = Gatherer(name, store, clock, rng, settings)
        self._viewer: Viewer | None = None
        """Of this wait alone: what is suspended must have been so without a break."""
        self._since = 0.0
        """When it first looked in this wait."""
        self._not_before = 0.0
        self._cause = ""
        """What is suspended below the pool, or the pool itself, at the second worker's last look."""

    def waiting(self, beside: PoolPort) -> None:
        if self._settings.observe_only or self._store.trouble is not None or self._clock.now() < self._not_before:
            return
        desired = self._latest()
        if self._viewer is None:
            self._since = self._clock.now()
        viewer = self._viewer = self._viewer or self._new_viewer(beside)
        trouble = viewer.look(desired, (), whole=True)
        self._cause = "" if trouble else suspended_in(self._gatherer.pool_facts(desired, viewer.world))
        if trouble:
            return  # it hangs too
        executor = Executor(beside, self._store, self._recorder)
        for key, steps in self._steps(desired, viewer):
            self._say(key, steps)
            if executor.run(key, steps).failed is not None:
                self._not_before = self._clock.now() + _PAUSE
                return
            self._recorder.relieved(key, _reason(key), self._clock.now() - self._since)

    def cause(self) -> str:
        return self._cause

    def answered(self) -> None:
        self._viewer, self._cause = None, ""

    def _new_viewer(self, beside: PoolPort) -> Viewer:
        # As one that only looks: to read the thin ids is to write to the pool's metadata, where a call may be going on.
        return Viewer(beside, self._gatherer, self._clock, replace(self._settings, observe_only=True))

    def _steps(self, desired: Desired, viewer: Viewer) -> Iterator[tuple[Key, tuple[HostStep, ...]]]:
        """The pool's; its devices' only at a later look, when it is not suspended any more."""
        world, now = viewer.world, self._clock.now()
        pool = self._gatherer.pool_facts(desired, world)
        steps = rescue_of_pool(pool)
        if steps and self._is_asked_for(self._key):
            yield self._key, steps
            return
        origins = {intent.origin for intent in self._store.intents(self._key.pool)}
        for key, (dm_name, private) in self._gatherer.scope(desired).names.items():
            suspended = Sign.SUSPENDED in world.signs_of(dm_name) or Sign.SUSPENDED in world.signs_of(private)
            if not suspended or not self._is_asked_for(key):
                continue
            facts = self._gatherer.device_facts(key, desired, world, pool)
            steps = rescue_of_device(facts, world.grace(private, now, self._settings.grace), origins)
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
