"""The real controller, planner and store over a simulated kernel, on a clock that is moved by hand.

InlineControllers are worked on in turn, in this thread, as their own threads would: the queue says when each is due.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from reconciler.controller.desired import Desired
from reconciler.controller.fact_gatherer import FactGatherer, Settings
from reconciler.controller.queue import WorkQueue
from reconciler.controller.reconciler import PoolReconciler
from reconciler.controller.recorder import Recorder
from reconciler.kernel.protocol import Kernel
from reconciler.kernel.simulated import Call, Calls, Crashed, simulated_kernel
from reconciler.kernel.worker.client import InlineWorkerClient, WorkerClient
from reconciler.model.conditions import Status
from reconciler.model.live import DeviceInfo, ScanScope
from reconciler.model.names import Key
from reconciler.model.records import API_VERSION, Record, ThinDevice, ThinPool
from reconciler.model.recordset import PoolRecords, RecordSet
from reconciler.model.steps import StoreStep
from reconciler.model.stored import StoredDevice
from reconciler.store.store import Store
from reconciler.telemetry.metrics import Metrics
from tests.simulation.host import PlayedHost
from tests.testing.queue import next_due

POOL = "tank"
RESYNC = 1.0
PATIENCE = 900.0
"""Seconds of the simulated clock: more than the longest time between two tries."""


@dataclass
class HandClock:
    time: float = 1000.0
    offset: float = 0.0
    """By how much the host's time of day was set otherwise."""

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 1_700_000_000 + self.time + self.offset


def pool_record(name: str = POOL, **spec: Any) -> ThinPool:
    places = {
        "data": {"file": f"/srv/{name}.data", "size": "16MiB"},
        "metadata": {"file": f"/srv/{name}.meta", "size": "4MiB"},
    }
    return ThinPool.model_validate(_document("ThinPool", name, {**places, **spec}))


def device_record(name: str, pool: str = POOL, **spec: Any) -> ThinDevice:
    """1 MiB, where nothing else is said."""
    size = {} if {"snapshotOf", "size"} & spec.keys() else {"size": "1MiB"}
    return ThinDevice.model_validate(_document("ThinDevice", name, {"pool": pool, **size, **spec}))


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


@cache
def _metrics() -> Metrics:
    """One for all daemons, as making its series is most of a start: who asks what is counted makes an own one."""
    return Metrics(CollectorRegistry())


class SimulatedDaemon:
    """One daemon on one host. The host, the state directory and the clock outlive the daemon."""

    def __init__(self, state_dir: Path, host: PlayedHost | None = None, settings: Settings | None = None) -> None:
        self.state_dir = state_dir
        self._settings = settings or Settings()
        self.host = host or PlayedHost()
        self.clock = HandClock()
        self.calls = Calls()
        self._desired = Desired()
        self._resynced = 0.0
        self._starts = 0
        self.start()

    # The daemon

    def start(self, calls: Calls | None = None) -> None:
        self.calls = calls or Calls()
        self.kernel: Kernel = simulated_kernel(self.host, self.calls)
        self.store = Store.open(self.state_dir, wall_clock=self.clock.wall)
        # A test that makes a daemon for each moment of a scenario leaves them to the garbage collector.
        weakref.finalize(self, self.store._db._connection.close)
        self._watch_store(self.store)
        self.metrics = self._new_metrics()
        self.recorder = Recorder(self.store, self.metrics, self.clock)
        self._starts += 1
        self.rng = random.Random(f"{self.state_dir.name} {self._starts}")  # no start gives a UUID twice
        self.queue = WorkQueue(self.clock, self.rng, self.metrics.queue)
        self.pool_controllers: dict[str, PoolReconciler] = {}
        self.declare(*self._desired)

    def _new_metrics(self) -> Metrics:
        return _metrics()

    def _watch_store(self, store: Store) -> None:
        """The store's steps are calls too: a crash may come before and after each."""
        inner, calls = store.apply, self.calls

        def apply(step: StoreStep) -> None:
            call = Call("store", type(step).__name__, (step,))
            calls.check()
            calls.made.append(call)
            calls.before(call)
            inner(step)
            calls.after(call)

        store.apply = apply  # type: ignore[method-assign]

    def kill(self) -> None:
        """Nothing of the daemon goes on; its store is as it was flushed last."""
        self.calls.dead = True
        self.store.close()

    def restart(self) -> None:
        self.kill()
        self.start()

    def power_cut(self) -> None:
        self.kill()
        self.host.power_cut()
        self.start()

    # Records

    def declare(self, *records: Record) -> None:
        """These, and no others, from now on."""
        self._desired = Desired.of(RecordSet.of(records), self.clock.now()).after(self._desired)
        pools = {record.key.pool for record in records} | set(self.store.known_pools())
        for name in sorted(pools - self.pool_controllers.keys()):
            self.pool_controllers[name] = self._controller_of(name)
        self.resync()

    def also(self, *records: Record) -> None:
        """These too, or in the place of those of the same key."""
        kept = {record.key: record for record in self._desired}
        self.declare(*(kept | {record.key: record for record in records}).values())

    def without(self, name: str) -> None:
        self.declare(*(record for record in self._desired if record.key != Key(POOL, name)))

    def client_of(self, name: str) -> WorkerClient:
        return InlineWorkerClient(self.kernel, ScanScope(name, None, None, frozenset()), self.state_dir)

    def _controller_of(self, name: str) -> PoolReconciler:
        gatherer = FactGatherer(name, self.store, self.clock, self.rng, self._settings)
        latest = partial(self._records_of, name)
        return PoolReconciler(gatherer, self.client_of(name), self.recorder, self.queue, latest=latest)

    def _records_of(self, name: str) -> PoolRecords:
        return self._desired.of_pool(name)

    # Time

    def resync(self) -> None:
        self._resynced = self.clock.now()
        for name in self.pool_controllers:
            self.queue.add(Key(name))

    def hear(self, dm_name: str) -> None:
        """Of an event of the device, as udev tells it."""
        for name, pool_controller in self.pool_controllers.items():
            key = Key(name) if dm_name == name else pool_controller.key_of(dm_name)
            if key is not None:
                self.queue.add(key)

    def work(self) -> None:
        """All that is due now."""
        for name, pool_controller in self.pool_controllers.items():
            while keys := self.queue.take(name, timeout=0.0):
                pool_controller.reconcile(keys, self._desired.of_pool(name), self._desired.loaded_at)

    def run(self, seconds: float) -> None:
        """Work, and move the clock to what is due next, for so long."""
        end = self.clock.now() + seconds
        self.work()
        while self.clock.now() < end:
            due = [next_due(self.queue, name) for name in self.pool_controllers]
            nexts = [time for time in due if time is not None] + [self._resynced + RESYNC]
            self.clock.time = max(self.clock.time + 0.001, min(*nexts, end))
            if self.clock.now() >= self._resynced + RESYNC:
                self.resync()
            self.work()

    def settle(self) -> None:
        """Until everything is as desired, and stays so."""
        end = self.clock.now() + PATIENCE
        while self.clock.now() < end:
            self.run(RESYNC)
            if self.is_settled():
                return
        told = "\n".join(f"{key}: {s.reason} {s.message}" for key, s in self.recorder.statuses().items())
        raise AssertionError(f"not settled within {PATIENCE:.0f} s:\n{told}")

    def is_settled(self) -> bool:
        statuses = self.recorder.statuses()
        asked = {record.key for record in self._desired}
        intents = any(self.store.intents(pool) for pool in self.pool_controllers)
        return asked <= statuses.keys() and all(status.good for status in statuses.values()) and not intents

    # What is so

    def status(self, name: str, pool: str = POOL) -> Status:
        return self.recorder.statuses()[Key(pool, name)]

    @property
    def outside(self) -> Kernel:
        """The host as whoever is no part of the daemon has it."""
        return simulated_kernel(self.host)

    def info(self, name: str) -> DeviceInfo | None:
        """By dm name, asked past the daemon."""
        return self.outside.dm.info(name)

    def known(self, name: str, pool: str = POOL) -> StoredDevice:
        return self.store.known_devices(pool)[name]

    def content(self, name: str, pool: str = POOL) -> dict[int, str]:
        """What is written on a device, live or not."""
        return dict(self.host.thin(pool, self.known(name, pool).thin_id).content)

    def ids(self, pool: str = POOL) -> set[int]:
        return set(self.host.image(pool).thins)

    def check(self) -> None:
        """What must be so of any host at rest, whatever happened before."""
        for pool in self.pool_controllers:
            if pool not in self.host.devices.by_name:
                continue
            named = {device.thin_id for device in self.store.known_devices(pool).values()}
            assert self.ids(pool) == named | self.store.taken(pool), "a thin id has leaked, or was lost"
            assert not self.store.taken(pool), "nobody else is here to have taken an id"
            known = self.store.known_pool(pool)
            assert known is not None
            assert self.host.image(pool).transaction_id == known.transaction_id
            assert self.host.image(pool).held is None, "a metadata snapshot is still held"
        for device in self.host.devices.by_name.values():
            assert not device.suspended, f"{device.name} is left suspended"
            assert device.live is not None, f"{device.name} is left half made"
            assert device.inactive is None, f"a table is left waiting in {device.name}"
            assert not device.name.endswith(".private"), f"{device.name} is left behind"


Scene = Callable[[SimulatedDaemon], None]


@contextmanager
def a_simulated_daemon(state_dir: Path) -> Iterator[SimulatedDaemon]:
    daemon = SimulatedDaemon(state_dir)
    try:
        yield daemon
    finally:
        with suppress(Crashed):
            daemon.store.close()
