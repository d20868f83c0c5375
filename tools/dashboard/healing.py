"""What was healed, and why, over time."""

from __future__ import annotations

from typing import Final

from tools.dashboard.panels import GREEN, ORANGE, AnyPanel, counted, ranking
from tools.dashboard.queries import RANGE, STEP, Query, growth, of_hosts, of_pools

TITLE: Final = "What was healed, and why"

_FOUND: Final = of_hosts("dm_reconciler_drift_detected_total")
_HEALED: Final = of_hosts("dm_reconciler_heals_total", 'result="success"')
_FAILED: Final = of_hosts("dm_reconciler_heals_total", 'result="error"')
_DEVICE_HEALS: Final = of_pools("dm_reconciler_device_heals_total")
_POOL_HEALS: Final = of_pools("dm_reconciler_pool_heals_total")
_STEPS: Final = of_hosts("dm_reconciler_actions_total", 'result="success"')
_FAILED_STEPS: Final = of_hosts("dm_reconciler_actions_total", 'result="error"')


def panels() -> list[AnyPanel]:
    return [_healed(), _balance(), _failed(), _steps(), _devices(), _pools()]


def _healed() -> AnyPanel:
    return counted(
        "Healed, by reason",
        "Drifts that ended healed, by what was wrong. A burst is a reboot or a manifest with many new records. A "
        "steady trickle of one reason is something on the host that undoes it each time.\n\n"
        "Next: `dm-reconciler events`",
        Query(f"{growth(_HEALED, STEP, 'reason')} > 0", "{{reason}}"),
    ).no_value("nothing was healed")


def _balance() -> AnyPanel:
    return counted(
        "Found, healed, failed",
        "Found without healed: something waits, or cannot be healed; see the devices that are not ready. Failed: "
        "attempts, of which there may be several until it is healed.\n\nNext: `dm-reconciler events`",
        Query(growth(_FOUND, STEP), "found"),
        Query(growth(_HEALED, STEP), "healed"),
        Query(growth(_FAILED, STEP), "failed"),
    )


def _failed() -> AnyPanel:
    return counted(
        "What failed, and at which step",
        "By what was to be healed, and by the step that the host refused. It is tried again, at growing intervals.\n\n"
        "Next: `dm-reconciler events` has the host's own words; `dmesg`",
        Query(f"{growth(_FAILED, STEP, 'reason')} > 0", "{{reason}}"),
        Query(f"{growth(_FAILED_STEPS, STEP, 'action')} > 0", "step {{action}}"),
    ).no_value("nothing failed")


def _steps() -> AnyPanel:
    return counted(
        "Steps on the host",
        "What was done, of whatever record. Steps without anything healed: a plan that does not come to its end.\n\n"
        "Next: `dm-reconciler plan --manifests /etc/dm-reconciler` shows what is still to be done.",
        Query(f"{growth(_STEPS, STEP, 'action')} > 0", "{{action}}"),
    ).no_value("nothing was done")


def _devices() -> AnyPanel:
    return ranking(
        "Devices that were healed most",
        "Within the time that is shown. More than 5 in half an hour is an alert, DmReconcilerHealLoop: something else "
        "on the host changes the device each time.\n\nNext: `dm-reconciler events POOL/DEVICE`",
        Query(
            f"topk(10, {growth(_DEVICE_HEALS, RANGE, 'instance', 'pool', 'device')} > 0)",
            "{{pool}}/{{device}} on {{instance}}",
            instant=True,
        ),
        ((None, GREEN), (6, ORANGE)),
    ).no_value("none")


def _pools() -> AnyPanel:
    return ranking(
        "Pools that were healed most",
        "Within the time that is shown, pools themselves, without their devices. More than 10 in half an hour is an "
        "alert, DmReconcilerHealLoop.\n\nNext: `dm-reconciler events POOL`",
        Query(
            f"topk(10, {growth(_POOL_HEALS, RANGE, 'instance', 'pool')} > 0)",
            "{{pool}} on {{instance}}",
            instant=True,
        ),
        ((None, GREEN), (11, ORANGE)),
    ).no_value("none")
