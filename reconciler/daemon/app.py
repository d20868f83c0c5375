"""Wires one process that reconciles: the daemon, or a command that does the same work once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from reconciler import __version__
from reconciler.controller.clock import SystemClock, system_random
from reconciler.controller.fact_gatherer import FactGatherer, Settings
from reconciler.controller.manager import Manager
from reconciler.controller.queue import WorkQueue
from reconciler.controller.recorder import Progress, Recorder
from reconciler.daemon.record_loader import RecordLoader
from reconciler.kernel.protocol import DeviceMapper
from reconciler.kernel.worker.client import ProcessWorkerClient, WorkerClient
from reconciler.model.live import ScanScope
from reconciler.sources.base import RecordSource
from reconciler.store.store import Store
from reconciler.telemetry.metrics import Metrics


def host_client(state_dir: Path, *, lock: bool) -> Callable[[str], WorkerClient]:
    """Makes worker clients for the real host. Each starts its worker process with its first question."""

    def client_of(pool: str) -> WorkerClient:
        return ProcessWorkerClient(ScanScope(pool, None, None, frozenset()), state_dir, lock=lock)

    return client_of


class App:
    """The parts of one process that reconciles, wired and not started."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        client_of: Callable[[str], WorkerClient],
        progress: Progress | None = None,
    ) -> None:
        self.clock = SystemClock()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.metrics.observe_only(settings.observe_only)
        self.store = store
        self.recorder = Recorder(store, self.metrics, self.clock, progress)
        rng = system_random()
        queue = WorkQueue(self.clock, rng, self.metrics.queue)

        def gatherer_of(pool: str) -> FactGatherer:
            return FactGatherer(pool, store, self.clock, rng, settings)

        self.controller = Manager(store, self.recorder, self.metrics, queue, gatherer_of, client_of)

    def loader(self, sources: Sequence[RecordSource], node: str) -> RecordLoader:
        """The record loader. `sources` in the order that `RecordLoader` asks for: the manifests first."""
        return RecordLoader(sources, node, self.store, self.metrics, self.clock)

    def tell_build(self, dm: DeviceMapper) -> None:
        """Sets the build metrics. Raises HostError if the host has no device-mapper."""
        library, _ = dm.versions()
        self.metrics.build_info(__version__, os.uname().release, library)
