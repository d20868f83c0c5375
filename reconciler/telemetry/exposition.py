"""A registry as Prometheus reads it: in the text format or in OpenMetrics, whichever is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from reconciler.telemetry.series import RecordMetric

_END: Final = b"# EOF\n"
"""With which OpenMetrics ends."""


def expose(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Body and content type of the answer to a scrape that sends this Accept header."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # A version that is no version. Whoever sends it gets what everybody can read.
        encode, content_type = choose_encoder("")
    parts = []
    for metric in registry.collect():
        # When each series was made is of use to nobody here, and would double the counters.
        metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
        lines = ""
        if isinstance(metric, RecordMetric):
            lines = "".join(metric.lines)
            metric.samples = []
        parts.append(encode(_Only(metric)).removesuffix(_END) + lines.encode())
    if content_type.startswith("application/openmetrics-text"):
        parts.append(_END)
    return b"".join(parts), content_type


class _Only:
    """A collector of one metric, for an encoder that wants a collector."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self._metric]
