"""Devices that are not ready, why, and since when."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.common import StackingConfig
from grafana_foundation_sdk.models.common import StackingMode

from tools.dashboard.panels import AnyPanel, Column, listing, over_time
from tools.dashboard.queries import DEVICE_NOT_CONVERGED, DEVICE_UNSETTLED, POOL_UNSETTLED, Query, of_pools
from tools.dashboard.words import LIVE, REASONS

TITLE: Final = "Devices that are not ready"

_LIVE: Final = of_pools("dm_reconciler_device_live_state")
_DESIRED: Final = of_pools("dm_reconciler_device_desired_state")


def panels() -> list[AnyPanel]:
    return [_now(), _over_time(), _live()]


def _now() -> AnyPanel:
    return listing(
        "Not ready now",
        "Yellow is drift that is being healed: it should be gone at the next glance. Orange waits for something else, "
        "red for somebody, blue is left alone on purpose. The host leads to its status page.\n\n"
        "Next: `dm-reconciler describe device POOL/DEVICE` says what was found, since when, who holds it, and what to "
        "type.",
        [
            Query(f"max by (pool, device, instance, reason) ({DEVICE_NOT_CONVERGED})", instant=True),
            Query(_state_of_those("desired", _DESIRED), instant=True),
            Query(_state_of_those("live", _LIVE), instant=True),
        ],
        [
            Column("pool", "Pool"),
            Column("device", "Device"),
            Column("instance", "Host", page_of_host=True),
            Column("reason", "Reason", words=REASONS),
            Column("desired", "Declared"),
            Column("live", "Live", words=LIVE),
        ],
    ).no_value("all are as declared")


def _state_of_those(label: str, states: str) -> str:
    """The state under a label of its own, of devices that are not ready: no others are to be rows of the table."""
    renamed = f'label_replace({states} == 1, "{label}", "$1", "state", "(.*)")'
    those = f"{renamed} and on (instance, pool, device) {DEVICE_NOT_CONVERGED}"
    return f"max by (pool, device, instance, {label}) ({those})"


def _over_time() -> AnyPanel:
    return (
        over_time(
            "Not as declared, by reason",
            "Pools and devices, without those left alone on purpose. A spike is something that was healed; a plateau "
            "is something that is not, and its reason says why.\n\nNext: the table above, then "
            "`dm-reconciler describe device POOL/DEVICE`",
            Query(f"count by (reason) ({DEVICE_UNSETTLED} or {POOL_UNSETTLED})", "{{reason}}"),
        )
        .stacking(StackingConfig().mode(StackingMode.NORMAL))
        .fill_opacity(60)
        .decimals(0)
        .no_value("all are as declared")
    )


def _live() -> AnyPanel:
    return over_time(
        "Devices by live state",
        "Suspended for longer than the grace: whoever opens the device hangs. Unknown: the pool does not answer, or "
        "was not looked at yet.\n\nNext: `dm-reconciler get devices -o wide`",
        Query(f"sum by (state) ({_LIVE})", "{{state}}"),
    ).decimals(0)
