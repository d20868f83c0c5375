"""A real Prometheus scrapes the daemon: what is broken and healed is asked of Prometheus, not of the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.pools import dmsetup, exists, is_suspended, pool_status, write
from tests.testing.prometheus import Prometheus, scraping
from tests.testing.real_kernel import MIB

GRACE = 1.0


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool(), env.device("gone"), env.device("frozen"), env.device("done", state="Committed"))
        env.start("--suspend-grace", f"{GRACE}s")
        yield env


@pytest.fixture(scope="module")
def prometheus(env: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with scraping([env.port], tmp_path_factory.mktemp("prometheus")) as prometheus:
        for name in ("gone", "frozen", "done"):
            env.wait(name)
        prometheus.until('up{job="dm-reconciler"}')
        prometheus.until("sum(dm_reconciler_device_ready)", 3)
        yield prometheus


def test_faults_and_their_healing_are_seen_by_prometheus(env: Environment, prometheus: Prometheus) -> None:
    gone, frozen, done = (env.dm_name(name) for name in ("gone", "frozen", "done"))
    table = env.thin_table("done")
    dmsetup("remove", "--retry", gone)
    dmsetup("suspend", frozen)
    dmsetup("create", done, "--table", table)
    reasons = {"InactiveButDesiredActive", "Suspended", "CommittedButActive"}
    for reason in sorted(reasons):
        of = f'kind="ThinDevice", reason="{reason}"'
        prometheus.until(f"dm_reconciler_drift_detected_total{{{of}}}")
        prometheus.until(f'dm_reconciler_heals_total{{{of}, result="success"}}')
        prometheus.until(f'dm_reconciler_heal_duration_seconds_count{{reason="{reason}"}}')
    for name in ("gone", "frozen", "done"):
        seen = f'pool="{env.prefix}tank", device="{name}"'
        prometheus.until(f"dm_reconciler_device_ready{{{seen}}}")
        prometheus.until(f'dm_reconciler_device_reason{{{seen}, reason="Converged"}}')
    assert exists(env, gone)
    assert not is_suspended(env, frozen)
    assert not exists(env, done)


def test_the_time_that_healing_takes_is_a_quantile_of_its_histogram(prometheus: Prometheus) -> None:
    """As `increase` starts from a series that was there at 0, the very first heal counts."""
    query = 'histogram_quantile(0.5, sum by (le) (increase(dm_reconciler_heal_duration_seconds_bucket{reason="Suspended"}[1m])))'
    prometheus.until('dm_reconciler_heal_duration_seconds_count{reason="Suspended"}')
    took = eventually(lambda: prometheus.value(query), "there is a quantile")
    assert GRACE / 2 < took < 30
    exact = prometheus.value('dm_reconciler_heal_duration_seconds_sum{reason="Suspended"}')
    assert exact is not None
    assert GRACE / 2 < exact < 30


def test_the_use_of_the_pool_is_the_kernels_own_figure(env: Environment, prometheus: Prometheus) -> None:
    write(env.dm_name("gone"), 8)
    used = int(pool_status(env.prefix + "tank")[2].split("/")[0]) * 65536
    assert used >= 8 * MIB
    prometheus.until("dm_reconciler_pool_data_used_bytes", used)
    prometheus.until("dm_reconciler_pool_data_size_bytes", 256 * MIB)
    prometheus.until("dm_reconciler_pool_data_limit_bytes", 256 * MIB)
    prometheus.until('dm_reconciler_pool_mode{mode="rw"}')
    prometheus.until('dm_reconciler_device_mapped_bytes{device="gone"} >= bool 8388608')


def test_the_rules_of_the_tree_are_evaluated_and_none_fires_on_a_healthy_host(prometheus: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]

    eventually(lambda: all(rule["health"] == "ok" for rule in rules()), "each rule was evaluated")
    assert len(rules()) > 20
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []


def test_units_and_help_arrive(prometheus: Prometheus) -> None:
    told = prometheus.get("metadata", metric="dm_reconciler_pool_data_used_bytes")["dm_reconciler_pool_data_used_bytes"]
    assert [(one["type"], one["unit"]) for one in told] == [("gauge", "bytes")]
    assert told[0]["help"]


def test_a_daemon_that_is_down_is_down_for_prometheus_too(env: Environment, prometheus: Prometheus) -> None:
    assert env.stop() == 0
    prometheus.until('up{job="dm-reconciler"}', 0.0)
    pending = 'ALERTS{alertname="DmReconcilerDown", alertstate="pending"}'
    prometheus.until(pending)
