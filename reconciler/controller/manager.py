"""All pools side by side: a lane each, which is a thread, a worker and a share of the queue."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from reconciler.controller.clock import Clock
from reconciler.controller.desired import Desired
from reconciler.controller.drift import Repeats, times
from reconciler.controller.fact_gatherer import Settings
from reconciler.controller.queue import BUSY_MOST, ERROR_MOST, Retry, WorkQueue
from reconciler.controller.reconciler import PoolReconciler
from reconciler.controller.recorder import Recorder
from reconciler.kernel.worker.client import PoolPort
from reconciler.model.conditions import Status
from reconciler.model.names import Key
from reconciler.store.errors import StoreError, StoreUnusable
from reconciler.store.store import Store
from reconciler.telemetry.logs import about
from reconciler.telemetry.metrics import Metrics

_STOP_WITHIN: Final = 3.0
"""Seconds that lanes are given to end the step at hand."""
_LET_GO_WITHIN: Final = 0.7
"""Seconds that threads, and then workers, are given once nobody listens to them any more."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Lane:
    """One pool's thread and what it works with."""

    port: PoolPort
    reconciler: PoolReconciler
    thread: threading.Thread | None = None
    busy_since: float | None = None
    passed: Desired | None = None
    """The records that its last whole pass was for."""
    bugs: Repeats = field(default_factory=Repeats)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a controller is wired from."""

    store: Store
    recorder: Recorder
    metrics: Metrics
    clock: Clock
    rng: random.Random
    settings: Settings
    port_of: Callable[[str], PoolPort]


class Controller:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._queue = WorkQueue(parts.clock, parts.rng, parts.metrics.queue)
        self._lanes: dict[str, Lane] = {}
        self._desired = Desired()
        self._only: frozenset[Key] | None = None
        self._stopping = False
        self.failure: StoreError | None = None
        """Why nothing can go on, for good: the store cannot be believed any more."""
        self.failed: Callable[[], None] = lambda: None
        """Called, from a lane's thread, when `failure` was set."""

    @property
    def desired(self) -> Desired:
        return self._desired

    def set_desired(self, desired: Desired) -> None:
        """These records are in force from now on."""
        self._desired = desired
        recorded = {key.pool for key in desired.records.pools}
        pools = recorded | set(self._parts.store.known_pools())
        for name in sorted(pools):
            if name not in self._lanes and (self._only is None or any(key.pool == name for key in self._only)):
                self._open(name)
        self._parts.recorder.forget({key for key in self._parts.recorder.known_keys() if key.pool not in pools})
        self.resync()

    def limit_to(self, keys: frozenset[Key] | None) -> None:
        """Before anything is begun: touch nothing but these."""
        self._only = keys

    def statuses(self) -> dict[Key, Status]:
        """Of all that is worked on and was looked at since the start."""
        return {
            key: status
            for key, status in self._parts.recorder.statuses().items()
            if self._only is None or key in self._only
        }

    def resync(self) -> None:
        """Look at everything again."""
        for name in self._lanes:
            self._queue.add(Key(name))

    def look_at(self, dm_names: Iterable[str]) -> None:
        """Something happened to these devices; those that are nobody's here are passed over."""
        for dm_name in dm_names:
            for name, lane in self._lanes.items():
                key = Key(name) if dm_name == name else lane.reconciler.key_of(dm_name)
                if key is not None:
                    self._queue.add(key)

    def longest_running(self) -> float:
        """Seconds that the lane which is longest at its work has been."""
        now = self._parts.clock.now()
        return max((now - lane.busy_since for lane in self._lanes.values() if lane.busy_since is not None), default=0.0)

    def all_passed(self) -> bool:
        """Whether every pool has had a whole pass over the records in force."""
        return all(lane.passed is self._desired for lane in self._lanes.values())

    def stop(self) -> None:
        """End within a few seconds, however many pools hang: steps that do, or take long, are left to their workers."""
        self._stopping = True
        self._queue.stop()
        self._join(_STOP_WITHIN)
        for lane in self._lanes.values():
            lane.port.abandon()  # all workers begin to end at once
        self._join(_LET_GO_WITHIN)
        end = self._parts.clock.now() + _LET_GO_WITHIN
        for lane in self._lanes.values():
            if lane.thread is None or not lane.thread.is_alive():
                lane.port.close(max(0.0, end - self._parts.clock.now()))

    def _join(self, seconds: float) -> None:
        """All threads together get so long."""
        end = self._parts.clock.now() + seconds
        for lane in self._lanes.values():
            if lane.thread is not None:
                lane.thread.join(max(0.0, end - self._parts.clock.now()))

    def _open(self, name: str) -> None:
        parts = self._parts
        port = parts.port_of(name)
        reconciler = PoolReconciler(
            name,
            port=port,
            store=parts.store,
            recorder=parts.recorder,
            queue=self._queue,
            clock=parts.clock,
            rng=parts.rng,
            settings=parts.settings,
            only=self._only,
            latest=lambda: self._desired,
        )
        lane = self._lanes[name] = Lane(port, reconciler)
        lane.thread = threading.Thread(target=self._work, args=(name, lane), name=f"pool {name}", daemon=True)
        lane.thread.start()

    def _work(self, name: str, lane: Lane) -> None:
        while not self._stopping:
            keys = self._queue.take(name)
            if not keys:
                continue
            begun = lane.busy_since = self._parts.clock.now()
            self._pass(name, lane, keys)
            lane.busy_since = None
            self._parts.metrics.queue.done(self._parts.clock.now() - begun)

    def _pass(self, name: str, lane: Lane, keys: set[Key]) -> None:
        desired, begun = self._desired, self._parts.clock.now()
        try:
            lane.reconciler.reconcile(keys, desired)
        except StoreUnusable:
            # What was to be written first was not, so nothing was done: the store says why, to whoever asks it.
            lane.reconciler.start_over()
            self._queue.finish(Key(name), Retry(BUSY_MOST))
            self._parts.recorder.changed()
            return
        except StoreError as error:
            self.failure = error
            self._stopping = True
            self.failed()
            return
        except Exception as error:  # noqa: BLE001  # logged in full, with its trace
            # A bug shows itself in one pool, and must not take the others with it. It may do so every second.
            count = lane.bugs.again(Key(name), repr(error))
            if count:
                bug = f"the pass over pool {name} failed; this is a bug{times(count)}"
                _log.exception("%s", bug, extra=about(Key(name), reason=type(error).__name__))
            lane.reconciler.start_over()
            self._queue.finish(Key(name), Retry(ERROR_MOST))
        seconds = self._parts.clock.now() - begun
        if Key(name) in keys:
            lane.passed = desired
            self._parts.metrics.resync(seconds)
        for kind in {key.kind for key in keys}:
            self._parts.metrics.reconcile(kind, seconds)
        self._parts.recorder.changed()
