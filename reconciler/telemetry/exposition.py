"""A registry as Prometheus reads it: in the text format or in OpenMetrics, whichever is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.samples import Sample

from reconciler.telemetry.collector import RecordMetric, Told

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_KIND: Final = "application/openmetrics-text"
_TEXTS: Final = ("text/plain", "text/*", "*/*")
_END: Final = b"# EOF\n"
"""With which OpenMetrics ends."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A metric's lines, and what they were made of."""

    source: list[Sample] | tuple[Told, ...]
    lines: bytes


class Exposition:
    """For any number of threads.

    Most metrics are as they were at the last scrape, and making their lines is what a scrape costs most: lines are made
    anew only where samples have changed.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._last: dict[tuple[bool, str], _Encoded] = {}

    def answer(self, accept: str) -> tuple[bytes, str]:
        """Body and content type of the answer to a scrape that sends this Accept header."""
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
            # When each series was made is of use to nobody here, and would double the counters.
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
    """Whether the Accept header prefers OpenMetrics 1; the text format is for everybody else, whatever they ask for."""
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
    """0 for what is no weight."""
    digits = value.replace(".", "", 1)
    return min(float(value), 1.0) if digits.isascii() and digits.isdecimal() else 0.0


class _Only:
    """A collector of one metric, for an encoder that wants a collector."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self._metric]
