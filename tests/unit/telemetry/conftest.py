"""Metrics in a registry of their own, and a pool and a device to tell of."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from reconciler.telemetry.metrics import Metrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)
