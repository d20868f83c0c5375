"""The alert rules: promtool finds them sound, each fires and each stays quiet, and the runbook has them all."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from reconciler.telemetry.metrics import Metrics

TREE = Path(__file__).parents[3]
ALERTS = TREE / "grafana" / "alerts"
RULES_FILE = ALERTS / "dm-reconciler.rules.yml"
TESTS = sorted((ALERTS / "tests").glob("*_test.yml"))
RUNBOOK = TREE / "docs" / "runbook.md"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES_FILE.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]
DRIVEN_BY_A_PERSON = {"Busy", "Conflict", "InvalidChange", "MetadataMismatch", "PoolLow", "Stuck"}
"""Reasons that a rule of their own tells."""


def promtool(*words: str) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool IS NOT INSTALLED: the alert rules were not tried")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False, cwd=ALERTS / "tests")
    assert done.returncode == 0, done.stdout + done.stderr


@cache
def cases() -> list[tuple[str, list[Any]]]:
    """Of all files: the alert, and what is expected of it at one moment."""
    documents = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in TESTS]
    tries = [one for document in documents for test in document["tests"] for one in test["alert_rule_test"]]
    return [(one["alertname"], one["exp_alerts"]) for one in tries]


@cache
def metrics() -> set[str]:
    """The names of all that there are."""
    registry = CollectorRegistry()
    Metrics(registry)
    return {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in registry.collect()}


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in RULES])
class TestOfEachRule:
    def test_it_has_a_case_that_fires_and_one_that_stays_quiet(self, rule: dict[str, Any]) -> None:
        expected = [alerts for name, alerts in cases() if name == rule["alert"]]
        assert any(expected), "no case fires it"
        assert not all(expected), "no case leaves it quiet"

    def test_its_cases_spell_out_what_it_says(self, rule: dict[str, Any]) -> None:
        told = [alert for name, alerts in cases() if name == rule["alert"] for alert in alerts]
        assert all(alert["exp_annotations"].keys() == rule["annotations"].keys() for alert in told)
        assert all(alert["exp_labels"]["severity"] == rule["labels"]["severity"] for alert in told)

    def test_it_waits_and_says_how_bad_what_and_what_to_type(self, rule: dict[str, Any]) -> None:
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"}), (
            "no other label, so none is unbounded"
        )
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert re.search(r": (dm-reconciler|systemctl|journalctl|df|dmesg|promtool)\b", rule["annotations"]["summary"])

    def test_it_names_the_host_and_what_it_is_about(self, rule: dict[str, Any]) -> None:
        summary, expression = rule["annotations"]["summary"], rule["expr"]
        assert ("$labels.instance" in summary) == ("absent(" not in expression)
        assert ("$labels.pool" in summary) == (
            "dm_reconciler_pool_" in expression or "dm_reconciler_device_" in expression
        )
        assert ("$labels.device" in summary) == ("dm_reconciler_device_" in expression)

    def test_the_runbook_has_an_entry_of_its_name(self, rule: dict[str, Any]) -> None:
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert f"\n### {rule['alert']}\n" in RUNBOOK.read_text(encoding="utf-8")

    def test_its_metrics_and_the_values_of_their_labels_are_there(self, rule: dict[str, Any]) -> None:
        told = metrics()
        used = set(re.findall(r"\bdm_reconciler_\w+", rule["expr"]))
        page = (TREE / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
        assert used <= told
        assert all(f"| `{name}` |" in page for name in used)
        for label, values in (("reason", Reason), ("state", LiveState), ("mode", PoolMode)):
            written = {word for text in re.findall(rf'{label}=~?"([^"]+)"', rule["expr"]) for word in text.split("|")}
            assert written <= {str(value) for value in values}


def test_promtool_finds_the_rules_sound() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES_FILE))


@pytest.mark.parametrize("file", [pytest.param(file, id=file.name) for file in TESTS])
def test_each_rule_fires_and_stays_quiet_as_promtool_sees_it(file: Path) -> None:
    promtool("test", "rules", file.name)


def test_names_are_unique_and_tests_and_runbook_have_no_others() -> None:
    entries = re.findall(r"^### (DmReconciler\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(set(NAMES)) == len(NAMES)
    assert entries == NAMES, "in the order of the rules"
    assert {name for name, _ in cases()} == set(NAMES)


def test_what_is_simply_not_ready_leaves_out_what_another_rule_tells() -> None:
    """One fault gives one alert."""
    by_name = {rule["alert"]: rule["expr"] for rule in RULES}
    for kind in ("Pool", "Device"):
        general = by_name[f"DmReconciler{kind}NotReady"]
        own = (
            set(re.findall(rf'dm_reconciler_{kind.lower()}_reason\{{reason="(\w+)"\}}', "".join(by_name.values())))
            & DRIVEN_BY_A_PERSON
        )
        assert own
        assert own <= set(re.findall(r"\w+", general))
