from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from reconciler.model.condition import Reason
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.report import DeviceStatus, PoolStatusReport
from reconciler.model.status import PoolMode
from reconciler.model.units import Bytes
from reconciler.telemetry.exposition import expose
from reconciler.telemetry.metrics import Metrics

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

BASE = DeviceStatus(
    key=Key("tank", "base"),
    live=LiveState.ACTIVE,
    reason=Reason.CONVERGED,
    message="",
    since=0.0,
    good=True,
    size=Bytes(10 * 1024**3),
    mapped=Bytes(65536),
)
TANK = PoolStatusReport(
    key=Key("tank"),
    live=LiveState.ACTIVE,
    reason=Reason.CONVERGED,
    message="",
    since=0.0,
    good=True,
    mode=PoolMode.RW,
    data_used=Bytes(1024),
    data_size=Bytes(4096),
    metadata_used=Bytes(512),
    metadata_size=Bytes(2048),
    leaked_ids=(3, 9),
    leaked=Bytes(8192),
)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


def busy(registry: CollectorRegistry) -> Metrics:
    metrics = Metrics(registry)
    metrics.build_info("1", "6.1", "1.02")
    metrics.status(TANK, "Active")
    metrics.status(BASE, "Active")
    metrics.status(replace(BASE, key=Key("tank", 'od"d\\')), "Active")
    metrics.drift("ThinDevice", Reason.SUSPENDED)
    metrics.healed("ThinDevice", Reason.SUSPENDED, "success", 0.2, BASE.key)
    metrics.action("resume", "success", 0.003)
    return metrics


@pytest.mark.parametrize(
    ("accept", "encode", "parse"),
    [("", generate_latest, parse_text), (OPENMETRICS, generate_openmetrics, parse_openmetrics)],
)
def test_both_formats_say_what_the_library_itself_would_say(
    registry: CollectorRegistry,
    accept: str,
    encode: Callable[[Collector], bytes],
    parse: Callable[[str], list[Metric]],
) -> None:
    busy(registry)
    ours = [family for family in parse(expose(registry, accept)[0].decode()) if not family.name.endswith("_created")]
    theirs = [family for family in parse(encode(registry).decode()) if not family.name.endswith("_created")]
    for family in theirs:
        family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    assert ours == theirs


@pytest.mark.usefixtures("metrics")
def test_the_format_is_negotiated(registry: CollectorRegistry) -> None:
    body, content_type = expose(registry, OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    assert body.count(b"# EOF\n") == 1
    body, content_type = expose(registry, "text/html")
    assert content_type.startswith("text/plain")
    assert b"# EOF" not in body


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=x", "text/plain; version=1.x", ";;=,,"])
@pytest.mark.usefixtures("metrics")
def test_a_version_that_is_none_gets_plain_text(registry: CollectorRegistry, accept: str) -> None:
    assert expose(registry, accept)[1].startswith("text/plain")


def test_a_scrape_of_a_thousand_devices_costs_a_fraction_of_the_librarys_own(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    for number in range(1000):
        metrics.status(replace(BASE, key=Key("tank", f"device-{number}")), "Active")
    encode: Callable[[Collector], bytes] = generate_openmetrics
    ours = best_of(5, lambda: expose(registry, OPENMETRICS))
    theirs = best_of(5, lambda: encode(registry))
    assert ours < theirs / 2


def best_of(times: int, work: Callable[[], object]) -> float:
    """Seconds of thread time, so that a busy machine does not count."""

    def once() -> float:
        start = time.thread_time()
        work()
        return time.thread_time() - start

    return min(once() for _ in range(times))


def test_promtool_finds_nothing_to_say(registry: CollectorRegistry) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool IS NOT INSTALLED: the names and types of the metrics were not linted")
    busy(registry)
    done = subprocess.run(
        [promtool, "check", "metrics"], input=expose(registry, "")[0], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
