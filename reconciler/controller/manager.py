"""Runs a controller for each pool, side by side: each is a thread with a worker and its share of the queue."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from reconciler.controller.desired import Desired
from reconciler.controller.drift import LogThrottle, times
from reconciler.controller.fact_gatherer import FactGatherer
from reconciler.controller.queue import BUSY_MOST, ERROR_MOST, RequeueWithBackoff, WorkQueue
from reconciler.controller.reconciler import PoolReconciler
from reconciler.controller.recorder import Recorder
from reconciler.kernel.worker.client import WorkerClient
from reconciler.model.conditions import Status
from reconciler.model.names import Key
from reconciler.model.recordset import PoolRecords
from reconciler.store.errors import StoreError, StoreUnusable
from reconciler.store.store import Store
from reconciler.telemetry.logs import log_context
from reconciler.telemetry.metrics import Metrics

_STOP_WITHIN: Final = 3.0
"""Seconds that pool controllers have to end the step at hand."""
_LET_GO_WITHIN: Final = 0.7
"""Seconds that threads, and then workers, have to end once their clients are abandoned."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class PoolController:
    """One pool's thread, and what it works with."""

    client: WorkerClient
    reconciler: PoolReconciler
    thread: threading.Thread | None = None
    busy_since: float | None = None
    passed: PoolRecords | None = None
    """The records that its last pass over the whole pool was for."""
    bugs: LogThrottle = field(default_factory=LogThrottle)


class Manager:
    def __init__(
        self,
        store: Store,
        recorder: Recorder,
        metrics: Metrics,
        queue: WorkQueue,
        gatherer_of: Callable[[str], FactGatherer],
        client_of: Callable[[str], WorkerClient],
    ) -> None:
        """`gatherer_of` and `client_of` make a pool's own fact gatherer and worker client from its name."""
        self._store = store
        self._recorder = recorder
        self._metrics = metrics
        self._clock = queue.clock
        self._queue = queue
        self._gatherer_of = gatherer_of
        self._client_of = client_of
        self._pool_controllers: dict[str, PoolController] = {}
        self._desired = Desired()
        self._only: frozenset[Key] | None = None
        self._stopping = False
        self.failure: StoreError | None = None
        """Why the manager has stopped for good: the store can no longer be trusted. None while it runs."""
        self.failed: Callable[[], None] = lambda: None
        """A callback for when `failure` was set, called in a pool controller's thread."""

    @property
    def desired(self) -> Desired:
        return self._desired

    def set_desired(self, desired: Desired) -> None:
        """Puts these records in force."""
        self._desired = desired
        pools = desired.pools.keys() | set(self._store.known_pools())
        for name in sorted(pools):
            if name not in self._pool_controllers and (
                self._only is None or any(key.pool == name for key in self._only)
            ):
                self._open(name)
        self._recorder.forget({key for key in self._recorder.known_keys() if key.pool not in pools})
        self.resync()

    def limit_to(self, keys: frozenset[Key] | None) -> None:
        """Limits the manager to these keys; None for all. To be called before anything is started."""
        self._only = keys

    def statuses(self) -> dict[Key, Status]:
        """The statuses of all keys in its charge that were scanned since the start."""
        return {
            key: status for key, status in self._recorder.statuses().items() if self._only is None or key in self._only
        }

    def resync(self) -> None:
        """Queues every pool to be scanned."""
        for name in self._pool_controllers:
            self._queue.add(Key(name))

    def look_at(self, dm_names: Iterable[str]) -> None:
        """Queues the devices with these dm names, because something happened to them. Unknown names are ignored."""
        for dm_name in dm_names:
            for name, pool_controller in self._pool_controllers.items():
                key = Key(name) if dm_name == name else pool_controller.reconciler.key_of(dm_name)
                if key is not None:
                    self._queue.add(key)

    def longest_running(self) -> float:
        """Seconds for which the busiest pool controller has been in its present pass; 0 if none is in one."""
        now = self._clock.now()
        return max(
            (
                now - pool_controller.busy_since
                for pool_controller in self._pool_controllers.values()
                if pool_controller.busy_since is not None
            ),
            default=0.0,
        )

    def all_passed(self) -> bool:
        """Whether every pool has had a whole pass over the records in force."""
        return all(each.passed is self._desired.of_pool(name) for name, each in self._pool_controllers.items())

    def stop(self) -> None:
        """Ends within a few seconds, however many pools hang. A step that hangs or takes long is left to its worker."""
        self._stopping = True
        self._queue.stop()
        self._join(_STOP_WITHIN)
        for pool_controller in self._pool_controllers.values():
            pool_controller.client.abandon()  # lets all workers begin to end at once
        self._join(_LET_GO_WITHIN)
        end = self._clock.now() + _LET_GO_WITHIN
        for pool_controller in self._pool_controllers.values():
            if pool_controller.thread is None or not pool_controller.thread.is_alive():
                pool_controller.client.close(max(0.0, end - self._clock.now()))

    def _join(self, seconds: float) -> None:
        """Joins all threads, within `seconds` altogether."""
        end = self._clock.now() + seconds
        for pool_controller in self._pool_controllers.values():
            if pool_controller.thread is not None:
                pool_controller.thread.join(max(0.0, end - self._clock.now()))

    def _open(self, name: str) -> None:
        client, gatherer = self._client_of(name), self._gatherer_of(name)
        latest = partial(self._records_of, name)
        reconciler = PoolReconciler(gatherer, client, self._recorder, self._queue, self._only, latest)
        pool_controller = self._pool_controllers[name] = PoolController(client, reconciler)
        pool_controller.thread = threading.Thread(
            target=self._work, args=(name, pool_controller), name=f"pool {name}", daemon=True
        )
        pool_controller.thread.start()

    def _records_of(self, name: str) -> PoolRecords:
        """The pool's records that are in force now."""
        return self._desired.of_pool(name)

    def _work(self, name: str, pool_controller: PoolController) -> None:
        while not self._stopping:
            keys = self._queue.take(name)
            if not keys:
                continue
            begun = pool_controller.busy_since = self._clock.now()
            self._pass(name, pool_controller, keys)
            pool_controller.busy_since = None
            self._metrics.queue.done(self._clock.now() - begun)

    def _pass(self, name: str, pool_controller: PoolController, keys: set[Key]) -> None:
        desired, begun = self._desired, self._clock.now()
        records = desired.of_pool(name)
        try:
            pool_controller.reconciler.reconcile(keys, records, desired.loaded_at)
        except StoreUnusable:
            # The note that precedes a step could not be written, so nothing was done. The store keeps the cause for the
            # status.
            pool_controller.reconciler.start_over()
            self._queue.finish(Key(name), RequeueWithBackoff(BUSY_MOST))
            self._recorder.changed()
            return
        except StoreError as error:
            self.failure = error
            self._stopping = True
            self.failed()
            return
        except Exception as error:  # noqa: BLE001  # logged in full, with its trace
            # A bug in the pass over one pool must not stop the others. It may recur every second, so its log is
            # throttled.
            count = pool_controller.bugs.again(Key(name), repr(error))
            if count:
                bug = f"the pass over pool {name} failed; this is a bug{times(count)}"
                _log.exception("%s", bug, extra=log_context(Key(name), reason=type(error).__name__))
            pool_controller.reconciler.start_over()
            self._queue.finish(Key(name), RequeueWithBackoff(ERROR_MOST))
        seconds = self._clock.now() - begun
        if Key(name) in keys:
            pool_controller.passed = records
            self._metrics.resync(seconds)
        for kind in {key.kind for key in keys}:
            self._metrics.reconcile(kind, seconds)
        self._recorder.changed()
