"""What a scrape costs beside a pass that looks at everything, in CPU time, on the simulated kernel."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from reconciler.telemetry.collector import Exposition
from reconciler.telemetry.metrics import Metrics
from tests.simulation.house import POOL, House, device_record, pool_record
from tests.testing.thread_time import best_of

DEVICES = 200


class Scraped(House):
    """With a registry that can be asked."""

    def _new_metrics(self) -> Metrics:
        self.registry = CollectorRegistry()
        return Metrics(self.registry)


def test_a_scrape_costs_less_than_a_tenth_of_a_pass(tmp_path: Path) -> None:
    house = Scraped(tmp_path / "state")
    house.declare(pool_record(), *(device_record(f"d{number}", size="64KiB") for number in range(DEVICES)))
    house.settle()
    exposition = Exposition(house.registry)

    def whole_pass() -> None:
        house.pool_controllers[POOL].start_over()
        house.resync()
        house.work()

    one_pass = best_of(3, whole_pass)
    scrape = best_of(5, lambda: exposition.answer(""))
    house.store.close()
    assert exposition.answer("")[0].count(b"dm_reconciler_device_ready{") == DEVICES
    assert scrape < one_pass / 10
