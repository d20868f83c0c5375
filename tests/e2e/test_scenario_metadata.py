"""The store and the pool's metadata come apart: no data is lost, nothing empty takes the place of what was full.

What is wrong is named, with the command or the record that mends it; put right, all converges.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.testing.environment import Environment, Record, an_environment, eventually
from tests.testing.pools import (
    checksum,
    detach_loops,
    dmsetup,
    exists,
    has_node,
    passes,
    pool_status,
    put_down,
    stopped,
    transaction,
    write,
)
from tests.testing.real_kernel import run


@pytest.fixture
def env() -> Iterator[Environment]:
    """A pool on a filesystem of its own, with one device full of data."""
    with an_environment() as env:
        (env.root / "srv").mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=1G", "dmrtest", str(env.root / "srv"))
        env.declare(_pool(env), env.device("a"))
        env.start("--suspend-grace", "1s")
        env.wait("a")
        write(env.dm_name("a"), 2)
        try:
            yield env
        finally:
            _power_off(env)
            run("umount", str(env.root / "srv"), check=False)


def _pool(env: Environment, **spec: Any) -> Record:
    places = {what: str(env.root / "srv" / f"tank.{what}") for what in ("data", "meta")}
    data, metadata = {"file": places["data"], "size": "256MiB"}, {"file": places["meta"], "size": "4MiB"}
    return env.pool(data=data, metadata=metadata, **spec)


def _sum(env: Environment, name: str = "a") -> str:
    return checksum(f"/dev/mapper/{env.dm_name(name)}")


def _held(env: Environment) -> tuple[str, str]:
    """Transaction and data in use. Metadata in use is not in it: some of it becomes free a commit later."""
    transaction, _, data, *_ = pool_status(env.prefix + "tank")
    return transaction, data


def _power_off(env: Environment) -> None:
    """The daemon, every device and every loop are gone."""
    if env.process is not None:
        env.stop(signal.SIGKILL)
    live = [listed.name for listed in env.dm.list_all() if listed.name.startswith(env.dm_name(""))]
    put_down(env, "tank", *(name.removeprefix(env.dm_name("")) for name in live))
    detach_loops(env, "srv/tank")


def test_a_thin_that_somebody_deleted_is_not_made_anew(env: Environment) -> None:
    pool, name = env.prefix + "tank", env.dm_name("a")
    lost = env.status("a")["deviceId"]
    with stopped(env):
        dmsetup("remove", "--retry", name)
        dmsetup("message", pool, "0", f"delete {lost}")
    said = env.wait("a", "MetadataMismatch")
    for words in (f"thin id {lost}", "doctor --fix", f"forget device {env.key('a')}", "state: Absent"):
        assert words in said["message"]
    env.declare(env.device("b"), file="b.yaml")
    env.wait("b")
    passes(env)
    assert not exists(env, name)

    env.declare(_pool(env), env.device("a", state="Absent"))
    env.wait("a", live="Absent")
    env.declare(_pool(env), env.device("a"))
    env.wait("a", live="Active")
    assert env.status("a")["deviceId"] != env.status("b")["deviceId"]


def test_a_lost_store_leaves_the_pool_alone_until_a_record_adopts_it(env: Environment) -> None:
    before, at, lost = _sum(env), transaction(env.prefix + "tank"), env.status("a")["deviceId"]
    env.stop(signal.SIGKILL)
    shutil.rmtree(env.state)
    env.start()
    said = env.wait_pool("Conflict")
    assert "another dm-reconciler store" in said["message"]
    passes(env)
    assert (_sum(env), transaction(env.prefix + "tank")) == (before, at)

    _power_off(env)
    env.start()
    said = env.wait_pool("MetadataMismatch")
    assert "adopt: true" in said["message"]
    assert "in the records of its devices" in said["message"]
    passes(env)
    assert not exists(env, env.prefix + "tank")

    adopt = {"deviceId": lost, "dmName": env.dm_name("a")}
    env.declare(_pool(env, adopt=True), env.device("a", adopt=adopt, size="16MiB"), env.device("b"))
    env.wait("a", live="Active")
    env.wait("b", live="Active")
    assert _sum(env) == before
    assert env.status("b")["deviceId"] != lost


def test_a_store_from_last_week_freezes_the_pool_until_the_right_one_is_back(env: Environment) -> None:
    assert env.stop() == 0
    week = env.root / "week"
    shutil.copytree(env.state, week)
    env.start()
    env.declare(env.device("b"), file="b.yaml")
    env.wait("b")
    write(env.dm_name("b"), 1)
    before, held = (_sum(env), _sum(env, "b")), _held(env)
    assert env.stop() == 0
    today = env.state.rename(env.root / "today")
    week.rename(env.state)

    env.start()
    said = env.wait_pool("MetadataMismatch")
    assert "the store is an old copy" in said["message"]
    assert "doctor --fix" in said["message"]
    env.wait("b", "Conflict")
    env.declare(env.device("c"), file="c.yaml")
    env.wait("c", "MetadataMismatch")
    passes(env)
    assert (_sum(env), _sum(env, "b")) == before
    assert _held(env) == held

    assert env.stop() == 0
    shutil.rmtree(env.state)
    today.rename(env.state)
    env.start()
    for name in ("a", "b", "c"):
        env.wait(name, live="Active")
    assert (_sum(env), _sum(env, "b")) == before


def test_an_unmounted_filesystem_gets_no_empty_pool(env: Environment) -> None:
    """The folder is there and empty, as a mount point is before it is mounted."""
    before, srv, away = _sum(env), env.root / "srv", env.root / "away"
    away.mkdir()
    _power_off(env)
    run("mount", "--move", str(srv), str(away))
    env.start()
    said = env.wait_pool("MetadataMismatch")
    assert "is its filesystem mounted?" in said["message"]
    env.wait("a", "WaitingForPool")
    passes(env)
    assert not list(srv.iterdir())
    run("mount", "--move", str(away), str(srv))
    eventually(lambda: has_node(env.dm_name("a")), "it is back, without a restart")
    env.wait("a", live="Active")
    assert _sum(env) == before


def test_metadata_that_was_zeroed_comes_back_from_a_copy_without_a_restart(env: Environment) -> None:
    before, metadata, copy = _sum(env), env.root / "srv" / "tank.meta", env.root / "copy"
    with stopped(env):
        put_down(env, "tank", "a")
        shutil.copy(metadata, copy)
        run("dd", "if=/dev/zero", f"of={metadata}", "bs=1M", "count=4", "conv=notrunc,fsync")
    said = env.wait_pool("MetadataMismatch")
    assert "begins with zeros where its superblock was" in said["message"]
    passes(env)
    assert not any(metadata.read_bytes()), "nothing was formatted"
    run("dd", f"if={copy}", f"of={metadata}", "bs=1M", "conv=notrunc,fsync")
    eventually(lambda: has_node(env.dm_name("a")), "it is back")
    env.wait("a", live="Active")
    assert _sum(env) == before
