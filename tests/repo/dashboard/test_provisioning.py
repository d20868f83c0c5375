"""Files by which Prometheus and Grafana load rules and dashboard: sound, and of one mind about names and times."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.repo.dashboard.questions import ALERTS, DASHBOARD, FILE
from tests.testing.prometheus import JOB, RULES
from tools.dashboard.queries import JOB as JOB_OF_DASHBOARD

TREE = Path(__file__).parents[3]
GRAFANA = TREE / "grafana"
HOW_TO = (TREE / "docs" / "how-to" / "dashboard.md").read_text(encoding="utf-8")
DEPLOY = (TREE / "docs" / "deploy.md").read_text(encoding="utf-8")


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


PROMETHEUS = read(GRAFANA / "prometheus.yml")


def promtool_check(config: Path) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool IS NOT INSTALLED: the example for Prometheus was not tried")
    done = subprocess.run([program, "check", "config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_the_example_and_its_rules_sound() -> None:
    promtool_check(GRAFANA / "prometheus.yml")
    assert [GRAFANA / file for file in PROMETHEUS["rule_files"]] == [RULES]


def test_the_job_has_the_name_that_rules_and_dashboard_go_by() -> None:
    assert [job["job_name"] for job in PROMETHEUS["scrape_configs"]] == [JOB]
    assert JOB_OF_DASHBOARD == JOB
    named = {name for rule in ALERTS for name in re.findall(r'job="([^"]+)"', rule["expr"])}
    assert named == {JOB}


def test_grafana_knows_how_often_prometheus_scrapes() -> None:
    """`$__rate_interval` is made of it."""
    (source,) = read(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]


def test_grafana_looks_where_the_how_to_puts_the_dashboard() -> None:
    provisioning = read(GRAFANA / "provisioning" / "dashboards" / "dm-reconciler.yml")
    (provider,) = provisioning["providers"]
    assert provisioning["apiVersion"] == 1
    assert provider["type"] == "file"
    assert provider["allowUiUpdates"] is False
    assert f"{FILE.relative_to(TREE)} {provider['options']['path']}/{FILE.name}\n" in HOW_TO


def test_the_how_to_installs_files_that_are_there_and_names_every_row() -> None:
    sources = re.findall(r"^install (?:-D )?-m 644 (\S+) ", HOW_TO, re.MULTILINE)
    there = {str(file.relative_to(TREE)) for file in GRAFANA.rglob("*") if file.suffix in {".yml", ".json"}}
    assert set(sources) == {file for file in there if "/tests/" not in file}
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert re.findall(r"^\| ([^|]+) \|", HOW_TO.partition("|---|---|\n")[2], re.MULTILINE) == rows


def test_in_a_cluster_the_job_has_that_name_too(tmp_path: Path) -> None:
    """As the examples of the page have it: after the Service, or by a label of the pods."""
    monitor, relabelling = (
        yaml.safe_load(text)
        for text in re.findall(r"```yaml\n(.*?)```", DEPLOY.partition("### What Prometheus calls it")[2], re.DOTALL)
    )
    service = read(TREE / "deploy" / "kubernetes" / "service.yaml")
    assert service["metadata"]["name"] == JOB
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert [one["port"] for one in monitor["spec"]["endpoints"]] == [one["name"] for one in service["spec"]["ports"]]
    (rule,) = relabelling
    assert (rule["target_label"], rule["replacement"]) == ("job", JOB)
    config = tmp_path / "prometheus.yml"
    job = {"job_name": "annotated", "static_configs": [{"targets": ["host:9810"]}], "relabel_configs": relabelling}
    config.write_text(yaml.safe_dump({"scrape_configs": [job]}), encoding="utf-8")
    promtool_check(config)
