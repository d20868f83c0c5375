"""Devices whose records are gone: their pool's `prune` says what becomes of them; and thin ids that nobody names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing.environment import Environment, Record, an_environment, eventually
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak

POOLS = {"keep": "Retain", "rest": "Deactivate", "drop": "Delete", "mass": "Delete", "all": "Delete"}
NAMES = ("one", "two", "three")
STRANGER = 4000


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        for pool, prune in POOLS.items():
            env.declare(*records(env, pool, prune, NAMES), file=f"{pool}.yaml")
        env.start("--suspend-grace", "1s", "--prune-delay", "1s", "--resync", "500ms")
        for pool in POOLS:
            for name in NAMES:
                env.wait(name, pool=pool)
        yield env


def records(env: Environment, pool: str, prune: str, names: tuple[str, ...]) -> list[Record]:
    return [env.pool(pool, prune=prune), *(env.device(name, pool) for name in names)]


def keep_only(env: Environment, pool: str, *names: str) -> None:
    env.declare(*records(env, pool, POOLS[pool], names), file=f"{pool}.yaml")


def test_retained_is_left_as_it_is(env: Environment) -> None:
    table = env.table("one", "keep")
    keep_only(env, "keep", "two", "three")
    status = env.wait("one", "Orphaned", "keep", live="Active")
    assert "retained" in status["message"]
    run("dmsetup", "suspend", env.dm_name("one", "keep"))
    env.look_again(4)  # beyond the delay and the grace: nobody has asked for it to be healed
    assert env.table("one", "keep") == table
    run("dmsetup", "resume", env.dm_name("one", "keep"))
    keep_only(env, "keep", *NAMES)
    env.wait("one", pool="keep", live="Active")


def test_deactivated_keeps_its_data(env: Environment) -> None:
    thin_id = env.status("one", "rest")["deviceId"]
    keep_only(env, "rest", "two", "three")
    eventually(lambda: env.info("one", "rest") is None, "it is deactivated")
    env.wait("one", "Orphaned", "rest", live="Inactive")
    assert thin_id in env.thin_ids("rest")
    keep_only(env, "rest", *NAMES)
    env.wait("one", pool="rest", live="Active")
    assert env.status("one", "rest")["deviceId"] == thin_id


def test_deleted_is_gone_but_not_while_it_is_open(env: Environment) -> None:
    thin_id = env.status("one", "drop")["deviceId"]
    with env.node("one", "drop").open("rb"):
        keep_only(env, "drop", "two", "three")
        env.wait("one", "Busy", "drop")
        env.look_again()
        assert env.info("one", "drop")
        assert thin_id in env.thin_ids("drop")
    eventually(lambda: env.info("one", "drop") is None, "it is removed")
    eventually(lambda: not env.status("one", "drop"), "nothing is remembered of it")
    assert thin_id not in env.thin_ids("drop")
    env.wait("two", pool="drop", live="Active")


def test_a_record_that_comes_back_in_time_costs_nothing(env: Environment) -> None:
    before = env.info("two", "drop")
    keep_only(env, "drop", "three")
    env.wait("two", "Orphaned", "drop")
    keep_only(env, "drop", "two", "three")
    env.wait("two", pool="drop")
    env.look_again(3)
    assert env.info("two", "drop") == before


@pytest.mark.parametrize(("pool", "left"), [("mass", ("three",)), ("all", ())])
def test_when_too_many_records_vanish_nothing_is_pruned(env: Environment, pool: str, left: tuple[str, ...]) -> None:
    before = [env.info(name, pool) for name in NAMES]
    keep_only(env, pool, *left)
    status = env.wait("one", "Orphaned", pool)
    assert "so many records vanished at once" in status["message"]
    env.look_again(6)  # beyond the delay
    assert [env.info(name, pool) for name in NAMES] == before
    assert len(env.thin_ids(pool)) == len(NAMES)
    keep_only(env, pool, *NAMES)
    for name in NAMES:
        env.wait(name, pool=pool, live="Active")


def test_a_pool_whose_record_is_gone_keeps_its_devices(env: Environment) -> None:
    before = [env.info(name, "all") for name in NAMES]
    env.declare(file="all.yaml")
    env.wait("one", "Orphaned", "all")
    env.look_again(6)
    assert [env.info(name, "all") for name in NAMES] == before
    env.declare(*records(env, "all", "Delete", NAMES), file="all.yaml")
    env.wait("one", pool="all")


def test_a_thin_id_that_nobody_names_is_counted_and_left_alone(env: Environment) -> None:
    env.stop()
    run("dmsetup", "message", f"{env.prefix}keep", "0", f"create_thin {STRANGER}")
    env.start()  # the ids are read at the start, and later only from time to time
    leaked = eventually(lambda: env.pool_status("keep").get("leakedThinIds"), "it is counted")
    assert leaked == [STRANGER]
    assert env.metric("dm_reconciler_pool_leaked_thin_ids", pool=f"{env.prefix}keep") == 1
    events = env.events(f"{env.prefix}keep")
    assert [e for e in events if e["reason"] == "LeakedThinId" and str(STRANGER) in e["message"]]
    env.look_again()
    assert STRANGER in env.thin_ids("keep")
    env.wait_pool(pool="keep")
