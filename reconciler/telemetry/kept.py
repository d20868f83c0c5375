"""Metrics of many series, of which most scrapes find what the one before found.

prometheus_client needs microseconds to collect a series, and those of a closed set are all there from the start: a
thousand and a half. So they are collected anew only where one of them has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric


class _Kept:
    """A collector around one of prometheus_client. Changed and collected by any thread."""

    def __init__(self, metric: Counter | Histogram, registry: CollectorRegistry) -> None:
        """`metric` is in no registry itself."""
        self._labelled: Any = metric
        self._state = object()
        """Another one after each change."""
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
        # Of a change in the meantime it may hold a part; then the state is another one by the next scrape.
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
    """Of seconds."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], *, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        super().__init__(Histogram(name, text, labels, unit="seconds", buckets=tuple(buckets), registry=None), registry)

    def observe(self, seconds: float, *labels: str) -> None:
        self._labelled.labels(*labels).observe(seconds)
        self._state = object()
