"""The series of records, which appear and vanish with them, and the exposition of a registry to Prometheus.

1,000 devices have 14,000 series. With a child object of prometheus_client for each, every change of a reason would
remove one child and make another, and the encoder would need a fifth of a second for a scrape while it holds the
interpreter's lock. So the lines of a record are made once, when its status changes, and a scrape only joins them. They
are gone when the record is.

A registry is exposed as Prometheus reads it: in the text format or in OpenMetrics, whichever is asked for.

prometheus_client needs microseconds to collect a series, and the series of a closed set all exist from the start, some
1,500. Most scrapes find them unchanged, so a metric is collected anew only if one of its series has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.samples import Sample

from reconciler.model.conditions import DeviceStatus, PoolStatusReport
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.records import DeviceState, PoolState

_UNITS: Final = ("bytes", "seconds")


@dataclass(frozen=True, slots=True)
class RenderedSamples:
    """The series of one record in one family: samples, and their lines, which are the same in both formats."""

    samples: tuple[Sample, ...]
    lines: str


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """A metric whose series belong to records. The name of a counter includes its `_total`."""

    name: str
    help: str
    type: str = "gauge"

    def tell(self, *points: tuple[Mapping[str, str], float]) -> RenderedSamples:
        """Renders series from their labels and values."""
        samples = tuple(Sample(self.name, dict(labels), float(value)) for labels, value in points)
        return RenderedSamples(samples, "".join(map(_line, samples)))

    def metric(self, told: tuple[RenderedSamples, ...] = ()) -> RecordMetric:
        return RecordMetric(self, told)


class RecordMetric(Metric):
    """A family as a scrape collects it: with lines for the exposition, and with samples for other users."""

    def __init__(self, family: Family, told: tuple[RenderedSamples, ...]) -> None:
        self.told: Final = told
        """The same tuple object as at the last scrape, if nothing in it has changed."""
        # prometheus_client stores a counter's family under its name without `_total`.
        super().__init__(family.name.removesuffix("_total"), family.help, family.type, unit_of(family.name))

    @property
    def lines(self) -> str:
        return "".join([told.lines for told in self.told])

    @property
    def samples(self) -> list[Sample]:
        """The samples, which are built on demand because a scrape does not need them."""
        return [sample for told in self.told for sample in told.samples]

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        """Ignores the empty list that prometheus_client assigns at first, because the samples come from the lines."""


class RecordSeries:
    """The current series of every record. A collector for prometheus_client; one thread writes, any may read."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._lock = Lock()
        self._told: dict[Family, dict[Key, RenderedSamples]] = {family: {} for family in families}
        self._scraped: dict[Family, tuple[RenderedSamples, ...]] = {}
        """The result of the last scrape for each family, dropped when anything in the family changes."""
        self._keys: set[Key] = set()

    def put(self, key: Key, told: Mapping[Family, RenderedSamples]) -> None:
        """Replaces all series of the record, so that outdated ones vanish."""
        with self._lock:
            self._keys.add(key)
            for family in self._told:
                self._set(key, family, told.get(family))

    def update(self, key: Key, family: Family, told: RenderedSamples) -> None:
        """Replaces the series of the record in one family. It does nothing if the record has no series yet."""
        with self._lock:
            if key in self._keys:
                self._set(key, family, told)

    def drop(self, key: Key) -> None:
        with self._lock:
            self._keys.discard(key)
            for family in self._told:
                self._set(key, family, None)

    def _set(self, key: Key, family: Family, told: RenderedSamples | None) -> None:
        of_records = self._told[family]
        if of_records.get(key) == told:
            return
        self._scraped.pop(family, None)
        if told is None:
            del of_records[key]
        else:
            of_records[key] = told

    def describe(self) -> list[Metric]:
        """The names of the metrics, by which the registry finds duplicates when this is registered."""
        return [family.metric() for family in self._told]

    def collect(self) -> Iterator[Metric]:
        # All series are of the same moment, and the lock is held only while lists of references are copied.
        with self._lock:
            for family, of_records in self._told.items():
                if family not in self._scraped:
                    self._scraped[family] = tuple(of_records.values())
            scraped = dict(self._scraped)
        for family in self._told:
            yield family.metric(scraped[family])


def unit_of(name: str) -> str:
    """The unit for OpenMetrics: the last word of the name, if it is a unit; else empty."""
    unit = name.removesuffix("_total").rpartition("_")[2]
    return unit if unit in _UNITS else ""


def _line(sample: Sample) -> str:
    words = ",".join(f'{name}="{_escape(sample.labels[name])}"' for name in sorted(sample.labels))
    return f"{sample.name}{{{words}}} {sample.value!r}\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_KIND: Final = "application/openmetrics-text"
_TEXTS: Final = ("text/plain", "text/*", "*/*")
_END: Final = b"# EOF\n"
"""The last line of an OpenMetrics exposition."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """The lines of a metric, and the samples that they were made of."""

    source: list[Sample] | tuple[RenderedSamples, ...]
    lines: bytes


class Exposition:
    """Encodes a registry; thread-safe.

    Encoding the lines is the largest cost of a scrape, and most metrics are unchanged since the last one, so lines are
    encoded anew only if their samples have changed.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._last: dict[tuple[bool, str], _Encoded] = {}

    def answer(self, accept: str) -> tuple[bytes, str]:
        """The body and the content type for a scrape that sends this Accept header."""
        as_openmetrics = wants_openmetrics(accept)
        parts = [self._lines(metric, as_openmetrics=as_openmetrics) for metric in self._registry.collect()]
        if not as_openmetrics:
            return b"".join(parts), TEXT
        return b"".join((*parts, _END)), OPENMETRICS

    def _lines(self, metric: Metric, *, as_openmetrics: bool) -> bytes:
        last = self._last.get((as_openmetrics, metric.name))
        if isinstance(metric, RecordMetric):
            if last is not None and last.source is metric.told:
                return last.lines
            head = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            encoded = _Encoded(metric.told, _encode(head, as_openmetrics=as_openmetrics) + metric.lines.encode())
        else:
            # The creation time of each series is of no use here, and would double the counters.
            samples = metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            if last is not None and last.source == samples:
                return last.lines
            encoded = _Encoded(samples, _encode(metric, as_openmetrics=as_openmetrics))
        self._last[as_openmetrics, metric.name] = encoded
        return encoded.lines


def _encode(metric: Metric, *, as_openmetrics: bool) -> bytes:
    encode = generate_openmetrics if as_openmetrics else generate_latest
    return encode(_Only(metric)).removesuffix(_END)


def wants_openmetrics(accept: str) -> bool:
    """Whether the Accept header prefers OpenMetrics 1. All other clients get the text format, whatever they ask for."""
    openmetrics = text = 0.0
    for offer in accept.lower().split(","):
        kind, *words = (word.strip() for word in offer.split(";"))
        values = dict(word.split("=", 1) for word in words if "=" in word)
        weight = _weight(values.get("q", "1"))
        if kind == _KIND and values.get("version", "1").strip('"').split(".")[0] == "1":
            openmetrics = max(openmetrics, weight)
        elif kind in _TEXTS:
            text = max(text, weight)
    return openmetrics > 0 and openmetrics >= text


def _weight(value: str) -> float:
    """The weight in an Accept header; 0 if it is not valid."""
    digits = value.replace(".", "", 1)
    return min(float(value), 1.0) if digits.isascii() and digits.isdecimal() else 0.0


class _Only:
    """A collector of one metric, for an encoder that needs a collector."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self._metric]


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
POOL_DATA_LIMIT = Family(
    "dm_reconciler_pool_data_limit_bytes", "Size to which the data may grow by itself; its size where it may not."
)
POOL_METADATA_LIMIT = Family(
    "dm_reconciler_pool_metadata_limit_bytes",
    "Size to which the metadata may grow by itself; its size where it may not.",
)
POOL_HEALS = Family("dm_reconciler_pool_heals_total", "Drifts of the pool that were healed.", "counter")
POOL_LEAKED_IDS = Family(
    "dm_reconciler_pool_leaked_thin_ids", "Thin ids in the pool that nobody's record accounts for."
)
POOL_LEAKED_BYTES = Family("dm_reconciler_pool_leaked_bytes", "Bytes that the leaked thin ids map.")

RECORD_FAMILIES: Final = (
    DEVICE_READY,
    DEVICE_REASON,
    DEVICE_DESIRED,
    DEVICE_LIVE,
    DEVICE_SIZE,
    DEVICE_MAPPED,
    DEVICE_HEALS,
    POOL_READY,
    POOL_REASON,
    POOL_DESIRED,
    POOL_LIVE,
    POOL_MODE,
    POOL_DATA_USED,
    POOL_DATA_SIZE,
    POOL_METADATA_USED,
    POOL_METADATA_SIZE,
    POOL_DATA_LIMIT,
    POOL_METADATA_LIMIT,
    POOL_HEALS,
    POOL_LEAKED_IDS,
    POOL_LEAKED_BYTES,
)
"""The families in the order in which they are served."""


def of_device(status: DeviceStatus, desired: str, heals: int) -> dict[Family, RenderedSamples]:
    labels = {"pool": status.key.pool, "device": status.key.device}
    return {
        DEVICE_READY: DEVICE_READY.tell((labels, status.ready)),
        DEVICE_REASON: DEVICE_REASON.tell(({**labels, "reason": status.reason.value}, 1)),
        DEVICE_DESIRED: _one_of(DEVICE_DESIRED, labels, "state", DeviceState, desired),
        DEVICE_LIVE: _one_of(DEVICE_LIVE, labels, "state", LiveState, status.live),
        DEVICE_SIZE: _known(DEVICE_SIZE, labels, status.size),
        DEVICE_MAPPED: _known(DEVICE_MAPPED, labels, status.mapped),
        DEVICE_HEALS: of_heals(status.key, heals),
    }


def of_pool(status: PoolStatusReport, desired: str, heals: int) -> dict[Family, RenderedSamples]:
    labels = {"pool": status.key.pool}
    figures = {
        POOL_DATA_USED: status.data_used,
        POOL_DATA_SIZE: status.data_size,
        POOL_DATA_LIMIT: status.data_limit,
        POOL_METADATA_USED: status.metadata_used,
        POOL_METADATA_SIZE: status.metadata_size,
        POOL_METADATA_LIMIT: status.metadata_limit,
        POOL_LEAKED_IDS: None if status.leaked_ids is None else len(status.leaked_ids),
        POOL_LEAKED_BYTES: status.leaked,
    }
    return {
        POOL_READY: POOL_READY.tell((labels, status.ready)),
        POOL_REASON: POOL_REASON.tell(({**labels, "reason": status.reason.value}, 1)),
        POOL_DESIRED: _one_of(POOL_DESIRED, labels, "state", PoolState, desired),
        POOL_LIVE: _one_of(POOL_LIVE, labels, "state", LiveState, status.live),
        POOL_MODE: _one_of(POOL_MODE, labels, "mode", PoolMode, status.mode),
        POOL_HEALS: of_heals(status.key, heals),
        **{family: _known(family, labels, figure) for family, figure in figures.items()},
    }


def of_heals(key: Key, count: int) -> RenderedSamples:
    if key.device:
        return DEVICE_HEALS.tell(({"pool": key.pool, "device": key.device}, count))
    return POOL_HEALS.tell(({"pool": key.pool}, count))


def _one_of(family: Family, labels: dict[str, str], label: str, values: Iterable[str], present: str) -> RenderedSamples:
    return family.tell(*(({**labels, label: str(value)}, value == present) for value in values))


def _known(family: Family, labels: dict[str, str], value: int | None) -> RenderedSamples:
    return family.tell() if value is None else family.tell((labels, value))


class _Kept:
    """Wraps a metric of prometheus_client, so that it is collected only when it changed. Thread-safe."""

    def __init__(self, metric: Counter | Histogram, registry: CollectorRegistry) -> None:
        """`metric` must not be in a registry itself."""
        self._labelled: Any = metric
        self._state = object()
        """Identity token, replaced on every change; compared with `is`."""
        self._collected: tuple[object, list[Metric]] = (None, [])
        registry.register(self)

    def start_at_zero(self, *labels: str) -> None:
        self._labelled.labels(*labels)
        self._state = object()

    def describe(self) -> Iterable[Metric]:
        described: Iterable[Metric] = self._labelled.describe()
        return described

    def collect(self) -> Iterable[Metric]:
        state, (collected_of, collected) = self._state, self._collected
        if state is collected_of:
            return collected
        # The collection may include a part of a change made meanwhile. The token then differs at the next scrape.
        collected = list(self._labelled.collect())
        self._collected = (state, collected)
        return collected


class KeptCounter(_Kept):
    def __init__(self, name: str, text: str, labels: Sequence[str], *, registry: CollectorRegistry) -> None:
        super().__init__(Counter(name, text, labels, registry=None), registry)

    def inc(self, *labels: str) -> None:
        self._labelled.labels(*labels).inc()
        self._state = object()


class KeptHistogram(_Kept):
    """A histogram of seconds."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], *, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        super().__init__(Histogram(name, text, labels, unit="seconds", buckets=tuple(buckets), registry=None), registry)

    def observe(self, seconds: float, *labels: str) -> None:
        self._labelled.labels(*labels).observe(seconds)
        self._state = object()
