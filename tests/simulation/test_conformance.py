"""The suite that a real kernel is held to as well (tests/kernel/test_conformance.py), on the simulated one alone."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from reconciler.kernel.simulated.machine import Release
from tests.testing.conformance.corpus import CORPUS
from tests.testing.conformance.suite import Compared, RandomSequences


@pytest.mark.parametrize("release", Release)
@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus(name: str, release: Release) -> None:
    Compared(release=release).run(CORPUS[name])


TestRandomSequences = RandomSequences.TestCase
TestRandomSequences.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
