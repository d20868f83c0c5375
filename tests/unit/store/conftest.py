"""A store in a directory of its own, with a clock that does not advance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.store.store import Store


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    with Store.open(directory, wall_clock=lambda: 1000.0) as opened:
        yield opened
