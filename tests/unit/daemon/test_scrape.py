"""A scrape tells what the last look found: it makes no kernel call, and waits for none, also while a pool hangs."""

from __future__ import annotations

import random
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from reconciler.controller.clock import SystemClock
from reconciler.controller.desired import Desired
from reconciler.controller.fact_gatherer import FactGatherer, Settings
from reconciler.controller.manager import Manager
from reconciler.controller.queue import WorkQueue
from reconciler.controller.recorder import Recorder
from reconciler.daemon.status_api import StatusApi
from reconciler.kernel.protocol import Kernel
from reconciler.kernel.simulated import Calls, SimulatedHost, simulated_kernel
from reconciler.kernel.worker.client import InlineWorkerClient
from reconciler.model.live import PoolScan, ScanRequest, ScanScope
from reconciler.model.names import Key
from reconciler.model.recordset import RecordSet
from reconciler.store.store import Store
from reconciler.telemetry.http.routes import StatusServer
from reconciler.telemetry.metrics import Metrics
from tests.simulation.simulated_daemon import device_record, pool_record

PATIENCE = 30.0
AT_ONCE = 2.0
"""Seconds: far less than a look that hangs is given, far more than a scrape takes."""


class HangingClient(InlineWorkerClient):
    """Whose looks do not return, once told so."""

    def __init__(self, kernel: Kernel, state_dir: Path) -> None:
        super().__init__(kernel, ScanScope("tank", None, None, frozenset()), state_dir)
        self.may_return = threading.Event()
        self.may_return.set()
        self.hangs = threading.Event()

    def look(self, request: ScanRequest) -> PoolScan:
        if not self.may_return.is_set():
            self.hangs.set()
            assert self.may_return.wait(PATIENCE)
        return super().look(request)


class Environment:
    """The controller with its threads and HTTP, on a simulated host with one pool and one device."""

    def __init__(self, store: Store, state_dir: Path) -> None:
        self.calls = Calls()
        kernel = simulated_kernel(SimulatedHost(), self.calls)
        registry, clock = CollectorRegistry(), SystemClock()
        metrics = Metrics(registry)
        recorder = Recorder(store, metrics, clock)
        self.port = HangingClient(kernel, state_dir)
        rng = random.Random(1)
        queue = WorkQueue(clock, rng, metrics.queue)

        def gatherer_of(pool: str) -> FactGatherer:
            return FactGatherer(pool, store, clock, rng, Settings())

        self.controller = Manager(store, recorder, metrics, queue, gatherer_of, lambda _: self.port)
        status_api = StatusApi(store, recorder, self.controller, clock, resync=1.0)
        self.http = StatusServer(("127.0.0.1", 0), status_api, registry)
        self.http.start()
        self.controller.set_desired(Desired.of(RecordSet.of([pool_record(), device_record("app")]), clock.now()))
        until(lambda: recorder.is_converged(Key("tank")) and recorder.is_converged(Key("tank", "app")))
        until(lambda: self.controller.all_passed() and not self.controller.longest_running())

    def scrape(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http.port}/metrics", timeout=PATIENCE) as answer:
            return str(answer.read().decode())


def until(ask: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not ask():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    with Store.open(tmp_path / "state", wall_clock=time.time) as store:
        environment = Environment(store, tmp_path / "state")
        yield environment
        environment.port.may_return.set()
        environment.controller.stop()
        environment.http.stop()


def test_a_scrape_makes_no_kernel_call(environment: Environment) -> None:
    before = len(environment.calls.made)
    for _ in range(3):
        assert 'dm_reconciler_device_ready{device="app",pool="tank"} 1.0' in environment.scrape()
    assert len(environment.calls.made) == before > 0


def test_a_scrape_does_not_wait_for_a_pool_that_hangs_and_tells_what_was_last_seen(environment: Environment) -> None:
    calm = environment.scrape()
    environment.port.may_return.clear()
    environment.controller.resync()
    assert environment.port.hangs.wait(PATIENCE)
    begun = time.monotonic()
    told = environment.scrape()
    assert time.monotonic() - begun < AT_ONCE
    assert not environment.port.may_return.is_set(), "it hung all the while"
    figures = [line for line in calm.splitlines() if line.startswith("dm_reconciler_pool_data_")]
    assert len(figures) == 3
    assert set(figures) <= set(told.splitlines())
