"""Series of records, which come and go with them.

1,000 devices have 14,000 series. A child object of prometheus_client for each would make every change of a reason a
child removed and one made, and its encoder would need a fifth of a second for a scrape, with the interpreter's lock
held. So a record's lines are made once, when its status changes, and a scrape strings them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from reconciler.model.names import Key

_UNITS: Final = ("bytes", "seconds")


@dataclass(frozen=True, slots=True)
class Told:
    """What one record tells in one family: samples, and their lines, which are the same in both formats."""

    samples: tuple[Sample, ...]
    lines: str


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """A metric whose series belong to records. A counter's name is written with its `_total`."""

    name: str
    help: str
    type: str = "gauge"

    def tell(self, *points: tuple[Mapping[str, str], float]) -> Told:
        """Labels and value of each series."""
        samples = tuple(Sample(self.name, dict(labels), float(value)) for labels, value in points)
        return Told(samples, "".join(map(_line, samples)))

    def metric(self, told: tuple[Told, ...] = ()) -> RecordMetric:
        return RecordMetric(self, told)


class RecordMetric(Metric):
    """A family as a scrape collects it: with lines for the exposition, and with samples for whoever wants those."""

    def __init__(self, family: Family, told: tuple[Told, ...]) -> None:
        self.told: Final = told
        """The very same tuple as at the scrape before, where nothing of it has changed."""
        # prometheus_client keeps a counter's family under the name without `_total`.
        super().__init__(family.name.removesuffix("_total"), family.help, family.type, unit_of(family.name))

    @property
    def lines(self) -> str:
        return "".join([told.lines for told in self.told])

    @property
    def samples(self) -> list[Sample]:
        """Put together when asked for: a scrape does not need them."""
        return [sample for told in self.told for sample in told.samples]

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        """prometheus_client begins with an empty list. It is made of what is told, and of nothing else."""


class RecordSeries:
    """What is told of every record at present. A collector of prometheus_client; written by one thread, read by any."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._lock = Lock()
        self._told: dict[Family, dict[Key, Told]] = {family: {} for family in families}
        self._scraped: dict[Family, tuple[Told, ...]] = {}
        """What a scrape got, as long as nothing of the family changes."""
        self._keys: set[Key] = set()

    def put(self, key: Key, told: Mapping[Family, Told]) -> None:
        """Replace all that is told of the record, so that what is no longer true is no longer told."""
        with self._lock:
            self._keys.add(key)
            for family in self._told:
                self._set(key, family, told.get(family))

    def update(self, key: Key, family: Family, told: Told) -> None:
        """Replace a part of what is told of the record; nothing, where nothing is told of it yet."""
        with self._lock:
            if key in self._keys:
                self._set(key, family, told)

    def drop(self, key: Key) -> None:
        with self._lock:
            self._keys.discard(key)
            for family in self._told:
                self._set(key, family, None)

    def _set(self, key: Key, family: Family, told: Told | None) -> None:
        of_records = self._told[family]
        if of_records.get(key) == told:
            return
        self._scraped.pop(family, None)
        if told is None:
            del of_records[key]
        else:
            of_records[key] = told

    def describe(self) -> list[Metric]:
        """What the registry asks when this is registered: names only, so that doubles are found."""
        return [family.metric() for family in self._told]

    def collect(self) -> Iterator[Metric]:
        # All of one moment, and the lock is held for a copy of lists of references alone.
        with self._lock:
            for family, of_records in self._told.items():
                if family not in self._scraped:
                    self._scraped[family] = tuple(of_records.values())
            scraped = dict(self._scraped)
        for family in self._told:
            yield family.metric(scraped[family])


def unit_of(name: str) -> str:
    """As OpenMetrics tells it: the last word of the name, where that is one; else nothing."""
    unit = name.removesuffix("_total").rpartition("_")[2]
    return unit if unit in _UNITS else ""


def _line(sample: Sample) -> str:
    words = ",".join(f'{name}="{_escape(sample.labels[name])}"' for name in sorted(sample.labels))
    return f"{sample.name}{{{words}}} {sample.value!r}\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
