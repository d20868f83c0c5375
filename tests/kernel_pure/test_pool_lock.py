"""A pool's lock is nobody's but root's to hold."""

from __future__ import annotations

import os
import stat
import subprocess
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


def test_it_is_made_so_that_nobody_else_can_open_it_and_so_lock_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with held(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "tank.lock").stat().st_mode) == 0o600


def test_one_that_others_could_open_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "tank.lock").touch(0o644)
    with held(tmp_path):
        assert stat.S_IMODE((tmp_path / "tank.lock").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_another_user_cannot_hold_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with held(folder):
        command = ["flock", "--shared", "--nonblock", str(folder / "tank.lock"), "true"]
    assert subprocess.run(command, check=False).returncode == 0
    assert subprocess.run(command, check=False, user=65534, group=65534, stderr=subprocess.DEVNULL).returncode != 0


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "tank.lock").symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        PoolLock("tank", tmp_path).take("/state")
    assert not (tmp_path / "elsewhere").exists()


def test_who_comes_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(PoolLocked) as refused:
        PoolLock("tank", tmp_path).take("/other")
    assert refused.value.state_dir == "/state"
    assert refused.value.holder.startswith(f"{os.getpid()} ")
