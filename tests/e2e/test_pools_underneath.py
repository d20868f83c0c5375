"""What becomes of the files and disks under a pool, beside it: cut off, without writes, written to by others, other sectors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.pools import (
    attach,
    checksum,
    detach_loops,
    exists,
    has_node,
    loops_on,
    make_disk,
    passes,
    put_down,
    stopped,
    table,
    write,
)
from tests.testing.real_kernel import run

GROWING = {"threshold": "1%", "step": "50%", "max": "1GiB"}


@pytest.fixture
def env() -> Iterator[Environment]:
    with an_environment() as env:
        yield env


def _started(env: Environment) -> str:
    env.start("--suspend-grace", "1s")
    env.wait("a")
    write(env.dm_name("a"), 1)
    return checksum(env.node("a"))


def _is_back(env: Environment, before: str) -> None:
    eventually(lambda: has_node(env.dm_name("a")), "the device is there")
    env.wait("a")
    assert checksum(env.node("a")) == before


@pytest.mark.parametrize("what", ["data", "meta"])
def test_a_file_that_was_cut_off_under_a_live_pool_is_told_and_not_grown(env: Environment, what: str) -> None:
    env.declare(env.pool(), env.device("a"))
    _started(env)
    live = table(env.prefix + "tank")
    file = env.root / f"tank.{what}"
    run("truncate", "--size", "1M", str(file))
    said = env.wait_pool("MetadataMismatch")
    assert "was cut off" in said["message"]
    env.declare(env.pool(extend=GROWING), env.device("a"), env.device("late"))
    env.wait("late", "PoolUnhealthy")
    passes(env)
    assert file.stat().st_size == 1024 * 1024
    assert table(env.prefix + "tank") == live


def test_a_pool_that_is_live_on_a_read_only_disk_is_not_converged(env: Environment) -> None:
    env.declare(env.pool(), env.device("a"))
    _started(env)
    (loop,) = loops_on(env.root / "tank.data")
    run("blockdev", "--setro", loop)
    said = env.wait_pool("PoolUnhealthy")
    assert f"blockdev --setrw {loop}" in said["message"]
    run("blockdev", "--setrw", loop)
    env.wait_pool()


@pytest.mark.parametrize("word", ["data", "metadata"])
def test_a_pool_does_not_come_up_on_a_disk_that_is_read_only(env: Environment, word: str) -> None:
    disks = {"data": make_disk(env, "data.disk"), "metadata": make_disk(env, "metadata.disk", 8)}
    places = {name: {"device": disk} for name, disk in disks.items()}
    env.declare(env.pool(data=places["data"], metadata=places["metadata"]), env.device("a"))
    before = _started(env)
    with stopped(env):
        put_down(env, "tank", "a")
        run("blockdev", "--setro", disks[word])
    said = env.wait_pool("Conflict")
    assert f"blockdev --setrw {disks[word]}" in said["message"]
    assert not exists(env, env.prefix + "tank")
    run("blockdev", "--setrw", disks[word])
    _is_back(env, before)


def test_a_pool_does_not_come_up_on_a_file_that_a_program_writes_to(env: Environment) -> None:
    disk = make_disk(env, "data.disk")
    env.declare(env.pool(data={"device": disk}), env.device("a"))
    before = _started(env)
    with stopped(env):
        put_down(env, "tank", "a")
        descriptor = os.open(env.root / "data.disk", os.O_RDWR)
    said = env.wait_pool("Busy")
    assert f"(pid {os.getpid()})" in said["message"]
    assert not exists(env, env.prefix + "tank")
    os.close(descriptor)
    _is_back(env, before)


def test_a_pool_does_not_come_up_on_one_of_two_loops_on_a_file(env: Environment) -> None:
    disk = make_disk(env, "data.disk")
    env.declare(env.pool(data={"device": disk}), env.device("a"))
    before = _started(env)
    with stopped(env):
        put_down(env, "tank", "a")
        second = attach(env.root / "data.disk")
    said = env.wait_pool("Conflict")
    assert second in said["message"]
    run("losetup", "--detach", second)
    _is_back(env, before)


def test_a_size_off_the_grid_of_large_sectors_names_those_that_fit(env: Environment) -> None:
    file = env.root / "large.disk"
    run("truncate", "--size", "64M", str(file))
    disk = run("losetup", "--find", "--show", "--sector-size", "4096", str(file)).out
    env.declare(env.pool(data={"device": disk}), env.device("a"), env.device("b", size="20481s"))
    _started(env)
    said = env.wait("b", "InvalidChange")
    assert "size: 20480s` or `size: 20488s" in said["message"]
    assert set(env.thin_ids()) == {0}, "nothing was made for it"
    env.declare(env.pool(data={"device": disk}), env.device("a"), env.device("b", size="20488s"))
    env.wait("b")


def test_detached_loops_of_a_file_that_is_written_to_stay_detached(env: Environment) -> None:
    env.declare(env.pool(), env.device("a"))
    before = _started(env)
    file = env.root / "tank.data"
    with stopped(env):
        put_down(env, "tank", "a")
        detach_loops(env, "tank")
        descriptor = os.open(file, os.O_RDWR)
    env.wait_pool("Busy")
    assert not loops_on(Path(file))
    os.close(descriptor)
    _is_back(env, before)
