"""Somebody else's pool: never touched. What heals are the devices in it that records adopt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing.environment import Environment, Record, an_environment, eventually
from tests.testing.pools import (
    checksum,
    dmsetup,
    exists,
    has_node,
    is_suspended,
    make_disk,
    passes,
    pool_status,
    put_down,
    table,
    write,
)

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    """With a pool that was made by hand, at a transaction id of its owner's, and one thin in it."""
    with an_environment() as env:
        pool, thin = env.prefix + "theirs", env.dm_name("thin", "theirs")
        data, metadata = make_disk(env, "theirs.d"), make_disk(env, "theirs.m", 4)
        dmsetup("create", pool, "--uuid", f"LVM-{pool}", "--table", f"0 131072 thin-pool {metadata} {data} 128 0")
        dmsetup("message", pool, "0", "create_thin 3")
        dmsetup("message", pool, "0", "set_transaction_id 0 40")
        dmsetup("create", thin, "--uuid", f"LVM-{thin}", "--table", f"0 16384 thin /dev/mapper/{pool} 3")
        write(thin, 2)
        _declare(env, _adopting(env))
        env.start("--suspend-grace", "1s")
        env.wait("thin", pool="theirs")
        yield env
        assert pool_status(pool)[0] == "40"


def _pool(env: Environment, **spec: object) -> Record:
    record = env.pool("theirs")
    return {**record, "spec": {"external": True, **spec}}


def _adopting(env: Environment, name: str = "thin", **spec: object) -> Record:
    return env.device(name, "theirs", adopt={"deviceId": 3, "dmName": env.dm_name("thin", "theirs")}, **spec)


def _declare(env: Environment, *devices: Record, **spec: object) -> None:
    env.declare(_pool(env, **spec), *devices, file="theirs.yaml")


def test_an_adopted_device_that_vanishes_comes_back(env: Environment) -> None:
    name = env.dm_name("thin", "theirs")
    before = checksum(f"/dev/mapper/{name}")
    dmsetup("remove", "--retry", name)
    eventually(lambda: has_node(name), "it is back")
    env.wait("thin", pool="theirs")
    assert checksum(f"/dev/mapper/{name}") == before
    assert table(name).split()[2] == "thin"


def test_an_adopted_device_that_is_suspended_is_resumed(env: Environment) -> None:
    name = env.dm_name("thin", "theirs")
    dmsetup("suspend", name)
    eventually(lambda: not is_suspended(env, name), "it is resumed")
    env.wait("thin", pool="theirs")


def test_a_device_that_adopts_nothing_is_an_invalid_change(env: Environment) -> None:
    _declare(env, _adopting(env), env.device("own", "theirs"))
    said = env.wait("own", "InvalidChange", pool="theirs")
    assert "adopt" in said["message"]
    passes(env)
    assert pool_status(env.prefix + "theirs")[0] == "40"
    _declare(env, _adopting(env))


def test_a_device_is_never_deleted_from_it(env: Environment) -> None:
    _declare(env, _adopting(env, state="Absent"))
    env.wait("thin", "InvalidChange", pool="theirs")
    passes(env)
    assert exists(env, env.dm_name("thin", "theirs"))
    _declare(env, _adopting(env))
    env.wait("thin", pool="theirs")


@pytest.mark.parametrize("state", ["Absent", "Inactive"])
def test_the_pool_itself_is_its_owners(env: Environment, state: str) -> None:
    _declare(env, _adopting(env), state=state)
    said = env.wait_pool("InvalidChange", "theirs")
    assert "its owner decides" in said["message"]
    passes(env)
    assert exists(env, env.prefix + "theirs")
    _declare(env, _adopting(env))
    env.wait_pool(pool="theirs")


def test_a_suspended_pool_is_its_owners_to_resume(env: Environment) -> None:
    pool = env.prefix + "theirs"
    dmsetup("suspend", pool)
    said = env.wait_pool("PoolSuspended", "theirs")
    assert f"dmsetup resume {pool}" in said["message"]
    passes(env, 4)
    assert is_suspended(env, pool)
    dmsetup("resume", pool)
    env.wait("thin", pool="theirs")
    env.wait_pool(pool="theirs")


def test_a_table_that_its_owner_changes_stays(env: Environment) -> None:
    pool = env.prefix + "theirs"
    changed = " ".join([*table(pool).split()[:7], "1", "error_if_no_space"])
    dmsetup("load", pool, "--table", changed)
    dmsetup("resume", pool)
    passes(env)
    assert "error_if_no_space" in table(pool)


def test_a_pool_that_its_owner_takes_down_stays_down(env: Environment) -> None:
    pool, thin = env.prefix + "theirs", env.dm_name("thin", "theirs")
    before, uuid, line = checksum(f"/dev/mapper/{thin}"), f"LVM-{env.prefix}theirs", table(pool)
    _declare(env, _adopting(env, state="Inactive"))
    env.wait("thin", pool="theirs", live="Inactive")
    put_down(env, "theirs")
    said = env.wait_pool("PoolMissing", "theirs")
    assert "its owner must activate it" in said["message"]
    passes(env)
    assert not exists(env, pool)
    dmsetup("create", pool, "--uuid", uuid, "--table", line)
    _declare(env, _adopting(env))
    env.wait("thin", pool="theirs", live="Active")
    assert checksum(f"/dev/mapper/{thin}") == before
