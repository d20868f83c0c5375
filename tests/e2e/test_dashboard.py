"""After the demo, every query of dashboard and alert rules has an answer of the Prometheus that has watched it.

The demo breaks what its manifests declare and sees it healed; a second daemon then shows what the demo has not: a step
that fails, a pool that is suspended, and records that are paused.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.__main__ import in_a_sandbox
from demo.daemon import PORT
from tests.repo.dashboard.questions import VARIABLES, Asker, Span, chosen, hasty_rules, unanswered
from tests.testing.environment import Environment, an_environment
from tests.testing.pools import dmsetup, write
from tests.testing.prometheus import Prometheus, free_port, scraping

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not in_a_sandbox(), reason="the demo removes whatever it sees: in a sandbox only"),
]

TREE = Path(__file__).parents[2]
SCRAPE = 1.0
DEMO = f"127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    folder, port = tmp_path_factory.mktemp("dashboard"), free_port()
    begin = time.time()
    with scraping([PORT, port], folder, "1s", hasty_rules(folder)) as prometheus:
        demo = subprocess.run([sys.executable, "-m", "demo"], cwd=TREE, capture_output=True, text=True, check=False)
        assert demo.returncode == 0, demo.stdout + demo.stderr
        with an_environment() as env:
            happen(env, port, prometheus)
            yield Asker(prometheus, Span(begin, time.time(), SCRAPE))


def happen(env: Environment, port: int, prometheus: Prometheus) -> None:
    shed = env.pool("shed", paused=True)
    first = (env.pool(), shed, env.device("app"), env.device("left", paused=True))
    env.declare(*first)
    env.start("--suspend-grace", "2s", "--listen", f"127.0.0.1:{port}")
    env.wait("app")
    of = f'instance="127.0.0.1:{port}"'
    prometheus.until(f'dm_reconciler_device_ready{{{of}, device="app"}}')
    dmsetup("suspend", f"{env.prefix}tank")
    prometheus.until(f'dm_reconciler_heals_total{{{of}, kind="ThinPool", reason="PoolSuspended", result="success"}}')
    env.declare(*first, env.device("unmade", size="4MiB", filesystem={"type": "xfs"}))
    prometheus.until(
        f'dm_reconciler_heals_total{{{of}, kind="ThinDevice", reason="NotCreated", result="error"}} > bool 0'
    )
    env.wait("app")
    write(env.dm_name("app"), 8)
    prometheus.until(f"dm_reconciler_pool_data_used_bytes{{{of}}} >= bool {8 << 20}")


def test_every_query_has_an_answer_and_asks_for_what_there_is(asker: Asker) -> None:
    assert unanswered(asker) == []


def test_the_variables_offer_both_hosts_and_the_pools_of_the_one_that_is_chosen(asker: Asker) -> None:
    instance, pool = (one for one in VARIABLES if one["type"] == "query")
    assert DEMO in asker.values_of(instance)
    assert len(asker.values_of(instance)) == 2
    assert {"tank", "vault"} < asker.values_of(pool)
    assert asker.choosing(instance=chosen(DEMO)).values_of(pool) == {"tank", "vault"}
