"""Panels as this dashboard has them: each with a title, and a description that says what a bad value means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Final

from grafana_foundation_sdk.builders import bargauge, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    StackingConfig,
    TableSortByFieldState,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.builders.dashboard import DashboardLink, FieldColor, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from tools.dashboard.queries import Query

UID: Final = "dm-reconciler"
DATASOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOK: Final = 1
"""Id of the panel that says what to do; those of the rows begin at 100."""

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#808080"
Steps = Sequence[tuple[float | None, str]]
"""From which value on a colour holds; None is for all below."""
Words = Mapping[str, tuple[str, str]]
"""For a value, the word that is shown in its place, with its colour."""
AnyPanel = Builder[Panel]

NONE_IS_GOOD: Final[Steps] = ((None, GREEN), (1, RED))
PLAIN: Final[Steps] = ((None, BLUE),)


def target(query: Query, number: int = 0, shape: PromQueryFormat = PromQueryFormat.TIME_SERIES) -> Dataquery:
    made = Dataquery().expr(query.expr).ref_id(ascii_uppercase[number]).datasource(DATASOURCE).format(shape)
    if query.legend:
        made.legend_format(query.legend)
    return made.instant() if query.instant else made.range()


def thresholds(steps: Steps) -> ThresholdsConfig:
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([Threshold(value, color) for value, color in steps])


def mapping(words: Words) -> ValueMap:
    return ValueMap(
        {
            value: ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(words.items())
        }
    )


def what_to_do() -> DashboardLink:
    url = f"/d/{UID}?viewPanel={RUNBOOK}&${{__url_time_range}}&${{__all_variables}}"
    return DashboardLink("What to do about each alert").url(url)


def status_page(instance: str) -> DashboardLink:
    """Where the daemon listens on loopback only, this leads nowhere but on its own host."""
    return DashboardLink("Status page of this host").url(f"http://{instance}/").target_blank(True)


def single(title: str, description: str, *queries: Query, steps: Steps, words: Words | None = None) -> stat.Panel:
    """One number, or one word, on a colour that says the same."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([target(query, number) for number, query in enumerate(queries)])
        .thresholds(thresholds(steps))
        .mappings([mapping(words or {})] if words else [])
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(common.BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(common.BigValueGraphMode.NONE)
        .links([what_to_do()])
        .height(4)
        .span(4)
    )


def over_time(title: str, description: str, *queries: Query, unit: str = "short") -> timeseries.Panel:
    """Lines, with the last and the highest value in the legend."""
    return (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([target(query, number) for number, query in enumerate(queries)])
        .unit(unit)
        .min(0)
        .fill_opacity(10)
        .show_points(common.VisibilityMode.AUTO)
        .legend(
            VizLegendOptions()
            .show_legend(True)
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
        .height(8)
        .span(12)
    )


def counted(title: str, description: str, *queries: Query) -> timeseries.Panel:
    """Stacked bars: how often something happened. Few things happen, so the legend has their sum."""
    return (
        over_time(title, description, *queries)
        .draw_style(common.GraphDrawStyle.BARS)
        .stacking(StackingConfig().mode(common.StackingMode.NORMAL))
        .fill_opacity(80)
        .decimals(0)
        .legend(
            VizLegendOptions()
            .show_legend(True)
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.RIGHT)
            .calcs(["sum"])
        )
    )


def line_at(panel: timeseries.Panel, value: float, color: str) -> timeseries.Panel:
    """Draw where an alert rule fires."""
    style = GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(thresholds(((None, "transparent"), (value, color)))).thresholds_style(style)


def states(title: str, description: str, query: Query, steps: Steps, words: Words) -> statetimeline.Panel:
    """A bar for each series, in the colour and with the word of its state."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(target(query))
        .color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .thresholds(thresholds(steps))
        .mappings([mapping(words)])
        .merge_values(True)
        .show_value(common.VisibilityMode.AUTO)
        .row_height(0.8)
        .per_page(20)
        .fill_opacity(80)
        .legend(VizLegendOptions().show_legend(False).display_mode(common.LegendDisplayMode.LIST))
        .height(6)
        .span(12)
    )


def ranking(title: str, description: str, query: Query, steps: Steps, unit: str = "short") -> bargauge.Panel:
    """A bar for each series, as things are at the end of the time that is shown."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(target(query))
        .unit(unit)
        .min(0)
        .thresholds(thresholds(steps))
        .orientation(common.VizOrientation.HORIZONTAL)
        .display_mode(common.BarGaugeDisplayMode.BASIC)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .height(8)
        .span(12)
    )


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table whose queries are merged, row by row, by the labels that they share."""

    source: str
    """A label, or `Value #B` for the value of the second query."""
    title: str
    unit: str = ""
    steps: Steps = ()
    words: Words | None = None
    page_of_host: bool = False
    """It names a host as Prometheus reaches it, and leads to its status page."""


def listing(title: str, description: str, queries: Sequence[Query], columns: Sequence[Column]) -> table.Panel:
    """Of these columns, in this order, and no others."""
    made = table.Panel().title(title).description(description).datasource(DATASOURCE).filterable(True)
    made.targets([target(query, number, PromQueryFormat.TABLE) for number, query in enumerate(queries)])
    shown = {column.source for column in columns}
    # Grafana numbers the values where there are several queries.
    values = ["Value", *(f"Value #{ascii_uppercase[number]}" for number in range(len(queries)))]
    made.with_transformation(DataTransformerConfig(id_val="merge", options={})).with_transformation(
        DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {name: True for name in ("Time", *values) if name not in shown},
                "indexByName": {column.source: index for index, column in enumerate(columns)},
                "renameByName": {column.source: column.title for column in columns},
            },
        )
    )
    for column in columns:
        made.override_by_name(column.title, _properties(column))
    return made.sort_by([TableSortByFieldState().display_name(columns[0].title)]).height(9).span(24)


def _properties(column: Column) -> list[DynamicConfigValue]:
    found: list[DynamicConfigValue] = []
    if column.unit:
        found.append(DynamicConfigValue("unit", column.unit))
    if column.words:
        found.append(DynamicConfigValue("mappings", [mapping(column.words)]))
    if column.steps:
        found.append(DynamicConfigValue("thresholds", thresholds(column.steps).build()))
    if column.words or column.steps:
        found.append(DynamicConfigValue("custom.cellOptions", common.TableColorTextCellOptions()))
    if column.page_of_host:
        found.append(DynamicConfigValue("links", [status_page("${__value.raw}").build()]))
    return found
