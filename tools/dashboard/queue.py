"""The work queue: what is due, and how long it waits and takes."""

from __future__ import annotations

from typing import Final

from tools.dashboard.panels import RED, AnyPanel, line_at, over_time
from tools.dashboard.queries import STEP, Query, of_hosts, quantile

TITLE: Final = "The queue"

_WAITED: Final = of_hosts("dm_reconciler_workqueue_queue_duration_seconds_bucket")
_WORKED: Final = of_hosts("dm_reconciler_workqueue_work_duration_seconds_bucket")


def panels() -> list[AnyPanel]:
    return [
        over_time(
            "Due and waiting",
            "Keys whose turn has not come, one for each pool at most. Above 0 for long: a pool takes longer than the "
            "time between two looks.\n\nNext: the oldest turn, beside this.",
            Query(of_hosts("dm_reconciler_workqueue_depth"), "{{instance}}"),
        ),
        line_at(
            over_time(
                "Oldest turn that has not ended",
                "Seconds are usual; many new devices, mkfs and discards take minutes. Over the dashed line (half an "
                "hour) an alert fires. Other pools are not held up.\n\n"
                "Next: `dm-reconciler get pools`, `dm-reconciler events --limit 20`",
                Query(of_hosts("dm_reconciler_workqueue_longest_running_seconds"), "{{instance}}"),
                unit="s",
            ),
            1800,
            RED,
        ),
        over_time(
            "Added, and added again",
            "Keys a second: what udev and device-mapper announce, and each resync. Retries that do not end are steps "
            "that go on failing.\n\nNext: `dm-reconciler events`; `journalctl -u dm-reconciler -n 50`",
            Query(
                f"sum by (instance) (rate({of_hosts('dm_reconciler_workqueue_adds_total')}[{STEP}]))", "{{instance}}"
            ),
            Query(
                f"sum by (instance) (rate({of_hosts('dm_reconciler_workqueue_retries_total')}[{STEP}]))",
                "again, {{instance}}",
            ),
            unit="cps",
        ),
        over_time(
            "How long a key waits, and is worked on",
            "Median and 95th percentile of all hosts that are chosen. Long waits with short turns: the host has no "
            "time for the reconciler.\n\nNext: `dm-reconciler get pools`; load and disks of the host.",
            Query(quantile(0.5, _WAITED, STEP), "waits, median"),
            Query(quantile(0.95, _WAITED, STEP), "waits, 95%"),
            Query(quantile(0.5, _WORKED, STEP), "turn, median"),
            Query(quantile(0.95, _WORKED, STEP), "turn, 95%"),
            unit="s",
        ),
    ]
