"""How long it takes from the detection of a drift to the look that finds it healed."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import heatmap
from grafana_foundation_sdk.models.common import VisibilityMode
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from tools.dashboard.panels import DATASOURCE, ORANGE, PLAIN, AnyPanel, Column, listing, over_time, target
from tools.dashboard.queries import RANGE, STEP, Query, growth, of_hosts, quantile
from tools.dashboard.words import REASONS

TITLE: Final = "Time to heal"

_BUCKETS: Final = of_hosts("dm_reconciler_heal_duration_seconds_bucket")
_COUNT: Final = of_hosts("dm_reconciler_heal_duration_seconds_count")
_SUM: Final = of_hosts("dm_reconciler_heal_duration_seconds_sum")


def panels() -> list[AnyPanel]:
    return [_quantiles(), _heatmap(), _by_reason()]


def _quantiles() -> AnyPanel:
    return (
        over_time(
            "Half of all, and all but one in twenty",
            "Median and 95th percentile of what was healed at that time; no point where nothing was. A suspension is "
            "left for the grace (5 s) first. Minutes mean that somebody had the device open, or that steps failed.\n\n"
            "Next: `dm-reconciler events` has the seconds of each.",
            Query(quantile(0.5, _BUCKETS, STEP), "median"),
            Query(quantile(0.95, _BUCKETS, STEP), "95%"),
            unit="s",
        )
        .show_points(VisibilityMode.ALWAYS)
        .no_value("nothing was healed")
    )


def _heatmap() -> AnyPanel:
    query = Query(growth(_BUCKETS, STEP, "le"), "{{le}}")
    return (
        heatmap.Panel()
        .title("All of them")
        .description(
            "Each cell is how many were healed in about that time. A second band far above the first is one kind of "
            "drift that takes long: the table names it.\n\nNext: `dm-reconciler events`"
        )
        .datasource(DATASOURCE)
        .with_target(target(query, shape=PromQueryFormat.HEATMAP))
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges"))
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .height(8)
        .span(12)
    )


def _by_reason() -> AnyPanel:
    count = f"{growth(_COUNT, RANGE, 'reason')} > 0"
    return listing(
        "By reason",
        "What was healed within the time that is shown. Compare a reason's 95% with its average: far apart, a few took "
        "long, for somebody had them in use.\n\nNext: `dm-reconciler events`",
        [
            Query(count, instant=True),
            Query(f"{growth(_SUM, RANGE, 'reason')} / ({count})", instant=True),
            Query(quantile(0.95, _BUCKETS, RANGE, "reason"), instant=True),
        ],
        [
            Column("reason", "Reason", words=REASONS),
            Column("Value #A", "Healed", unit="none"),
            Column("Value #B", "Average", unit="s"),
            Column("Value #C", "95% within", unit="s", steps=(*PLAIN, (30, ORANGE))),
        ],
    ).no_value("nothing was healed")
