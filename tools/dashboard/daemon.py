"""The daemon itself: versions, whether it turns in time, and what its work costs."""

from __future__ import annotations

from typing import Final

from tools.dashboard.panels import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    AnyPanel,
    Column,
    Words,
    line_at,
    listing,
    over_time,
    states,
)
from tools.dashboard.queries import ONCE, RESYNC_INTERVAL, STEP, Query, of_hosts, quantile, scraped

TITLE: Final = "The daemon itself"

_UP: Final[Words] = {"0": ("does not answer", RED), "1": ("answers", GREEN)}
_STORE: Final[Words] = {"0": ("not writable", RED), "1": ("writable", GREEN)}
_HEALS: Final[Words] = {"0": ("yes", GREEN), "1": ("no, it only observes", BLUE)}
_POOLS: Final = of_hosts("dm_reconciler_records", 'kind="ThinPool"')
_DEVICES: Final = of_hosts("dm_reconciler_records", 'kind="ThinDevice"')
_LOADED: Final = of_hosts("dm_reconciler_manifest_last_load_timestamp_seconds")


def panels() -> list[AnyPanel]:
    return [_hosts(), _answers(), _turns(), _passes(), _turn_of_a_record(), _steps(), _scrapes()]


def _hosts() -> AnyPanel:
    return listing(
        "Hosts",
        "One line for each daemon that answers. Another version or kernel than on the others is worth knowing before "
        "anything else is looked for. The host leads to its status page.\n\nNext: `dm-reconciler doctor` on the host.",
        [
            Query(
                f"max by (instance, version, kernel, libdevmapper) ({of_hosts('dm_reconciler_build_info')})",
                instant=True,
            ),
            Query(f"max by (instance) ({of_hosts('dm_reconciler_store_writable')})", instant=True),
            Query(f"max by (instance) ({of_hosts('dm_reconciler_manifest_errors')})", instant=True),
            Query(f"1000 * max by (instance) ({_LOADED} > 0)", instant=True),
            Query(f"max by (instance) ({_POOLS})", instant=True),
            Query(f"max by (instance) ({_DEVICES})", instant=True),
            Query(f"max by (instance) ({of_hosts('dm_reconciler_observe_only')})", instant=True),
            Query(f"sum by (instance) ({of_hosts('dm_reconciler_retained')})", instant=True),
        ],
        [
            Column("instance", "Host", page_of_host=True),
            Column("version", "Version"),
            Column("kernel", "Kernel"),
            Column("libdevmapper", "libdevmapper"),
            Column("Value #G", "Heals", words=_HEALS),
            Column("Value #B", "Store", words=_STORE),
            Column("Value #C", "Manifest errors", unit="none", steps=((None, GREEN), (1, ORANGE))),
            Column("Value #D", "Manifests of", unit="dateTimeFromNow"),
            Column("Value #E", "Pools", unit="none"),
            Column("Value #F", "Devices", unit="none"),
            Column("Value #H", "Without a record", unit="none"),
        ],
    )


def _answers() -> AnyPanel:
    return states(
        "Answers",
        "Whether Prometheus could scrape it. 3 minutes without an answer are an alert.\n\n"
        "Next: `systemctl status dm-reconciler`; `curl http://127.0.0.1:9810/healthz` on the host.",
        Query(scraped("up"), "{{instance}}"),
        ((None, RED), (1, GREEN)),
        _UP,
    ).height(8)


def _turns() -> AnyPanel:
    turns = f"rate({of_hosts('dm_reconciler_turns_total')}[{STEP}])"
    return over_time(
        "Turns, of those that are due",
        "100%: the dispatcher has everything looked at once every resync. Less: the host gives it no time. 0: it "
        "stands still, and after 5 minutes an alert fires.\n\nNext: `journalctl -u dm-reconciler -n 100`",
        Query(f"{turns} * on (job, instance) {RESYNC_INTERVAL}", "{{instance}}"),
        unit="percentunit",
    )


def _passes() -> AnyPanel:
    duration = of_hosts("dm_reconciler_resync_duration_seconds_bucket", ONCE)
    return over_time(
        "A pass over all records",
        "95th percentile, and the time between the starts of two passes. A pass that takes longer than that delays "
        "what is found without an event; `--resync` sets it.\n\nNext: `dm-reconciler get pools`; load of the host.",
        Query(quantile(0.95, duration, STEP, "instance"), "95%, {{instance}}"),
        Query(RESYNC_INTERVAL, "resync, {{instance}}"),
        unit="s",
    )


def _turn_of_a_record() -> AnyPanel:
    duration = of_hosts("dm_reconciler_reconcile_duration_seconds_bucket")
    return over_time(
        "A turn for one record",
        "95th percentile of looking, planning and doing, by kind. Milliseconds while there is nothing to do.\n\n"
        "Next: the steps, beside this, say what takes long.",
        Query(quantile(0.95, duration, STEP, "kind"), "{{kind}}"),
        unit="s",
    )


def _steps() -> AnyPanel:
    duration = of_hosts("dm_reconciler_action_duration_seconds_bucket")
    return over_time(
        "Steps on the host, how long they take",
        "95th percentile by step, where there was any. mkfs, discards and files that are allocated take as long as "
        "the disk does; all else is milliseconds.\n\nNext: `dmesg`; the disk below the pool.",
        Query(quantile(0.95, duration, STEP, "action"), "{{action}}"),
        unit="s",
    ).no_value("nothing was done")


def _scrapes() -> AnyPanel:
    return line_at(
        over_time(
            "Scrapes",
            "A scrape makes no kernel call; with 1,000 devices it takes about 10 ms. Near the scrape's timeout (10 s, "
            "the dashed line) the host has no time for it.\n\nNext: `curl http://127.0.0.1:9810/metrics` on the host.",
            Query(scraped("scrape_duration_seconds"), "{{instance}}"),
            unit="s",
        ),
        10,
        RED,
    )
