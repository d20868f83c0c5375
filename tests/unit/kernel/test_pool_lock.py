"""A pool's lock: whoever comes second is told which worker has it. The lock itself is in tests/unit/test_trusted_files.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.kernel.locks import PoolLock, PoolLocked


@contextmanager
def held(folder: Path) -> Iterator[None]:
    lock = PoolLock("tank", folder)
    lock.take("/state")
    yield
    lock.close()


def test_who_comes_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(PoolLocked) as refused:
        PoolLock("tank", tmp_path).take("/other")
    assert refused.value.state_dir == "/state"
    assert refused.value.holder == f"{os.getpid()} /state"


def test_who_has_it_is_told_without_taking_it(tmp_path: Path) -> None:
    assert PoolLock("tank", tmp_path).holder() is None
    with held(tmp_path):
        found = PoolLock("tank", tmp_path).holder()
        assert str(found) == f"pool tank is worked on by process {os.getpid()} (state in /state)"
    assert PoolLock("tank", tmp_path).holder() is None


def test_a_holder_of_an_earlier_version_is_told_too(tmp_path: Path) -> None:
    """It wrote a line and nothing after it."""
    with held(tmp_path):
        (tmp_path / "tank.lock").write_text("812 /var/lib/other\n", encoding="utf-8")
        found = PoolLock("tank", tmp_path).holder()
        assert found is not None
        assert (found.holder, found.state_dir) == ("812 /var/lib/other", "/var/lib/other")
