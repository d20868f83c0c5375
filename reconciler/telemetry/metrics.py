"""Metrics of the reconciler's own work; those of each record are in `collector`.

docs/reference/metrics.md describes them to users.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from reconciler.model.conditions import DRIFT, DeviceStatus, PoolStatusReport, Reason, Status
from reconciler.model.names import Key
from reconciler.telemetry.collector import (
    DEVICE_HEALS,
    POOL_HEALS,
    RECORD_FAMILIES,
    KeptCounter,
    KeptHistogram,
    RecordSeries,
    of_device,
    of_heals,
    of_pool,
    unit_of,
)

Result = Literal["success", "error"]

KINDS: Final = ("ThinPool", "ThinDevice")
DRIFTS: Final = tuple(reason for reason in Reason if reason in DRIFT)
RESULTS: Final[tuple[Result, ...]] = ("success", "error")
ACTIONS: Final = (
    "activate",
    "activate_pool",
    "attach_loop",
    "cancel_deferred_remove",
    "clear",
    "confirm_empty",
    "create_snap",
    "create_thin",
    "delete_file",
    "delete_thin",
    "detach_loop",
    "discard",
    "grow_file",
    "grow_filesystem",
    "load",
    "load_pool",
    "make_file",
    "make_writable",
    "mkfs",
    "refresh_nodes",
    "remove",
    "remove_pool",
    "resume",
    "set_transaction_id",
    "thin_check",
    "zero_superblock",
)
"""The actions of all steps on the host; each has a series from the start."""
QUEUE: Final = "records"

HEAL_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""In seconds, from a resume right after an event to a device that others kept busy for minutes."""
WORK_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""In seconds, from one ioctl to mkfs on a slow disk."""


class Metrics:
    """The metrics that the controller updates. Each method takes microseconds and never blocks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.queue = QueueMetrics(registry)
        self._records = RecordSeries(RECORD_FAMILIES)
        registry.register(self._records)
        self._heals_of: dict[Key, int] = {}

        self._build = Gauge(
            "dm_reconciler_build_info",
            "1, with the versions of the reconciler and of what it stands on.",
            ("version", "kernel", "libdevmapper"),
            registry=registry,
        )
        self._drifts = KeptCounter(
            "dm_reconciler_drift_detected_total",
            "Episodes of drift: counted when found, not again on each pass that still finds it.",
            ("kind", "reason"),
            registry=registry,
        )
        self._heals = KeptCounter(
            "dm_reconciler_heals_total",
            "Attempts to heal a drift.",
            ("kind", "reason", "result"),
            registry=registry,
        )
        self._heal_seconds = KeptHistogram(
            "dm_reconciler_heal_duration_seconds",
            "From the detection of a drift to the look that found it healed.",
            ("reason",),
            buckets=HEAL_BUCKETS,
            registry=registry,
        )
        self._actions = KeptCounter(
            "dm_reconciler_actions_total",
            "Steps carried out on the host.",
            ("action", "result"),
            registry=registry,
        )
        self._action_seconds = KeptHistogram(
            "dm_reconciler_action_duration_seconds",
            "Time that a step on the host took, whatever its result.",
            ("action",),
            buckets=WORK_BUCKETS,
            registry=registry,
        )
        self._manifest_errors = Gauge(
            "dm_reconciler_manifest_errors",
            "Errors in the manifests as last read; not 0 means that the last good set is in force.",
            registry=registry,
        )
        self._manifest_loaded = Gauge(
            "dm_reconciler_manifest_last_load_timestamp_seconds",
            "When the set in force was loaded, in seconds since 1970; 0 before the first.",
            unit="seconds",
            registry=registry,
        )
        self._record_count = Gauge(
            "dm_reconciler_records", "Records in the set in force.", ("kind",), registry=registry
        )
        self._retained = Gauge(
            "dm_reconciler_retained",
            "What no record names any more, and is left as it is: see `dm-reconciler get`.",
            ("kind",),
            registry=registry,
        )
        self._retained_keys: set[Key] = set()
        self._turns = Counter(
            "dm_reconciler_turns_total",
            "Turns of the dispatcher, one a resync: while it stands still, nothing is looked at.",
            registry=registry,
        )
        self._store_writable = Gauge(
            "dm_reconciler_store_writable",
            "1 while the store can be written to; while it cannot, nothing is done to any device.",
            registry=registry,
        )
        self._observe_only = Gauge(
            "dm_reconciler_observe_only",
            "1 where it runs with --observe: what is found is told, and nothing is done to any device.",
            registry=registry,
        )
        self._reconcile_seconds = Histogram(
            "dm_reconciler_reconcile_duration_seconds",
            "Time that one turn for one record took: look, plan, steps.",
            ("kind",),
            unit="seconds",
            buckets=WORK_BUCKETS,
            registry=registry,
        )
        self._resync_seconds = Histogram(
            "dm_reconciler_resync_duration_seconds",
            "Time that a pass over all records took.",
            ("kind",),
            unit="seconds",
            buckets=WORK_BUCKETS,
            registry=registry,
        )
        self._resync_interval = Gauge(
            "dm_reconciler_resync_interval_seconds",
            "Time between the starts of two passes over all records, as configured.",
            ("kind",),
            unit="seconds",
            registry=registry,
        )
        self._start_at_zero()

    def _start_at_zero(self) -> None:
        """Makes every series of a closed set, because `rate()` misses the first increase of a series that begins with
        it.
        """
        self._store_writable.set(1)
        for kind in KINDS:
            for reason in DRIFTS:
                self._drifts.start_at_zero(kind, reason)
                for result in RESULTS:
                    self._heals.start_at_zero(kind, reason, result)
            self._record_count.labels(kind)
            self._retained.labels(kind)
            self._reconcile_seconds.labels(kind)
            self._resync_seconds.labels(kind)
            self._resync_interval.labels(kind)
        for reason in DRIFTS:
            self._heal_seconds.start_at_zero(reason)
        for action in ACTIONS:
            self._action_seconds.start_at_zero(action)
            for result in RESULTS:
                self._actions.start_at_zero(action, result)

    def build_info(self, version: str, kernel: str, libdevmapper: str) -> None:
        """Sets the build information. `kernel` is the release, as in `uname -r`."""
        self._build.clear()
        self._build.labels(version, kernel, libdevmapper).set(1)

    def status(self, status: Status, desired: str) -> None:
        """Replaces all series of a record by what was last seen of it. `desired` is the state in its record.

        An object without a record has series only while something is to be done about it, so that the number of series
        is bounded by the records.
        """
        is_retained = not desired and status.good
        self._retain(status.key, retained=is_retained)
        if is_retained:
            self._records.drop(status.key)
        elif isinstance(status, DeviceStatus):
            self._records.put(status.key, of_device(status, desired, self._heals_of.get(status.key, 0)))
        elif isinstance(status, PoolStatusReport):
            self._records.put(status.key, of_pool(status, desired, self._heals_of.get(status.key, 0)))

    def forget(self, key: Key) -> None:
        """Removes every series of a record that is gone."""
        self._retain(key, retained=False)
        self._records.drop(key)
        self._heals_of.pop(key, None)

    def _retain(self, key: Key, *, retained: bool) -> None:
        if retained == (key in self._retained_keys):
            return
        self._retained_keys ^= {key}
        self._retained.labels(key.kind).inc(1 if retained else -1)

    def drift(self, kind: str, reason: Reason) -> None:
        """Counts drift, when a scan first finds it."""
        self._drifts.inc(kind, reason)

    def healed(self, kind: str, reason: Reason, result: Result, seconds: float, key: Key) -> None:
        """Counts the end of drift, or a failed attempt at it; `seconds` since detection count for a success only."""
        self._heals.inc(kind, reason, result)
        if result != "success":
            return
        self._heal_seconds.observe(seconds, reason)
        count = self._heals_of[key] = self._heals_of.get(key, 0) + 1
        self._records.update(key, DEVICE_HEALS if key.device else POOL_HEALS, of_heals(key, count))

    def action(self, action: str, result: Result, seconds: float) -> None:
        """Counts a step on the host. `action` is the name that the class of the step has for it."""
        self._actions.inc(action, result)
        self._action_seconds.observe(seconds, action)

    def manifest_errors(self, count: int) -> None:
        """Sets the number of problems in the manifests as they were last read."""
        self._manifest_errors.set(count)

    def in_force(self, records_by_kind: Mapping[str, int], loaded_at: float) -> None:
        """Reports the set that is in force from now on; `loaded_at` is in wall-clock seconds."""
        for kind in KINDS:
            self._record_count.labels(kind).set(records_by_kind.get(kind, 0))
        self._manifest_loaded.set(loaded_at)

    def store_writable(self, writable: bool) -> None:
        self._store_writable.set(writable)

    def observe_only(self, only: bool) -> None:
        self._observe_only.set(only)

    def turned(self) -> None:
        """Notes that the dispatcher has gone round once more, and has everything scanned again."""
        self._turns.inc()

    def reconcile(self, kind: str, seconds: float) -> None:
        self._reconcile_seconds.labels(kind).observe(seconds)

    def resync(self, seconds: float) -> None:
        """Reports how long a pass took. A pass covers both kinds, so it counts for each."""
        for kind in KINDS:
            self._resync_seconds.labels(kind).observe(seconds)

    def resync_interval(self, seconds: float) -> None:
        for kind in KINDS:
            self._resync_interval.labels(kind).set(seconds)


class QueueMetrics:
    """The metrics of the work queue, under the names that controller-runtime has made well known."""

    def __init__(self, registry: CollectorRegistry, name: str = QUEUE) -> None:
        def gauge(suffix: str, text: str) -> Gauge:
            full = f"dm_reconciler_workqueue_{suffix}"
            return Gauge(full, text, ("name",), unit=unit_of(full), registry=registry).labels(name)

        def counter(suffix: str, text: str) -> Counter:
            return Counter(f"dm_reconciler_workqueue_{suffix}", text, ("name",), registry=registry).labels(name)

        def histogram(suffix: str, text: str) -> Histogram:
            return Histogram(
                f"dm_reconciler_workqueue_{suffix}",
                text,
                ("name",),
                unit="seconds",
                buckets=WORK_BUCKETS,
                registry=registry,
            ).labels(name)

        self._depth = gauge("depth", "Keys that are due and wait for their turn.")
        self._adds = counter("adds_total", "Keys added.")
        self._retries = counter("retries_total", "Keys added again after a failure.")
        self._waited = histogram("queue_duration_seconds", "Time that a key was due before its turn came.")
        self._worked = histogram("work_duration_seconds", "Time that the turn of a key took.")
        self._longest = gauge("longest_running_seconds", "Age of the oldest turn that has not ended yet.")

    def add(self) -> None:
        self._adds.inc()

    def retry(self) -> None:
        self._retries.inc()

    def started(self, waited: float) -> None:
        self._waited.observe(waited)

    def done(self, worked: float) -> None:
        self._worked.observe(worked)

    def depth(self, count: int) -> None:
        self._depth.set(count)

    def longest_running(self, seconds: float) -> None:
        self._longest.set(seconds)
