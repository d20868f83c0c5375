"""The real store, planner and controller of one pool in this process, over whatever kernel is given."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry

from reconciler.controller.clock import SystemClock
from reconciler.controller.desired import Desired
from reconciler.controller.fact_gatherer import FactGatherer, Settings
from reconciler.controller.queue import WorkQueue
from reconciler.controller.reconciler import PoolReconciler
from reconciler.controller.recorder import Recorder
from reconciler.kernel.protocol import Kernel
from reconciler.kernel.worker.client import InlineWorkerClient
from reconciler.model.conditions import Status
from reconciler.model.live import ScanScope
from reconciler.model.names import Key
from reconciler.model.records import Record
from reconciler.model.recordset import RecordSet
from reconciler.store.store import Store
from reconciler.telemetry.metrics import Metrics


class InlineController:
    """What the daemon has for one pool, without the worker process: the kernel's calls are made here."""

    def __init__(self, pool: str, kernel: Kernel, state_dir: Path, grace: float) -> None:
        self._pool = pool
        self.store = Store.open(state_dir, wall_clock=time.time)
        clock, metrics = SystemClock(), Metrics(CollectorRegistry())
        self._recorder = Recorder(self.store, metrics, clock)
        self._queue = WorkQueue(clock, random.Random(1), metrics.queue)
        rng = random.Random(self.store.store_id + str(time.monotonic()))
        gatherer = FactGatherer(pool, self.store, clock, rng, Settings(grace=grace))
        client = InlineWorkerClient(kernel, ScanScope(pool, None, None, frozenset()), state_dir)
        self._reconciler = PoolReconciler(gatherer, client, self._recorder, self._queue)

    def turn(self, desired: Desired) -> None:
        """What the daemon does once in each resync, and what is due by then."""
        due = self._queue.take(self._pool, timeout=0.05)
        self._reconciler.reconcile(due | {Key(self._pool)}, desired.of_pool(self._pool), desired.loaded_at)

    def settle(self, records: Iterable[Record], within: float) -> None:
        """Until everything is as the records say."""
        desired = Desired.of(RecordSet.of(records), time.monotonic())
        end = time.monotonic() + within
        self.turn(desired)
        while not self._is_settled(desired):
            assert time.monotonic() < end, f"not settled within {within:.0f} s:\n{self._told()}"
            self.turn(desired)

    def _is_settled(self, desired: Desired) -> bool:
        statuses = self.statuses()
        asked = {record.key for record in desired}
        good = all(status.good for status in statuses.values())
        return asked <= statuses.keys() and good and not self.store.intents(self._pool)

    def _told(self) -> str:
        return "\n".join(f"{key}: {status.reason} {status.message}" for key, status in self.statuses().items())

    def statuses(self) -> dict[Key, Status]:
        return self._recorder.statuses()
