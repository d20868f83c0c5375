"""Every metric, declared together. docs/reference/metrics.md is for those who read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from reconciler.model.condition import DRIFT, Reason
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.records import DeviceState, PoolState
from reconciler.model.report import DeviceStatus, PoolStatusReport, Status
from reconciler.model.status import PoolMode
from reconciler.model.steps import HostStep
from reconciler.telemetry.series import Family, Point, Points, RecordSeries

Result = Literal["success", "error"]

KINDS: Final = ("ThinPool", "ThinDevice")
DRIFTS: Final = tuple(reason for reason in Reason if reason in DRIFT)
RESULTS: Final[tuple[Result, ...]] = ("success", "error")
ACTIONS: Final = tuple(sorted({step.action for step in HostStep.__subclasses__()}))
QUEUE: Final = "records"

HEAL_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Seconds: from a resume that an event started to a device that others kept busy for minutes."""
WORK_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds: from one ioctl to mkfs on a slow disk."""

# Of each record: made when its status changes, gone when the record is.
DEVICE_READY = Family("dm_reconciler_device_ready", "1 while the device is as its record declares it.")
DEVICE_REASON = Family("dm_reconciler_device_reason", "1 for the present reason of the device; it has no other series.")
DEVICE_DESIRED = Family("dm_reconciler_device_desired_state", "1 for the state that the device's record declares.")
DEVICE_LIVE = Family("dm_reconciler_device_live_state", "1 for the state in which the device was last seen.")
DEVICE_SIZE = Family("dm_reconciler_device_size_bytes", "Size of the device. No series while nobody can tell.")
DEVICE_MAPPED = Family(
    "dm_reconciler_device_mapped_bytes", "Bytes of the pool that the device maps. No series while nobody can tell."
)
DEVICE_HEALS = Family("dm_reconciler_device_heals_total", "Drifts of the device that were healed.", "counter")
POOL_READY = Family("dm_reconciler_pool_ready", "1 while the pool is as its record declares it.")
POOL_REASON = Family("dm_reconciler_pool_reason", "1 for the present reason of the pool; it has no other series.")
POOL_DESIRED = Family("dm_reconciler_pool_desired_state", "1 for the state that the pool's record declares.")
POOL_LIVE = Family("dm_reconciler_pool_live_state", "1 for the state in which the pool was last seen.")
POOL_MODE = Family("dm_reconciler_pool_mode", "1 for the mode that the pool reports.")
POOL_DATA_USED = Family("dm_reconciler_pool_data_used_bytes", "Bytes of the data device in use.")
POOL_DATA_SIZE = Family("dm_reconciler_pool_data_size_bytes", "Size of the data device, as the pool uses it.")
POOL_METADATA_USED = Family("dm_reconciler_pool_metadata_used_bytes", "Bytes of the metadata device in use.")
POOL_METADATA_SIZE = Family(
    "dm_reconciler_pool_metadata_size_bytes", "Size of the metadata device, as the pool uses it."
)
POOL_LEAKED_IDS = Family(
    "dm_reconciler_pool_leaked_thin_ids", "Thin ids in the pool that nobody's record accounts for."
)
POOL_LEAKED_BYTES = Family("dm_reconciler_pool_leaked_bytes", "Bytes that the leaked thin ids map.")

RECORD_FAMILIES: Final = tuple(declared for declared in [*globals().values()] if isinstance(declared, Family))
"""All of the above: a family that is not served would be declared for nothing."""


class Metrics:
    """What the controller tells of its work. Each method costs microseconds and waits for nobody."""

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
        self._drifts = Counter(
            "dm_reconciler_drift_detected_total",
            "Episodes of drift: counted when found, not again on each pass that still finds it.",
            ("kind", "reason"),
            registry=registry,
        )
        self._heals = Counter(
            "dm_reconciler_heals_total",
            "Attempts to heal a drift.",
            ("kind", "reason", "result"),
            registry=registry,
        )
        self._heal_seconds = Histogram(
            "dm_reconciler_heal_duration_seconds",
            "From the detection of a drift to the look that found it healed.",
            ("reason",),
            buckets=HEAL_BUCKETS,
            registry=registry,
        )
        self._actions = Counter(
            "dm_reconciler_actions_total",
            "Steps carried out on the host.",
            ("action", "result"),
            registry=registry,
        )
        self._action_seconds = Histogram(
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
            registry=registry,
        )
        self._record_count = Gauge(
            "dm_reconciler_records", "Records in the set in force.", ("kind",), registry=registry
        )
        self._reconcile_seconds = Histogram(
            "dm_reconciler_reconcile_duration_seconds",
            "Time that one turn for one record took: look, plan, steps.",
            ("kind",),
            buckets=WORK_BUCKETS,
            registry=registry,
        )
        self._resync_seconds = Histogram(
            "dm_reconciler_resync_duration_seconds",
            "Time that a pass over all records took.",
            ("kind",),
            buckets=WORK_BUCKETS,
            registry=registry,
        )
        self._resync_interval = Gauge(
            "dm_reconciler_resync_interval_seconds",
            "Time between the starts of two passes over all records, as configured.",
            ("kind",),
            registry=registry,
        )
        self._start_at_zero()

    def _start_at_zero(self) -> None:
        """Make every series of a closed set, as `rate()` misses the first increase of one that appears with it."""
        for kind in KINDS:
            for reason in DRIFTS:
                self._drifts.labels(kind, reason)
                for result in RESULTS:
                    self._heals.labels(kind, reason, result)
            self._record_count.labels(kind)
            self._reconcile_seconds.labels(kind)
            self._resync_seconds.labels(kind)
            self._resync_interval.labels(kind)
        for reason in DRIFTS:
            self._heal_seconds.labels(reason)
        for action in ACTIONS:
            self._action_seconds.labels(action)
            for result in RESULTS:
                self._actions.labels(action, result)

    def build_info(self, version: str, kernel: str, libdevmapper: str) -> None:
        self._build.clear()
        self._build.labels(version, kernel, libdevmapper).set(1)

    def status(self, status: Status, desired: str) -> None:
        """Tell what was last seen of a record, in place of all that was told of it. `desired` is its record's state."""
        if isinstance(status, DeviceStatus):
            self._records.put(status.key, _of_device(status, desired, self._heals_of.get(status.key, 0)))
        elif isinstance(status, PoolStatusReport):
            self._records.put(status.key, _of_pool(status, desired))

    def forget(self, key: Key) -> None:
        """Drop every series of a record that is gone."""
        self._records.drop(key)
        self._heals_of.pop(key, None)

    def drift(self, kind: str, reason: Reason) -> None:
        """Count an episode, at its first look."""
        self._drifts.labels(kind, reason).inc()

    def healed(self, kind: str, reason: Reason, result: Result, seconds: float, key: Key) -> None:
        """Count the end of an episode, or a failed attempt at it; `seconds` since detection count for a success only."""
        self._heals.labels(kind, reason, result).inc()
        if result != "success":
            return
        self._heal_seconds.labels(reason).observe(seconds)
        if key.device:
            self._heals_of[key] = self._heals_of.get(key, 0) + 1
            self._records.update(key, _heals(key, self._heals_of[key]))

    def action(self, action: str, result: Result, seconds: float) -> None:
        """Count a step on the host. `action` is its class's word for itself."""
        self._actions.labels(action, result).inc()
        self._action_seconds.labels(action).observe(seconds)

    def manifests(self, errors: int, records_by_kind: Mapping[str, int], loaded_at: float | None) -> None:
        """Tell of a read of the manifests. `loaded_at` (wall clock) is None where the last good set stays in force."""
        self._manifest_errors.set(errors)
        for kind in KINDS:
            self._record_count.labels(kind).set(records_by_kind.get(kind, 0))
        if loaded_at is not None:
            self._manifest_loaded.set(loaded_at)

    def reconcile(self, kind: str, seconds: float) -> None:
        self._reconcile_seconds.labels(kind).observe(seconds)

    def resync(self, seconds: float) -> None:
        """Tell how long a pass took. One pass covers both kinds, so it counts for each."""
        for kind in KINDS:
            self._resync_seconds.labels(kind).observe(seconds)

    def resync_interval(self, seconds: float) -> None:
        for kind in KINDS:
            self._resync_interval.labels(kind).set(seconds)


class QueueMetrics:
    """What the work queue tells of itself, under the names that controller-runtime has made known."""

    def __init__(self, registry: CollectorRegistry, name: str = QUEUE) -> None:
        def gauge(suffix: str, text: str) -> Gauge:
            return Gauge(f"dm_reconciler_workqueue_{suffix}", text, ("name",), registry=registry).labels(name)

        def counter(suffix: str, text: str) -> Counter:
            return Counter(f"dm_reconciler_workqueue_{suffix}", text, ("name",), registry=registry).labels(name)

        def histogram(suffix: str, text: str) -> Histogram:
            return Histogram(
                f"dm_reconciler_workqueue_{suffix}", text, ("name",), buckets=WORK_BUCKETS, registry=registry
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


def _of_device(status: DeviceStatus, desired: str, heals: int) -> Points:
    labels = {"pool": status.key.pool, "device": status.key.device}
    return {
        DEVICE_READY: (DEVICE_READY.point(labels, status.ready),),
        DEVICE_REASON: (DEVICE_REASON.point({**labels, "reason": status.reason.value}, 1),),
        DEVICE_DESIRED: _one_of(DEVICE_DESIRED, labels, "state", DeviceState, desired),
        DEVICE_LIVE: _one_of(DEVICE_LIVE, labels, "state", LiveState, status.live),
        DEVICE_SIZE: _known(DEVICE_SIZE, labels, status.size),
        DEVICE_MAPPED: _known(DEVICE_MAPPED, labels, status.mapped),
        **_heals(status.key, heals),
    }


def _of_pool(status: PoolStatusReport, desired: str) -> Points:
    labels = {"pool": status.key.pool}
    return {
        POOL_READY: (POOL_READY.point(labels, status.ready),),
        POOL_REASON: (POOL_REASON.point({**labels, "reason": status.reason.value}, 1),),
        POOL_DESIRED: _one_of(POOL_DESIRED, labels, "state", PoolState, desired),
        POOL_LIVE: _one_of(POOL_LIVE, labels, "state", LiveState, status.live),
        POOL_MODE: _one_of(POOL_MODE, labels, "mode", PoolMode, status.mode),
        POOL_DATA_USED: _known(POOL_DATA_USED, labels, status.data_used),
        POOL_DATA_SIZE: _known(POOL_DATA_SIZE, labels, status.data_size),
        POOL_METADATA_USED: _known(POOL_METADATA_USED, labels, status.metadata_used),
        POOL_METADATA_SIZE: _known(POOL_METADATA_SIZE, labels, status.metadata_size),
        POOL_LEAKED_IDS: _known(POOL_LEAKED_IDS, labels, len(status.leaked_ids)),
        POOL_LEAKED_BYTES: _known(POOL_LEAKED_BYTES, labels, status.leaked),
    }


def _heals(key: Key, count: int) -> Points:
    return {DEVICE_HEALS: (DEVICE_HEALS.point({"pool": key.pool, "device": key.device}, count),)}


def _one_of(
    family: Family, labels: dict[str, str], label: str, values: Iterable[str], present: str
) -> tuple[Point, ...]:
    return tuple(family.point({**labels, label: str(value)}, value == present) for value in values)


def _known(family: Family, labels: dict[str, str], value: int | None) -> tuple[Point, ...]:
    return () if value is None else (family.point(labels, value),)
