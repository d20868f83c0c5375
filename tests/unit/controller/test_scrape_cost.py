"""The CPU time of a scrape, compared with a pass that scans everything, on the simulated kernel."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from reconciler.telemetry.collector import Exposition
from reconciler.telemetry.metrics import Metrics
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, device_record, pool_record
from tests.testing.thread_time import best_of

DEVICES = 200


class Scraped(SimulatedDaemon):
    """A daemon whose registry can be scraped."""

    def _new_metrics(self) -> Metrics:
        self.registry = CollectorRegistry()
        return Metrics(self.registry)


def test_a_scrape_costs_less_than_a_tenth_of_a_pass(tmp_path: Path) -> None:
    daemon = Scraped(tmp_path / "state")
    daemon.declare(pool_record(), *(device_record(f"d{number}", size="64KiB") for number in range(DEVICES)))
    daemon.settle()
    exposition = Exposition(daemon.registry)

    def whole_pass() -> None:
        daemon.pool_controllers[POOL].start_over()
        daemon.resync()
        daemon.work()

    one_pass = best_of(3, whole_pass)
    scrape = best_of(5, lambda: exposition.answer(""))
    daemon.store.close()
    assert exposition.answer("")[0].count(b"dm_reconciler_device_ready{") == DEVICES
    assert scrape < one_pass / 10
