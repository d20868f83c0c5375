from __future__ import annotations

import shutil
import subprocess
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

from reconciler.model.conditions import Reason
from reconciler.model.names import Key
from reconciler.telemetry.collector import OPENMETRICS, TEXT, Exposition
from reconciler.telemetry.metrics import Metrics
from tests.testing.thread_time import best_of
from tests.unit.telemetry.statuses import BASE, TANK

ASKS_OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PROMETHEUS = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
"""What Prometheus 2.42 asks for."""
PROMETHEUS_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"


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
    [("", generate_latest, parse_text), (ASKS_OPENMETRICS, generate_openmetrics, parse_openmetrics)],
)
def test_both_formats_say_what_the_library_itself_would_say(
    registry: CollectorRegistry,
    accept: str,
    encode: Callable[[Collector], bytes],
    parse: Callable[[str], list[Metric]],
) -> None:
    busy(registry)
    ours = [
        family
        for family in parse(Exposition(registry).answer(accept)[0].decode())
        if not family.name.endswith("_created")
    ]
    theirs = [family for family in parse(encode(registry).decode()) if not family.name.endswith("_created")]
    for family in theirs:
        family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    assert ours == theirs


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html", TEXT),
        ("text/plain", TEXT),
        (ASKS_OPENMETRICS, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0", OPENMETRICS),
        (PROMETHEUS, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        ("application/openmetrics-text; version=0.0.1", TEXT),
        ("application/openmetrics-text; version=2.0.0", TEXT),
        ("application/openmetrics-text; version=x", TEXT),
        ("application/openmetrics-text; q=0", TEXT),
        ("application/openmetrics-text; q=nan", TEXT),
        ("application/openmetrics-text; q=0.5, text/plain; q=0.9", TEXT),
        ("text/plain; q=0.5, application/openmetrics-text; q=0.9", OPENMETRICS),
        ("text/plain; version=1.0.0; escaping=dots", TEXT),
        (";;=,,", TEXT),
    ],
)
@pytest.mark.usefixtures("metrics")
def test_the_format_is_negotiated(registry: CollectorRegistry, accept: str, expected: str) -> None:
    body, content_type = Exposition(registry).answer(accept)
    assert content_type == expected
    assert body.count(b"# EOF\n") == (expected == OPENMETRICS)
    assert body.endswith(b"# EOF\n") == (expected == OPENMETRICS)
    assert b"\ndm_reconciler_turns_total 0.0\n" in body


def test_what_changes_between_two_scrapes_is_told_by_the_second(registry: CollectorRegistry) -> None:
    metrics, exposition = busy(registry), Exposition(registry)
    for accept in ("", ASKS_OPENMETRICS) * 2:
        metrics.drift("ThinPool", Reason.POOL_LOW)
        metrics.status(replace(BASE, reason=Reason.BUSY), "Active")
        metrics.reconcile("ThinDevice", 0.5)
        told = exposition.answer(accept)
        assert told == Exposition(registry).answer(accept), "nothing of the first is left over"
        assert b'reason="Busy"' in told[0]
        metrics.status(BASE, "Active")
        assert b'reason="Busy"' not in exposition.answer(accept)[0]


def test_openmetrics_tells_units(registry: CollectorRegistry) -> None:
    busy(registry)
    parse: Callable[[str], list[Metric]] = parse_openmetrics
    families = list(parse(Exposition(registry).answer(ASKS_OPENMETRICS)[0].decode()))
    units = {family.name.removeprefix("dm_reconciler_"): family.unit for family in families}
    assert units["pool_data_used_bytes"] == "bytes"
    assert units["heal_duration_seconds"] == "seconds"
    assert units["device_ready"] == ""


def test_a_scrape_of_a_thousand_devices_costs_a_fraction_of_the_librarys_own(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    for number in range(1000):
        metrics.status(replace(BASE, key=Key("tank", f"device-{number}")), "Active")
    encode: Callable[[Collector], bytes] = generate_openmetrics
    exposition = Exposition(registry)
    ours = best_of(5, lambda: exposition.answer(ASKS_OPENMETRICS))
    theirs = best_of(5, lambda: encode(registry))
    assert ours < theirs / 5


def test_promtool_finds_nothing_to_say(registry: CollectorRegistry) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool IS NOT INSTALLED: the names and types of the metrics were not linted")
    busy(registry)
    done = subprocess.run(
        [promtool, "check", "metrics"], input=Exposition(registry).answer("")[0], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
