"""Marks on every panel: what happened, as the counters tell it, and when an alert fired."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from grafana_foundation_sdk.builders.dashboard import AnnotationQuery

from tools.dashboard.overview import ALERTS
from tools.dashboard.panels import BLUE, DATASOURCE, GREEN, ORANGE, RED, target
from tools.dashboard.queries import STEP, Query, growth, of_hosts

_PURPLE: Final = "purple"
_TURNS: Final = of_hosts("dm_reconciler_turns_total")
_STARTED: Final = f"resets({_TURNS}[{STEP}]) > 0 or ({_TURNS} unless {_TURNS} offset {STEP})"
"""The counter began anew; or it was not there a moment ago, as after a longer stop."""
_LOADED: Final = of_hosts("dm_reconciler_manifest_last_load_timestamp_seconds")


def marks() -> Iterator[AnnotationQuery]:
    yield _mark("Healed", GREEN, f"{_heals('success')} > 0", "Healed: {{reason}}", "{{kind}} on {{instance}}", "reason")
    yield _mark(
        "Healing failed", RED, f"{_heals('error')} > 0", "Failed: {{reason}}", "{{kind}} on {{instance}}", "reason"
    )
    yield _mark("Daemon started", BLUE, _STARTED, "The daemon started", "{{instance}}", "instance")
    yield _mark(
        "Manifests", _PURPLE, f"changes({_LOADED}[{STEP}]) > 0", "Other manifests in force", "{{instance}}", "instance"
    )
    firing = f"max by (alertname, severity, instance, pool, device) ({ALERTS})"
    yield _mark("Alerts", ORANGE, firing, "{{alertname}}", "{{pool}} {{device}} on {{instance}}", "severity")


def _heals(result: str) -> str:
    heals = of_hosts("dm_reconciler_heals_total", f'result="{result}"')
    return growth(heals, STEP, "instance", "kind", "reason")


def _mark(name: str, color: str, expr: str, title: str, text: str, tags: str) -> AnnotationQuery:
    """A mark wherever the expression is above 0."""
    return (
        AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(color)
        .target(target(Query(expr)).ref_id("Anno"))
        .title_format(title)
        .text_format(text)
        .tag_keys(tags)
    )
