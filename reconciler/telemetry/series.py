"""Series of records, which come and go with them.

1,000 devices have 14,000 series. A child object of prometheus_client for each would make every change of a reason a
child removed and one made, and its encoder would need a fifth of a second for a scrape, with the interpreter's lock
held. So a record's lines are made once, when its status changes, and a scrape strings them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Lock

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from reconciler.model.names import Key


@dataclass(frozen=True, slots=True)
class Point:
    """One sample, and the line that tells it: the same in the text format and in OpenMetrics."""

    sample: Sample
    line: str


@dataclass(frozen=True, slots=True)
class Family:
    """A metric whose series belong to records. A counter's name is written with its `_total`."""

    name: str
    help: str
    type: str = "gauge"

    def point(self, labels: dict[str, str], value: float) -> Point:
        words = ",".join(f'{name}="{_escape(labels[name])}"' for name in sorted(labels))
        number = float(value)
        return Point(Sample(self.name, labels, number), f"{self.name}{{{words}}} {number!r}\n")

    def metric(self) -> RecordMetric:
        # prometheus_client keeps a counter's family under the name without `_total`.
        return RecordMetric(self.name.removesuffix("_total"), self.help, self.type)


class RecordMetric(Metric):
    """A family as a scrape collects it: with samples for whoever wants those, and with lines for the exposition."""

    def __init__(self, name: str, documentation: str, typ: str) -> None:
        super().__init__(name, documentation, typ)
        self.lines: list[str] = []

    def add(self, points: Iterable[Point]) -> None:
        for point in points:
            self.samples.append(point.sample)
            self.lines.append(point.line)


Points = dict[Family, tuple[Point, ...]]


class RecordSeries:
    """The present points of every record. A collector of prometheus_client; written by one thread, read by any."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = tuple(families)
        self._lock = Lock()
        self._points: dict[Key, Points] = {}

    def put(self, key: Key, points: Points) -> None:
        """Replace all that is told of the record, so that what is no longer true is no longer told."""
        with self._lock:
            self._points[key] = points

    def update(self, key: Key, points: Points) -> None:
        """Replace a part of what is told of the record; nothing, where nothing is told of it yet."""
        with self._lock:
            if key in self._points:
                self._points[key] = {**self._points[key], **points}

    def drop(self, key: Key) -> None:
        with self._lock:
            self._points.pop(key, None)

    def describe(self) -> list[Metric]:
        """What the registry asks when this is registered: names only, so that doubles are found."""
        return [family.metric() for family in self._families]

    def collect(self) -> Iterator[Metric]:
        # What was put is never changed afterwards, so the lock is held for one copy of a list of references.
        with self._lock:
            records = list(self._points.values())
        for family in self._families:
            metric = family.metric()
            for points in records:
                metric.add(points.get(family, ()))
            yield metric


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
