"""A live pool that drifted, or whose record changed: seen to heal, or to be left alone with the reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.testing.environment import Environment, Record, an_environment, eventually
from tests.testing.pools import (
    declared,
    dmsetup,
    exists,
    is_suspended,
    passes,
    paused,
    pool_status,
    put_down,
    stopped,
    table,
)
from tests.testing.real_kernel import MIB, run

pytestmark = pytest.mark.soak

GRACE = 1.0


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        _declare(env, env.pool())
        env.start("--suspend-grace", f"{GRACE:.0f}s")
        yield env


@pytest.fixture
def tank(env: Environment) -> Iterator[str]:
    """The dm name of the pool, which is as desired before each test and again after it."""
    env.wait("a")
    yield env.prefix + "tank"
    _declare(env, env.pool())
    env.wait("a")
    env.wait_pool()


def _declare(env: Environment, pool: Record) -> None:
    env.declare(pool, env.device("a"), file=f"{env.prefix}tank.yaml")


def _features(name: str) -> set[str]:
    return set(table(name).split()[8:])


def test_a_suspended_pool_is_resumed_once_its_grace_is_over(env: Environment, tank: str) -> None:
    begun = time.monotonic()
    dmsetup("suspend", tank)
    env.wait_pool("PoolSuspended", live="Suspended")
    env.wait("a", "WaitingForPool")
    eventually(lambda: not is_suspended(env, tank), "it is resumed")
    assert time.monotonic() - begun >= GRACE
    env.wait_pool()
    env.wait("a")


def test_a_paused_pool_is_left_as_it_is_and_taken_up_again(env: Environment, tank: str) -> None:
    with paused(env, env.pool(), env.device("a")):
        dmsetup("suspend", tank)
        env.wait_pool("Paused", live="Suspended")
        passes(env, 3)
        assert is_suspended(env, tank)
        env.wait("a", "Paused")
    env.wait_pool()
    assert not is_suspended(env, tank)


def test_a_pool_without_a_table_is_made_whole(env: Environment, tank: str) -> None:
    uuid = dmsetup("info", "--columns", "--noheadings", "--options", "uuid", tank)
    with stopped(env):
        put_down(env, "tank", "a")
        dmsetup("create", tank, "--uuid", uuid, "--notable")
    eventually(lambda: exists(env, env.dm_name("a")), "its device is back")
    env.wait_pool()
    assert "thin-pool" in table(tank)
    assert any(event["reason"] == "TablelessShell" for event in env.events(tank))


def test_a_table_left_in_the_inactive_slot_is_cleared(env: Environment, tank: str) -> None:
    begun = time.monotonic()
    dmsetup("load", tank, "--table", table(tank))
    env.wait_pool("InactiveTableLeft")
    eventually(lambda: not dmsetup("table", "--inactive", tank), "it is cleared")
    assert time.monotonic() - begun >= GRACE
    env.wait_pool()


def test_a_table_that_is_too_short_is_replaced(env: Environment, tank: str) -> None:
    """It loads, and its resume fails: the pool hangs suspended under it."""
    good = table(tank)
    words = good.split()
    dmsetup("load", tank, "--table", " ".join(["0", str(int(words[1]) // 2), *words[2:]]))
    assert run("dmsetup", "resume", tank, check=False).code
    env.wait_pool("PoolSuspended")
    env.wait_pool()
    assert table(tank) == good


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        ({"whenFull": "error"}, "error_if_no_space"),
        ({"discards": "nopassdown"}, "no_discard_passdown"),
        ({"zeroNewBlocks": False}, "skip_block_zeroing"),
    ],
)
def test_a_changed_record_changes_the_live_table(
    env: Environment, tank: str, change: dict[str, Any], feature: str
) -> None:
    assert feature not in _features(tank)
    _declare(env, env.pool(**change))
    eventually(lambda: feature in _features(tank), f"{feature} is in the table")
    env.wait_pool()
    _declare(env, env.pool())
    eventually(lambda: feature not in _features(tank), f"{feature} is gone again")


def test_a_table_that_somebody_changed_is_changed_back(env: Environment, tank: str) -> None:
    good = table(tank)
    words = good.split()
    other = [*words[:6], "7", "2", "error_if_no_space", "no_discard_passdown"]
    dmsetup("load", tank, "--table", " ".join(other))
    dmsetup("resume", tank)
    env.wait_pool("PoolTableWrong")
    env.wait_pool()
    assert table(tank) == good


def test_the_low_water_mark_follows_the_record(env: Environment, tank: str) -> None:
    _declare(env, env.pool(lowWaterMark="50%"))
    blocks = 256 * MIB // (64 * 1024)
    eventually(lambda: table(tank).split()[6] == str(blocks // 2), "half of the blocks")


def test_discards_cannot_be_switched_off_while_the_pool_is_live(env: Environment, tank: str) -> None:
    before = table(tank)
    _declare(env, env.pool(discards="ignore"))
    said = env.wait_pool("InvalidChange")
    assert "ignore" in said["message"]
    assert table(tank) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"blockSize": "128KiB"}, "blockSize is fixed"),
        ({"data": {"file": "/srv/elsewhere", "size": "256MiB"}}, "the record says /srv/elsewhere"),
        ({"metadata": {"file": "/srv/elsewhere", "size": "4MiB"}}, "the record says /srv/elsewhere"),
    ],
)
def test_what_a_pool_is_made_of_is_fixed(env: Environment, tank: str, change: dict[str, Any], words: str) -> None:
    before = table(tank)
    _declare(env, env.pool(**change))
    said = env.wait_pool("InvalidChange")
    assert words in said["message"]
    dmsetup("remove", env.dm_name("a"))
    eventually(lambda: exists(env, env.dm_name("a")), "its devices are healed all the same")
    assert table(tank) == before


def test_a_record_that_grows_grows_the_pool(env: Environment, tank: str) -> None:
    grown = env.pool("grown")
    env.declare(grown, env.device("a", "grown"), file="grown.yaml")
    env.wait("a", pool="grown")
    name = env.prefix + "grown"
    metadata_before = int(pool_status(name)[1].split("/")[1])
    files = {kind: {**grown["spec"][kind], "size": size} for kind, size in (("data", "320MiB"), ("metadata", "8MiB"))}
    env.declare(declared(grown, **files), env.device("a", "grown"), file="grown.yaml")
    eventually(lambda: int(table(name).split()[1]) * 512 == 320 * MIB, "the pool has 320 MiB")
    env.wait_pool(pool="grown", dataSizeBytes=320 * MIB)
    assert int(pool_status(name)[1].split("/")[1]) > metadata_before
    metadata = (env.root / "grown.meta").stat()
    assert metadata.st_size == 8 * MIB <= metadata.st_blocks * 512
    env.declare(grown, env.device("a", "grown"), file="grown.yaml")
    passes(env)
    assert int(table(name).split()[1]) * 512 == 320 * MIB, "a smaller record never shrinks it"
    env.wait_pool(pool="grown")
    assert exists(env, tank)


def test_a_name_that_a_foreign_device_carries_is_a_conflict(env: Environment) -> None:
    name = env.prefix + "foreign"
    dmsetup("create", name, "--uuid", f"LVM-{name}", "--table", "0 2048 error")
    env.declare(env.pool("foreign"), env.device("a", "foreign"), file="foreign.yaml")
    said = env.wait_pool("Conflict", "foreign")
    assert "LVM" in said["message"]
    passes(env)
    assert table(name) == "0 2048 error"
    assert not (env.root / "foreign.data").exists()
    dmsetup("remove", name)
    env.wait("a", pool="foreign")
    assert "thin-pool" in table(name)
