"""The first row: is everything as it should be? Each panel is green, or says in a word what is not."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.common import BigValueTextMode

from tools.dashboard.panels import (
    BLUE,
    GREEN,
    NONE_IS_GOOD,
    ORANGE,
    PLAIN,
    RED,
    AnyPanel,
    Column,
    Words,
    listing,
    single,
    states,
    status_page,
)
from tools.dashboard.queries import (
    DATA_FILL,
    DATA_LIMIT,
    DATA_USED,
    DEVICE_LEFT_ALONE,
    DEVICE_READY,
    DEVICE_UNSETTLED,
    METADATA_FILL,
    POOL_LEFT_ALONE,
    POOL_READY,
    POOL_UNSETTLED,
    RANGE,
    RESYNC_INTERVAL,
    Query,
    full_in,
    growth,
    number_of,
    of_hosts,
    scraped,
)

TITLE: Final = "Is everything as it should be?"
ALERTS: Final = 'ALERTS{alertname=~"DmReconciler.+", alertstate="firing", instance=~"$instance|", pool=~"$pool|"}'
"""Some alerts name no pool, and one no host."""

_STILL: Final = f"increase({of_hosts('dm_reconciler_turns_total')}[5m]) == bool 0"
_SELDOM: Final = f"{RESYNC_INTERVAL} > 150"
"""Two turns in 5 minutes are not to be expected there: DmReconcilerLoopStalled waits longer for it."""
_NONE: Final[Words] = {"0": ("none", GREEN)}


def panels() -> list[AnyPanel]:
    return [*_records(), *_pools(), *_daemons(), *_healing(), _hosts(), _alerts()]


def _records() -> list[AnyPanel]:
    return [
        single(
            "Devices not as declared",
            "Without those that are paused or whose record is gone. For a moment that is a device being healed; what "
            "stays is listed below, with its reason.\n\nNext: `dm-reconciler get devices -o wide`",
            Query(number_of(DEVICE_UNSETTLED, DEVICE_READY)),
            steps=((None, GREEN), (1, ORANGE), (10, RED)),
            words=_NONE,
        ).no_value("no devices"),
        single(
            "Pools not as declared",
            "Without those that are paused or whose record is gone. The devices of such a pool wait for it.\n\n"
            "Next: `dm-reconciler get pools`, then `dm-reconciler describe pool POOL`",
            Query(number_of(POOL_UNSETTLED, POOL_READY)),
            steps=NONE_IS_GOOD,
            words=_NONE,
        ).no_value("no pools"),
        single(
            "Alerts",
            "Of this project's rules that are firing for the hosts and pools that are chosen. It says none, too, "
            "where the rules are not loaded into Prometheus.\n\nNext: what to do about each is at the end of this page.",
            Query(f"count({ALERTS}) or vector(0)"),
            steps=NONE_IS_GOOD,
            words=_NONE,
        ),
    ]


def _pools() -> list[AnyPanel]:
    return [
        single(
            "Fullest pool",
            "How much is used of the fullest data and of the fullest metadata. Over 95% of data or 90% of metadata "
            "an alert fires: full data hold up every writer, full metadata make the pool read-only.\n\n"
            "Next: `dm-reconciler describe pool POOL`",
            Query(f"max({DATA_FILL})", "data"),
            Query(f"max({METADATA_FILL})", "metadata"),
            steps=((None, GREEN), (0.8, ORANGE), (0.9, RED)),
        )
        .unit("percentunit")
        .decimals(0)
        .text_mode(BigValueTextMode.VALUE_AND_NAME)
        .no_value("no figures"),
        single(
            "First pool to be full",
            "When the first pool's data reach all that it may grow to, if it goes on as in the last 6 hours. Within a "
            "day an alert fires, from half full on.\n\nNext: `dm-reconciler get devices` shows who maps how much.",
            Query(f"min({full_in(DATA_USED, DATA_LIMIT)})"),
            steps=((None, RED), (86400, ORANGE), (7 * 86400, GREEN)),
        )
        .unit("s")
        .decimals(0)
        .no_value("none grows"),
    ]


def _daemons() -> list[AnyPanel]:
    return [
        single(
            "Hosts that do not answer",
            "Daemons that Prometheus cannot scrape. Devices go on working as they are, but nothing is healed there.\n\n"
            "Next, on that host: `systemctl status dm-reconciler`. Where it says no target, nothing is scraped as "
            'job="dm-reconciler": DmReconcilerAbsent below.',
            Query(f"sum({scraped('up')} == bool 0)"),
            steps=NONE_IS_GOOD,
            words={"0": ("all answer", GREEN)},
        ).no_value("no target"),
        single(
            "Standing still",
            "Daemons that answer but have not turned for 5 minutes: nothing is looked at.\n\n"
            "Next: `journalctl -u dm-reconciler -n 100`",
            Query(f"sum({_STILL} unless on (job, instance) {_SELDOM})"),
            steps=NONE_IS_GOOD,
            words={"0": ("all turn", GREEN)},
        ),
        single(
            "Manifests",
            "Errors in the manifests as last read. Above 0 the last good set stays in force, and edits do nothing.\n\n"
            "Next, on that host: `dm-reconciler validate /etc/dm-reconciler`",
            Query(f"sum({of_hosts('dm_reconciler_manifest_errors')})"),
            steps=((None, GREEN), (1, ORANGE)),
            words={"0": ("valid", GREEN)},
        ),
        single(
            "Store",
            "Whether every daemon can write its store. While one cannot, it only looks on.\n\n"
            "Next: `df /var/lib/dm-reconciler`",
            Query(f"min({of_hosts('dm_reconciler_store_writable')})"),
            steps=((None, RED), (1, GREEN)),
            words={"0": ("not writable", RED), "1": ("writable", GREEN)},
        ),
    ]


def _healing() -> list[AnyPanel]:
    return [
        single(
            "Healed",
            "Drifts that ended healed within the time that is shown, on the hosts that are chosen. Many of one device: "
            "something else on its host changes it, see below.\n\nNext: `dm-reconciler events`",
            Query(growth(of_hosts("dm_reconciler_heals_total", 'result="success"'), RANGE), instant=True),
            steps=PLAIN,
        ).decimals(0),
        single(
            "Attempts that failed",
            "Steps that did not work while something was being healed, within the time that is shown. Each is tried "
            "again; what goes on failing is listed below as not ready.\n\nNext: `dm-reconciler events`",
            Query(growth(of_hosts("dm_reconciler_heals_total", 'result="error"'), RANGE), instant=True),
            steps=((None, GREEN), (1, ORANGE)),
            words=_NONE,
        ).decimals(0),
        single(
            "Left alone on purpose",
            "Records that say `paused: true`, and devices whose record is gone and that are kept. Nothing is healed "
            "there.\n\nNext: `dm-reconciler get`",
            Query(number_of(f"{DEVICE_LEFT_ALONE} or {POOL_LEFT_ALONE}", POOL_READY)),
            steps=((None, GREEN), (1, BLUE)),
            words=_NONE,
        ).no_value("no pools"),
    ]


def _hosts() -> AnyPanel:
    unsettled = f"count by (instance) ({DEVICE_UNSETTLED} or {POOL_UNSETTLED})"
    return (
        states(
            "Records that are not as declared, by host",
            "Green: all of the host's records are as declared, or left alone on purpose. A gap: the daemon did not "
            "answer, and nobody knows.\n\nNext: click a host for its status page, or type `dm-reconciler get` there.",
            Query(f"{unsettled} or 0 * count by (instance) ({POOL_READY})", "{{instance}}"),
            ((None, GREEN), (1, ORANGE), (10, RED)),
            {"0": ("as declared", GREEN)},
        )
        .data_links([status_page("${__field.labels.instance}")])
        .height(9)
    )


def _alerts() -> AnyPanel:
    return (
        listing(
            "Alerts that fire",
            "Each says where. What it means and what to type first is at the end of this page.\n\n"
            "Next: `dm-reconciler describe` of the pool or device, on that host.",
            [Query(f"max by (alertname, severity, pool, device, instance) ({ALERTS})", instant=True)],
            [
                Column("alertname", "Alert"),
                Column("severity", "Severity", words={"critical": ("critical", RED), "warning": ("warning", ORANGE)}),
                Column("pool", "Pool"),
                Column("device", "Device"),
                Column("instance", "Host", page_of_host=True),
            ],
        )
        .span(12)
        .no_value("none fires")
    )
