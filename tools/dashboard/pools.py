"""The pools: how full they are, when they will be, and in which mode."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.common import AxisPlacement
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from tools.dashboard.panels import (
    GREEN,
    NONE_IS_GOOD,
    ORANGE,
    PLAIN,
    RED,
    AnyPanel,
    Column,
    Steps,
    line_at,
    listing,
    over_time,
    ranking,
    states,
)
from tools.dashboard.queries import (
    DATA_FILL,
    DATA_LIMIT,
    DATA_SIZE,
    DATA_USED,
    METADATA_FILL,
    METADATA_LIMIT,
    METADATA_USED,
    Query,
    full_in,
    in_a_day,
    of_pools,
)
from tools.dashboard.words import LIVE, MODE_NUMBERS, MODE_WORDS, MODES, REASONS

TITLE: Final = "Pools"

_NAME: Final = "{{pool}} on {{instance}}"
_FILL: Final[Steps] = ((None, GREEN), (0.8, ORANGE), (0.95, RED))
_METADATA: Final[Steps] = ((None, GREEN), (0.8, ORANGE), (0.9, RED))
_SOON: Final[Steps] = ((None, RED), (86400, ORANGE), (7 * 86400, GREEN))
_REASON: Final = of_pools("dm_reconciler_pool_reason")
_LIVE: Final = of_pools("dm_reconciler_pool_live_state")
_MODE: Final = of_pools("dm_reconciler_pool_mode")
_LEAKED_IDS: Final = of_pools("dm_reconciler_pool_leaked_thin_ids")
_LEAKED_BYTES: Final = of_pools("dm_reconciler_pool_leaked_bytes")

_BYTES_ON_THE_RIGHT: Final = [
    DynamicConfigValue("unit", "bytes"),
    DynamicConfigValue("custom.axisPlacement", AxisPlacement.RIGHT),
]


def panels() -> list[AnyPanel]:
    return [_all(), *_fill(), *_forecast(), _modes(), _biggest(), _leaked(), _room()]


def _all() -> AnyPanel:
    return listing(
        "All pools",
        "Red is for somebody to look at, yellow is being healed. Without figures: the pool is missing or has failed. "
        "Without a time it does not grow. The host leads to its status page.\n\n"
        "Next: `dm-reconciler describe pool POOL` says what is wrong and what to type.",
        [
            Query(f"max by (pool, instance, reason) ({_REASON})", instant=True),
            Query(
                f'max by (pool, instance, live) (label_replace({_LIVE} == 1, "live", "$1", "state", "(.*)"))',
                instant=True,
            ),
            Query(f"max by (pool, instance, mode) ({_MODE} == 1)", instant=True),
            Query(f"max by (pool, instance) ({DATA_FILL})", instant=True),
            Query(f"max by (pool, instance) ({METADATA_FILL})", instant=True),
            Query(f"max by (pool, instance) ({DATA_SIZE})", instant=True),
            Query(f"max by (pool, instance) ({full_in(DATA_USED, DATA_LIMIT)})", instant=True),
            Query(f"max by (pool, instance) ({_LEAKED_IDS})", instant=True),
        ],
        [
            Column("pool", "Pool"),
            Column("instance", "Host", page_of_host=True),
            Column("reason", "Reason", words=REASONS),
            Column("live", "Live", words=LIVE),
            Column("mode", "Mode", words=MODE_WORDS),
            Column("Value #D", "Data used", unit="percentunit", steps=_FILL),
            Column("Value #E", "Metadata used", unit="percentunit", steps=_METADATA),
            Column("Value #F", "Data size", unit="bytes"),
            Column("Value #G", "Data full in", unit="s", steps=_SOON),
            Column("Value #H", "Leaked thin ids", steps=NONE_IS_GOOD),
        ],
    )


def _fill() -> list[AnyPanel]:
    data = over_time(
        "Data used",
        "Of the data device as it is now; a pool with `extend` grows at its threshold, and the line falls. Over the "
        "dashed line (95%) an alert fires: when it is full, writes to all of its devices wait or fail.\n\n"
        "Next: `dm-reconciler describe pool POOL`; a larger `data.size`, or `extend`, in its record.",
        Query(DATA_FILL, _NAME),
        unit="percentunit",
    )
    metadata = over_time(
        "Metadata used",
        "Over the dashed line (90%) an alert fires: when they are full the pool becomes read-only, and it takes a "
        "repair to get out of that.\n\nNext: a larger `metadata.size`, or `extend`, in the pool's record; fewer "
        "snapshots.",
        Query(METADATA_FILL, _NAME),
        unit="percentunit",
    )
    return [line_at(data.max(1), 0.95, RED), line_at(metadata.max(1), 0.9, RED)]


def _forecast() -> list[AnyPanel]:
    day = over_time(
        "Forecast: used in a day, of all that it may grow to",
        "A straight line through the last 6 hours, as the alerts draw it. Over the dashed line (100%) it is full "
        "within a day; the alert waits until half of it is used.\n\n"
        "Next: `dm-reconciler get devices` shows which device maps how much.",
        Query(in_a_day(DATA_USED, DATA_LIMIT), f"data of {_NAME}"),
        Query(in_a_day(METADATA_USED, METADATA_LIMIT), f"metadata of {_NAME}"),
        unit="percentunit",
    )
    soon = over_time(
        "Forecast: full in",
        "Time until that straight line reaches all that the pool may grow to. No line for a pool that does not grow. "
        "Below the dashed line it is less than a day.\n\n"
        "Next: make room before that: delete snapshots, or raise `extend.max` or `data.size`.",
        Query(full_in(DATA_USED, DATA_LIMIT), f"data of {_NAME}"),
        Query(full_in(METADATA_USED, METADATA_LIMIT), f"metadata of {_NAME}"),
        unit="s",
    ).no_value("no pool grows")
    return [line_at(day, 1, RED), line_at(soon, 86400, RED)]


def _modes() -> AnyPanel:
    """A pool has one mode at a time: its number in the list is what the sum leaves of them."""
    each = (of_pools("dm_reconciler_pool_mode", f'mode="{mode.value}"') for mode in MODES)
    numbered = " or ".join(f"{number} * {mode}" for number, mode in enumerate(each))
    return states(
        "Mode",
        "`rw` is as it should be. `out_of_data_space`: writes wait, then fail. `ro`, `needs_check`: a write of "
        "metadata failed, or they are full. `fail`, `error`: nothing can be read. `missing`: there is no pool device; "
        "for a moment after a reboot that is so for every pool.\n\nNext: `dm-reconciler describe pool POOL`; `dmesg`",
        Query(f"sum by (pool, instance) ({numbered})", _NAME),
        ((None, GREEN), (1, RED)),
        MODE_NUMBERS,
    ).height(8)


def _biggest() -> AnyPanel:
    return ranking(
        "Devices that map most",
        "Who takes the room, shared blocks counted for each device that maps them. Devices that are not live are not "
        "here: nobody can tell what they map.\n\nNext: `fstrim` on its mount point gives back what is not used.",
        Query(
            f"topk(10, {of_pools('dm_reconciler_device_mapped_bytes')})",
            "{{pool}}/{{device}} on {{instance}}",
            instant=True,
        ),
        PLAIN,
        unit="bytes",
    )


def _leaked() -> AnyPanel:
    return over_time(
        "Leaked thin ids, and what they map",
        "Thin ids that no record names. They take room, and are left alone, as nobody here can tell whose they are; "
        "after an hour an alert fires.\n\nNext: `dm-reconciler doctor`",
        Query(_LEAKED_IDS, f"ids in {_NAME}"),
        Query(_LEAKED_BYTES, f"bytes in {_NAME}"),
    ).override_by_regexp("/^bytes in/", _BYTES_ON_THE_RIGHT)


def _room() -> AnyPanel:
    return over_time(
        "Data: used, size, and how far it may grow",
        "A step up of the size is the pool extending itself. Where the size is all that it may grow to, the next "
        "extension needs somebody.\n\nNext: `dm-reconciler describe pool POOL`",
        Query(DATA_USED, f"used by {_NAME}"),
        Query(DATA_SIZE, f"size of {_NAME}"),
        Query(DATA_LIMIT, f"limit of {_NAME}"),
        unit="bytes",
    )
