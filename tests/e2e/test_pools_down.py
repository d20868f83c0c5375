"""Pools whose records are Inactive or Absent: down only when nothing is above, deleted only when provably empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.pools import (
    checksum,
    detach_loops,
    dmsetup,
    exists,
    loops_on,
    make_disk,
    passes,
    pool_status,
    put_down,
    stopped,
    table,
    write,
)
from tests.testing.real_kernel import run


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.start("--suspend-grace", "1s")
        yield env


def _declare(env: Environment, name: str, state: str, *devices: tuple[str, str], **spec: object) -> None:
    """A pool in that state, with devices in theirs."""
    records = (env.device(device, name, state=its) for device, its in devices)
    env.declare(env.pool(name, state=state, **spec), *records, file=f"{name}.yaml")


def test_an_inactive_pool_waits_for_its_devices_and_then_goes_with_its_loops(env: Environment) -> None:
    _declare(env, "rest", "Active", ("a", "Active"))
    env.wait("a", pool="rest")
    write(env.dm_name("a", "rest"), 1)
    before = checksum(f"/dev/mapper/{env.dm_name('a', 'rest')}")

    _declare(env, "rest", "Inactive", ("a", "Active"))
    said = env.wait_pool("Busy", "rest")
    assert env.dm_name("a", "rest") in said["message"]
    passes(env)
    assert exists(env, env.dm_name("a", "rest"))

    _declare(env, "rest", "Inactive", ("a", "Inactive"))
    env.wait_pool(pool="rest", live="Inactive")
    env.wait("a", pool="rest", live="Inactive")
    assert not exists(env, env.prefix + "rest")
    eventually(lambda: not loops_on(env.root / "rest.data") + loops_on(env.root / "rest.meta"), "no loops")

    _declare(env, "rest", "Active", ("a", "Active"))
    env.wait("a", pool="rest", live="Active")
    assert checksum(f"/dev/mapper/{env.dm_name('a', 'rest')}") == before


@pytest.mark.soak
def test_discards_may_change_while_the_pool_is_down(env: Environment) -> None:
    _declare(env, "discards", "Active", ("a", "Active"))
    env.wait("a", pool="discards")
    _declare(env, "discards", "Inactive", ("a", "Inactive"), discards="ignore")
    env.wait_pool(pool="discards", live="Inactive")
    _declare(env, "discards", "Active", ("a", "Active"), discards="ignore")
    env.wait("a", pool="discards", live="Active")
    assert "ignore_discard" in table(env.prefix + "discards")
    env.wait_pool(pool="discards")


@pytest.mark.soak
def test_a_device_that_is_to_go_is_deleted_though_its_pool_is_inactive(env: Environment) -> None:
    _declare(env, "sweep", "Active", ("a", "Active"), ("b", "Active"))
    env.wait("a", pool="sweep")
    env.wait("b", pool="sweep")
    _declare(env, "sweep", "Inactive", ("a", "Inactive"), ("b", "Inactive"))
    env.wait_pool(pool="sweep", live="Inactive")

    _declare(env, "sweep", "Inactive", ("a", "Absent"), ("b", "Inactive"))
    env.wait("a", pool="sweep", live="Absent")
    eventually(lambda: not exists(env, env.prefix + "sweep"), "the pool is down again")
    env.wait_pool(pool="sweep", live="Inactive")
    env.wait("b", pool="sweep", live="Inactive")
    _declare(env, "sweep", "Active", ("b", "Active"))
    env.wait("b", pool="sweep", live="Active")
    assert pool_status(env.prefix + "sweep")[0] == "3", "two were made, one deleted"


def test_an_absent_pool_with_devices_is_busy_and_lists_them(env: Environment) -> None:
    _declare(env, "full", "Active", ("a", "Active"))
    env.wait("a", pool="full")
    _declare(env, "full", "Absent", ("a", "Active"))
    said = env.wait_pool("Busy", "full")
    assert "has the devices a" in said["message"]
    passes(env)
    assert exists(env, env.dm_name("a", "full"))


@pytest.mark.soak
def test_an_absent_pool_with_somebodys_thin_id_is_busy_and_lists_it(env: Environment) -> None:
    name = env.prefix + "left"
    _declare(env, "left", "Active")
    env.wait_pool(pool="left")
    dmsetup("message", name, "0", "create_thin 77")
    _declare(env, "left", "Absent")
    said = env.wait_pool("Busy", "left")
    assert "77" in said["message"]
    passes(env)
    assert exists(env, name)
    dmsetup("message", name, "0", "delete 77")
    env.wait_pool(pool="left", live="Absent")
    assert not exists(env, name)


def test_an_absent_pool_that_is_empty_goes_with_the_files_that_were_made_for_it(env: Environment) -> None:
    _declare(env, "gone", "Active", ("a", "Active"))
    env.wait("a", pool="gone")
    stranger = env.root / "gone.txt"
    stranger.write_text("not ours", encoding="ascii")
    _declare(env, "gone", "Absent", ("a", "Absent"))
    env.wait_pool(pool="gone", live="Absent")
    assert not exists(env, env.prefix + "gone")
    assert not (env.root / "gone.data").exists()
    assert not (env.root / "gone.meta").exists()
    assert stranger.exists()
    _declare(env, "gone", "Active", ("a", "Active"))
    env.wait("a", pool="gone", live="Active")
    assert pool_status(env.prefix + "gone")[0] == "1", "it is a new pool"


def test_an_absent_pool_on_block_devices_leaves_them_with_a_zeroed_superblock(env: Environment) -> None:
    disks = {"data": {"device": make_disk(env, "disk.d")}, "metadata": {"device": make_disk(env, "disk.m", 4)}}
    _declare(env, "disk", "Active", ("a", "Active"), **disks)
    env.wait("a", pool="disk")
    _declare(env, "disk", "Absent", ("a", "Absent"), **disks)
    env.wait_pool(pool="disk", live="Absent")
    begin = run("head", "--bytes=4096", disks["metadata"]["device"]).out
    assert not begin.strip("\0")
    _declare(env, "disk", "Active", ("a", "Active"), **disks)
    env.wait("a", pool="disk", live="Active")


@pytest.mark.soak
def test_a_pool_that_is_down_is_brought_up_to_see_that_it_is_empty(env: Environment) -> None:
    """Somebody's thin in it keeps it."""
    name = env.prefix + "dark"
    _declare(env, "dark", "Active")
    env.wait_pool(pool="dark")
    dmsetup("message", name, "0", "create_thin 5")
    with stopped(env):
        put_down(env, "dark")
        detach_loops(env, "dark")
        _declare(env, "dark", "Absent")
    said = env.wait_pool("Busy", "dark")
    assert "5" in said["message"]
    assert (env.root / "dark.data").exists()
