"""Every query of dashboard and alert rules is put to a real Prometheus, which has scraped a daemon at work.

The daemon is the real one over a host in memory, on which things go wrong; tests/e2e/test_dashboard.py has the same
on a real kernel.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from reconciler.kernel.protocol import Mkfs
from reconciler.kernel.simulated.kernel import SimulatedTools
from reconciler.model.errors import HostError
from reconciler.model.records import Record
from tests.repo.dashboard.questions import (
    VARIABLES,
    Asker,
    Question,
    Span,
    chosen,
    columns,
    hasty_rules,
    named_labels,
    panel_questions,
    unanswered,
)
from tests.simulation.simulated_daemon import device_record, pool_record
from tests.testing.prometheus import Prometheus, scraping
from tests.unit.telemetry.page.environments import TURN, LiveEnvironment

SCRAPE = 0.2
RECORDS = (
    pool_record(),
    pool_record("vault"),
    pool_record("shed", paused=True),
    device_record("base", state="Committed"),
    device_record("app", snapshotOf="base"),
    device_record("web", size="8MiB"),
    device_record("ledger", "vault"),
    device_record("left", "vault", paused=True),
)
READY = len({"base", "app", "web", "ledger"})
BLOCKS = 3
BLOCK = 65536
MORE = device_record("more", snapshotOf="base")
UNMADE = device_record("unmade", "vault", filesystem={"type": "xfs"})


def refuse(_: SimulatedTools, node: str, wanted: Mkfs) -> None:
    """As mkfs.xfs does for a device that is too small for it."""
    raise HostError(f"mkfs.{wanted.type}", node, errno.EINVAL)


class Environment(LiveEnvironment):
    """Tells what `run` tells besides: its versions, its resync, the set in force."""

    def declare(self, *records: Record) -> None:
        super().declare(*records)
        kinds = [record.kind for record in records]
        self.simulated.metrics.in_force({kind: kinds.count(kind) for kind in kinds}, time.time())

    def begin(self) -> None:
        with self.in_turn:
            self.simulated.tell_build(self.dm)
        self.simulated.metrics.resync_interval(TURN)

    def suspend(self, *names: str) -> None:
        with self.in_turn:
            for name in names:
                self.dm.suspend(name)

    def write(self, name: str, block: int) -> None:
        with self.in_turn:
            assert self._host.io.write(name, block, f"block {block}")


@dataclass(frozen=True, slots=True)
class Told:
    prometheus: Prometheus
    asker: Asker
    instance: str


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """A daemon's first seconds: records are made, pools and a device are suspended, one fills, a step fails."""
    folder = tmp_path_factory.mktemp("dashboard")
    environment = Environment(folder / "state")
    begin = time.time()
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            scraping([environment.server.port], folder, f"{round(SCRAPE * 1000)}ms", hasty_rules(folder)) as prometheus,
        ):
            patch.setattr(SimulatedTools, "mkfs", refuse)
            happen(environment, prometheus)
            yield Told(
                prometheus, Asker(prometheus, Span(begin, time.time(), SCRAPE)), f"127.0.0.1:{environment.server.port}"
            )
    finally:
        environment.close()


def happen(environment: Environment, prometheus: Prometheus) -> None:
    environment.begin()
    prometheus.until("up")
    environment.declare(*RECORDS)
    prometheus.until("sum(dm_reconciler_device_ready)", READY)
    environment.suspend("tank-web", "tank", "vault")
    environment.declare(*RECORDS, MORE, UNMADE)
    prometheus.until('dm_reconciler_heals_total{kind="ThinPool", reason="PoolSuspended", result="success"}', 2)
    prometheus.until('dm_reconciler_heals_total{kind="ThinDevice", reason="Suspended", result="success"}')
    prometheus.until('dm_reconciler_heals_total{kind="ThinDevice", reason="NotCreated", result="error"} > bool 0')
    prometheus.until('dm_reconciler_device_ready{device="more"}')
    used = prometheus.value('dm_reconciler_pool_data_used_bytes{pool="tank"}')
    for block in range(BLOCKS):
        environment.write("tank-web", block)
        prometheus.until(f'dm_reconciler_pool_data_used_bytes{{pool="tank"}} - {used} - {BLOCK}', BLOCK * block)


def test_every_query_has_an_answer_and_asks_for_what_there_is(told: Told) -> None:
    assert unanswered(told.asker) == []


def test_so_it_has_for_a_host_and_pools_that_are_chosen(told: Told) -> None:
    assert unanswered(told.asker.choosing(instance=chosen(told.instance), pool=chosen("tank", "vault", "shed"))) == []


def test_what_is_chosen_narrows_every_answer(told: Told) -> None:
    asker = told.asker.choosing(pool=chosen("vault"))
    pools = {labels["pool"] for question in panel_questions() for labels in asker.answer(question) if "pool" in labels}
    assert pools == {"vault"}
    elsewhere = told.asker.choosing(instance=chosen("elsewhere:9810"))
    found = {question.asked_by for question in panel_questions() if elsewhere.answer(question)}
    # That no host is scraped is an alert of no host; and that none fires is an answer, too.
    assert found <= {"panel Alerts, A", "panel Alerts that fire, A"}


def test_what_legends_and_marks_name_is_in_the_answers(told: Told) -> None:
    for question, names in named_labels():
        found = {name for labels in told.asker.answer(question) for name in labels}
        assert names <= found, question.asked_by


def test_tables_have_a_column_for_each_label_and_no_other(told: Told) -> None:
    for title, questions, named in columns():
        found = {name for question in questions for labels in told.asker.answer(question) for name in labels}
        assert found == named, title


def test_the_variables_offer_the_hosts_and_pools_that_there_are(told: Told) -> None:
    offered = {one["name"]: told.asker.values_of(one) for one in VARIABLES if one["type"] == "query"}
    assert offered == {"instance": {told.instance}, "pool": {"tank", "vault", "shed"}}


def test_every_alert_is_evaluated_without_an_error(told: Told) -> None:
    rules = [rule for group in told.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 20
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


@pytest.mark.parametrize(
    "expr",
    [
        "sum(dm_reconciler_device_raedy)",
        'sum(dm_reconciler_device_ready{pool=~"$pool", devise="app"})',
        'dm_reconciler_pool_reason{reason="Stuck"} or vector(0)',
    ],
)
def test_a_query_for_what_there_is_not_would_be_found(told: Told, expr: str) -> None:
    question, asker = Question("a panel", expr), told.asker
    assert not asker.answer(question) or asker.without_data(question)


def test_a_query_that_is_none_would_be_found(told: Told) -> None:
    with pytest.raises(AssertionError, match="parse error"):
        told.asker.answer(Question("a panel", "sum(up"))
