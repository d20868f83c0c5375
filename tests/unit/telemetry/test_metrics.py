from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families as parse_text

from reconciler.model.conditions import DRIFT, Reason
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from reconciler.model.steps import HostStep
from reconciler.telemetry import collector
from reconciler.telemetry.collector import RECORD_FAMILIES, Exposition
from reconciler.telemetry.metrics import ACTIONS, KINDS, RESULTS, Metrics
from tests.unit.telemetry.statuses import BASE, TANK

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


def text(registry: CollectorRegistry) -> str:
    return Exposition(registry).answer("")[0].decode()


def series(registry: CollectorRegistry, name: str, /, **labels: str) -> dict[tuple[str, ...], float]:
    """Values of the series of that name that have these labels, by the values of their other labels."""
    found = {}
    lines = [line for line in text(registry).splitlines() if line.startswith(name)]
    for family in parse_text("\n".join(lines) + "\n"):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                found[tuple(value for key, value in sample.labels.items() if key not in labels)] = sample.value
    return found


def about_base(registry: CollectorRegistry) -> list[str]:
    return [line for line in text(registry).splitlines() if 'device="base"' in line]


@pytest.mark.usefixtures("metrics")
def test_every_series_of_a_closed_set_is_there_before_anything_has_happened(registry: CollectorRegistry) -> None:
    drifts = series(registry, "dm_reconciler_drift_detected_total")
    heals = series(registry, "dm_reconciler_heals_total")
    actions = series(registry, "dm_reconciler_actions_total")
    assert len(drifts) == len(KINDS) * len(DRIFT)
    assert len(heals) == len(KINDS) * len(DRIFT) * len(RESULTS)
    assert len(actions) == len(ACTIONS) * len(RESULTS)
    assert {*drifts.values(), *heals.values(), *actions.values()} == {0.0}
    assert len(series(registry, "dm_reconciler_heal_duration_seconds_count")) == len(DRIFT)
    assert len(series(registry, "dm_reconciler_action_duration_seconds_count")) == len(ACTIONS)
    for name in ("records", "reconcile_duration_seconds_count", "resync_duration_seconds_count"):
        assert set(series(registry, f"dm_reconciler_{name}")) == {("ThinPool",), ("ThinDevice",)}


def test_every_step_on_the_host_has_its_action() -> None:
    assert sorted(ACTIONS) == sorted({step.action for step in HostStep.__subclasses__()})
    assert "" not in ACTIONS
    assert len(ACTIONS) > 20


def test_every_family_that_is_declared_is_served() -> None:
    declared = [each for each in vars(collector).values() if isinstance(each, collector.Family)]
    assert list(RECORD_FAMILIES) == declared


def test_a_device_is_told_with_one_series_a_state_and_only_its_present_reason(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics.status(BASE, "Active")
    of_base = {"pool": "tank", "device": "base"}
    assert series(registry, "dm_reconciler_device_ready", **of_base) == {(): 1.0}
    assert series(registry, "dm_reconciler_device_reason", **of_base) == {("Converged",): 1.0}
    assert series(registry, "dm_reconciler_device_desired_state", **of_base) == {
        ("Active",): 1.0,
        ("Inactive",): 0.0,
        ("Committed",): 0.0,
        ("Absent",): 0.0,
    }
    live = series(registry, "dm_reconciler_device_live_state", **of_base)
    assert live == {(state.value,): float(state is LiveState.ACTIVE) for state in LiveState}
    assert series(registry, "dm_reconciler_device_size_bytes", **of_base) == {(): 10.0 * 1024**3}
    assert series(registry, "dm_reconciler_device_mapped_bytes", **of_base) == {(): 65536.0}
    assert series(registry, "dm_reconciler_device_heals_total", **of_base) == {(): 0.0}


def test_a_reason_that_is_no_longer_true_is_no_longer_told(registry: CollectorRegistry, metrics: Metrics) -> None:
    for reason in (Reason.CONVERGED, Reason.SUSPENDED, Reason.BUSY):
        metrics.status(replace(BASE, reason=reason, live=LiveState.SUSPENDED), "Active")
        assert series(registry, "dm_reconciler_device_reason", device="base") == {("tank", reason.value): 1.0}
    assert list(series(registry, "dm_reconciler_device_ready").values()) == [0.0]


def test_a_size_that_nobody_can_tell_has_no_series(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.status(BASE, "Active")
    metrics.status(replace(BASE, size=None, mapped=None, live=LiveState.UNKNOWN), "Active")
    assert series(registry, "dm_reconciler_device_size_bytes") == {}
    assert series(registry, "dm_reconciler_device_mapped_bytes") == {}


def test_a_pool_is_told_with_its_figures_mode_and_leaks(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.status(TANK, "Active")
    figures = {
        "data_used": 1024.0,
        "data_size": 4096.0,
        "data_limit": 16384.0,
        "metadata_used": 512.0,
        "metadata_size": 2048.0,
        "metadata_limit": 8192.0,
    }
    told = {name: series(registry, f"dm_reconciler_pool_{name}_bytes", pool="tank")[()] for name in figures}
    assert told == figures
    mode = series(registry, "dm_reconciler_pool_mode", pool="tank")
    assert mode == {(mode.value,): float(mode is PoolMode.RW) for mode in PoolMode}
    assert series(registry, "dm_reconciler_pool_leaked_thin_ids") == {("tank",): 2.0}
    assert series(registry, "dm_reconciler_pool_leaked_bytes") == {("tank",): 8192.0}
    assert series(registry, "dm_reconciler_pool_ready") == {("tank",): 1.0}
    assert series(registry, "dm_reconciler_pool_reason", pool="tank") == {("Converged",): 1.0}


def test_every_series_of_a_vanished_record_is_dropped(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.status(TANK, "Active")
    metrics.status(BASE, "Active")
    metrics.healed("ThinDevice", Reason.SUSPENDED, "success", 0.2, BASE.key)
    assert about_base(registry)
    metrics.forget(BASE.key)
    assert about_base(registry) == []
    assert 'pool="tank"' in text(registry)
    metrics.forget(TANK.key)
    assert 'pool="tank"' not in text(registry)
    metrics.forget(TANK.key)


def test_a_heal_that_ends_after_its_record_vanished_brings_no_series_back(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics.status(BASE, "Absent")
    metrics.forget(BASE.key)
    metrics.healed("ThinDevice", Reason.PRESENT_BUT_DESIRED_ABSENT, "success", 0.2, BASE.key)
    assert about_base(registry) == []


def test_heals_are_counted_by_reason_and_by_device(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.status(BASE, "Active")
    metrics.drift("ThinDevice", Reason.SUSPENDED)
    metrics.healed("ThinDevice", Reason.SUSPENDED, "error", 1.0, BASE.key)
    metrics.healed("ThinDevice", Reason.SUSPENDED, "success", 3.0, BASE.key)
    metrics.status(BASE, "Active")
    suspended = {"kind": "ThinDevice", "reason": "Suspended"}
    assert series(registry, "dm_reconciler_drift_detected_total", **suspended) == {(): 1.0}
    assert series(registry, "dm_reconciler_heals_total", **suspended) == {("success",): 1.0, ("error",): 1.0}
    assert series(registry, "dm_reconciler_heal_duration_seconds_sum", reason="Suspended") == {(): 3.0}
    assert list(series(registry, "dm_reconciler_device_heals_total").values()) == [1.0]


def test_a_pools_heals_are_its_own_and_no_devices(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.status(TANK, "Active")
    assert series(registry, "dm_reconciler_pool_heals_total") == {("tank",): 0.0}
    metrics.healed("ThinPool", Reason.POOL_SUSPENDED, "success", 3.0, TANK.key)
    assert series(registry, "dm_reconciler_pool_heals_total") == {("tank",): 1.0}
    assert series(registry, "dm_reconciler_device_heals_total") == {}


def test_actions_passes_and_turns_are_counted(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.action("resume", "success", 0.003)
    metrics.reconcile("ThinDevice", 0.01)
    metrics.resync(0.5)
    metrics.resync_interval(1.0)
    assert series(registry, "dm_reconciler_actions_total", action="resume", result="success") == {(): 1.0}
    assert series(registry, "dm_reconciler_action_duration_seconds_sum", action="resume") == {(): 0.003}
    assert series(registry, "dm_reconciler_reconcile_duration_seconds_count", kind="ThinDevice") == {(): 1.0}
    assert set(series(registry, "dm_reconciler_resync_duration_seconds_sum").values()) == {0.5}
    assert set(series(registry, "dm_reconciler_resync_interval_seconds").values()) == {1.0}


def test_errors_in_the_manifests_leave_what_is_told_of_the_set_in_force(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics.in_force({"ThinPool": 1, "ThinDevice": 3}, 1000.0)
    metrics.manifest_errors(2)
    assert series(registry, "dm_reconciler_manifest_errors") == {(): 2.0}
    assert series(registry, "dm_reconciler_manifest_last_load_timestamp_seconds") == {(): 1000.0}
    assert series(registry, "dm_reconciler_records") == {("ThinPool",): 1.0, ("ThinDevice",): 3.0}
    metrics.in_force({}, 2000.0)
    assert set(series(registry, "dm_reconciler_records").values()) == {0.0}


def test_what_no_record_names_and_is_retained_has_no_series_and_is_counted(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    orphan = replace(BASE, reason=Reason.ORPHANED, good=True)
    metrics.status(BASE, "Active")
    for _ in range(2):
        metrics.status(orphan, "")
        assert series(registry, "dm_reconciler_device_ready") == {}
        assert series(registry, "dm_reconciler_retained") == {("ThinPool",): 0.0, ("ThinDevice",): 1.0}
    metrics.status(BASE, "Active")
    assert len(series(registry, "dm_reconciler_device_ready")) == 1
    assert set(series(registry, "dm_reconciler_retained").values()) == {0.0}
    metrics.status(orphan, "")
    metrics.forget(orphan.key)
    assert set(series(registry, "dm_reconciler_retained").values()) == {0.0}


def test_what_no_record_names_and_is_taken_down_has_series_until_it_is(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics.status(replace(BASE, reason=Reason.BUSY, good=False), "")
    assert len(series(registry, "dm_reconciler_device_ready")) == 1


def test_turns_are_counted_and_the_store_is_writable_until_told_otherwise(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    assert series(registry, "dm_reconciler_store_writable") == {(): 1.0}
    metrics.store_writable(False)
    metrics.turned()
    assert series(registry, "dm_reconciler_store_writable") == {(): 0.0}
    assert series(registry, "dm_reconciler_turns_total") == {(): 1.0}


def test_it_observes_only_where_told_to(registry: CollectorRegistry, metrics: Metrics) -> None:
    assert series(registry, "dm_reconciler_observe_only") == {(): 0.0}
    metrics.observe_only(True)
    assert series(registry, "dm_reconciler_observe_only") == {(): 1.0}


def test_the_queue_tells_of_itself(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.queue.add()
    metrics.queue.retry()
    metrics.queue.started(0.25)
    metrics.queue.done(0.5)
    metrics.queue.depth(4)
    metrics.queue.longest_running(9.0)
    told = {
        "depth": 4.0,
        "adds_total": 1.0,
        "retries_total": 1.0,
        "queue_duration_seconds_sum": 0.25,
        "work_duration_seconds_sum": 0.5,
        "longest_running_seconds": 9.0,
    }
    assert {name: series(registry, f"dm_reconciler_workqueue_{name}", name="records")[()] for name in told} == told


def test_versions_told_again_replace_the_first(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.build_info("1", "6.1", "unknown")
    metrics.build_info("1", "6.1", "1.02.185")
    assert series(registry, "dm_reconciler_build_info", version="1", kernel="6.1") == {("1.02.185",): 1.0}


@pytest.mark.usefixtures("metrics")
def test_a_second_set_of_metrics_needs_its_own_registry(registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Metrics(registry)
    Metrics(CollectorRegistry())


@pytest.mark.usefixtures("metrics")
def test_every_metric_has_help_and_those_of_bytes_and_seconds_say_their_unit(registry: CollectorRegistry) -> None:
    for family in registry.collect():
        assert family.documentation.endswith((".", ".)")), family.name
        word = family.name.rpartition("_")[2]
        assert family.unit == (word if word in {"bytes", "seconds"} else ""), family.name


@pytest.mark.usefixtures("metrics")
def test_the_reference_names_every_metric_and_no_other(registry: CollectorRegistry) -> None:
    told = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in registry.collect()
        if not family.name.endswith("_created")
    }
    rows = [line for line in REFERENCE.read_text().splitlines() if line.startswith("| `dm_reconciler_")]
    written = {name for row in rows for name in re.findall(r"`(dm_reconciler_[a-z_]+)`", row.split("|")[1])}
    assert written == told
    assert {family.name for family in RECORD_FAMILIES} <= told


def test_the_reference_names_every_action_and_bucketed_reason() -> None:
    page = REFERENCE.read_text()
    assert [word for word in (*ACTIONS, *Reason) if f"`{word}`" not in page] == []
