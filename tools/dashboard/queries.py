"""What is asked of Prometheus: selectors that the variables narrow, and expressions that several panels use.

An expression keeps `instance` wherever a pool is named, as hosts may have pools of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

JOB: Final = "dm-reconciler"
"""As the alert rules take it."""

LEFT_ALONE: Final = "Paused|Orphaned"
"""Reasons for which nobody has to do anything."""
SETTLED: Final = f"Converged|{LEFT_ALONE}"
"""As declared, or left alone on purpose."""

STEP: Final = "$__rate_interval"
"""A window that holds at least two scrapes, whatever the zoom."""
RANGE: Final = "$__range"
"""All of the time that is shown."""


@dataclass(frozen=True, slots=True)
class Query:
    expr: str
    legend: str = ""
    instant: bool = False
    """The answer as it is at the end of the time that is shown."""


def of_hosts(metric: str, *matchers: str) -> str:
    """A metric of the reconciler itself, of the hosts that are chosen."""
    return _selector(metric, 'instance=~"$instance"', *matchers)


def of_pools(metric: str, *matchers: str) -> str:
    """A metric of records, of the hosts and pools that are chosen."""
    return of_hosts(metric, 'pool=~"$pool"', *matchers)


def scraped(metric: str) -> str:
    """A metric that Prometheus itself keeps of each target."""
    return of_hosts(metric, f'job="{JOB}"')


def _selector(metric: str, *matchers: str) -> str:
    return f"{metric}{{{', '.join(matchers)}}}"


def number_of(selected: str, among: str) -> str:
    """How many there are; 0 only while there is something that could be: no data is not taken for "none"."""
    return f"count({selected}) or 0 * count({among})"


def growth(counter: str, window: str, *by: str) -> str:
    """By how much it grew within the window, over restarts of the daemon."""
    grown = f"increase({counter}[{window}])"
    return f"sum by ({', '.join(by)}) ({grown})" if by else f"sum({grown})"


def quantile(which: float, histogram: str, window: str, *by: str) -> str:
    """Of what fell into the window; nothing, where nothing did (which Prometheus calls NaN)."""
    return f"histogram_quantile({which}, {growth(histogram, window, 'le', *by)}) >= 0"


ONCE: Final = 'kind="ThinPool"'
"""A pass covers both kinds, and is told under each: one is enough."""
RESYNC_INTERVAL: Final = of_hosts("dm_reconciler_resync_interval_seconds", ONCE)

# Records.

POOL_READY: Final = of_pools("dm_reconciler_pool_ready")
DEVICE_READY: Final = of_pools("dm_reconciler_device_ready")
POOL_UNSETTLED: Final = of_pools("dm_reconciler_pool_reason", f'reason!~"{SETTLED}"')
DEVICE_UNSETTLED: Final = of_pools("dm_reconciler_device_reason", f'reason!~"{SETTLED}"')
POOL_LEFT_ALONE: Final = of_pools("dm_reconciler_pool_reason", f'reason=~"{LEFT_ALONE}"')
DEVICE_LEFT_ALONE: Final = of_pools("dm_reconciler_device_reason", f'reason=~"{LEFT_ALONE}"')
DEVICE_NOT_CONVERGED: Final = of_pools("dm_reconciler_device_reason", 'reason!="Converged"')

# How full the pools are, and when they will be.

DATA_USED: Final = of_pools("dm_reconciler_pool_data_used_bytes")
DATA_SIZE: Final = of_pools("dm_reconciler_pool_data_size_bytes")
DATA_LIMIT: Final = of_pools("dm_reconciler_pool_data_limit_bytes")
METADATA_USED: Final = of_pools("dm_reconciler_pool_metadata_used_bytes")
METADATA_SIZE: Final = of_pools("dm_reconciler_pool_metadata_size_bytes")
METADATA_LIMIT: Final = of_pools("dm_reconciler_pool_metadata_limit_bytes")

DATA_FILL: Final = f"{DATA_USED} / {DATA_SIZE}"
METADATA_FILL: Final = f"{METADATA_USED} / {METADATA_SIZE}"

LOOKING_BACK: Final = "6h"
DAY: Final = 86400
"""Both as in the rules DmReconcilerPoolDataFillsUp and DmReconcilerPoolMetadataFillsUp."""


def in_a_day(used: str, limit: str) -> str:
    """The share of its limit that the pool will use then. Over 1 is where the rule fires, from half of the limit on."""
    return f"predict_linear({used}[{LOOKING_BACK}], {DAY}) / {limit}"


def full_in(used: str, limit: str) -> str:
    """Seconds until the same straight line reaches the limit; nothing for a pool that does not grow."""
    left = f"{limit} - predict_linear({used}[{LOOKING_BACK}], 0)"
    return f"clamp_min(({left}) / (deriv({used}[{LOOKING_BACK}]) > 0), 0)"
