"""The dashboard as a whole: its rows in order, what can be chosen above them, and the text of the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row, TimePicker
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from tools.dashboard import daemon, devices, durations, healing, overview, pools, queue, runbook
from tools.dashboard.marks import marks
from tools.dashboard.panels import DATASOURCE, UID, AnyPanel
from tools.dashboard.queries import JOB

ROWS: Final[tuple[tuple[str, Callable[[], list[AnyPanel]]], ...]] = tuple(
    (row.TITLE, row.panels) for row in (overview, devices, healing, durations, pools, queue, daemon, runbook)
)
_PART: Final = 100
"""Ids of a row and its panels begin at a multiple of this, so that a new panel changes none of another row's."""
_DESCRIPTION: Final = (
    "Whether device-mapper thin devices are as their records declare them, what was healed and why. "
    "Generated: an edit belongs into tools/dashboard, not here."
)


def text() -> str:
    """As the file in grafana/dashboards has it."""
    encoded: str = JSONEncoder(indent=2, sort_keys=True).encode(build().build())
    return f"{encoded}\n"


def build() -> Dashboard:
    made = (
        Dashboard("dm-reconciler")
        .uid(UID)
        .description(_DESCRIPTION)
        .tags(["device-mapper", "dm-reconciler", "storage"])
        .time("now-6h", "now")
        .refresh("30s")
        .timepicker(TimePicker().refresh_intervals(["10s", "30s", "1m", "5m", "15m"]))
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    made.with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    made.with_variable(_choice("instance", "Host", f'up{{job="{JOB}"}}'))
    made.with_variable(_choice("pool", "Pool", 'dm_reconciler_pool_ready{instance=~"$instance"}'))
    for mark in marks():
        made.annotation(mark)
    for number, (title, panels) in enumerate(ROWS, 1):
        _add_row(made, number * _PART, title, panels())
    return made


def _add_row(made: Dashboard, first: int, title: str, panels: list[AnyPanel]) -> None:
    made.with_row(Row(title).id(first))
    for place, panel in enumerate(panels, 1):
        built = panel.build()  # the builder's own, not a copy
        built.id_val = built.id_val or first + place
        made.with_panel(panel)


def _choice(label: str, shown: str, selector: str) -> QueryVariable:
    """Any number of the label's values; all of them, also those that come later, to begin with."""
    query: Any = f"label_values({selector}, {label})"
    return (
        QueryVariable(label)
        .label(shown)
        .datasource(DATASOURCE)
        .query(query)
        .definition(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
