"""A device below a pool that is suspended: nothing is sent that could block, and the other pools go on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.pools import checksum, dmsetup, exists, is_suspended, make_disk, passes, write


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    """One pool on linear devices, as a volume manager makes them, and one that lies on files."""
    with an_environment() as env:
        for what, mib in (("data", 64), ("metadata", 4)):
            disk = make_disk(env, f"below.{what}", mib)
            dmsetup("create", _below(env, what), "--table", f"0 {mib * 2048} linear {disk} 0")
        places = {what: {"device": f"/dev/mapper/{_below(env, what)}"} for what in ("data", "metadata")}
        env.declare(env.pool("below", **places), env.device("a", "below"), env.pool("other"), env.device("a", "other"))
        env.start("--suspend-grace", "1s")
        env.wait("a", pool="below")
        env.wait("a", pool="other")
        write(env.dm_name("a", "below"), 1)
        yield env


def _below(env: Environment, what: str) -> str:
    return f"{env.prefix}{what}disk"


@pytest.mark.parametrize("what", ["metadata", pytest.param("data", marks=pytest.mark.soak)])
def test_the_pool_is_stuck_until_it_is_resumed_and_another_heals_meanwhile(env: Environment, what: str) -> None:
    below, thin = _below(env, what), env.dm_name("a", "below")
    before = checksum(f"/dev/mapper/{thin}")
    dmsetup("suspend", "--noflush", below)
    said = env.wait_pool("Stuck", "below")
    assert f"dmsetup resume {below}" in said["message"]
    env.wait("a", "Stuck", pool="below")

    dmsetup("suspend", env.dm_name("a", "other"))
    eventually(lambda: not is_suspended(env, env.dm_name("a", "other")), "the other pool's device is resumed")
    dmsetup("remove", "--retry", env.dm_name("a", "other"))
    eventually(lambda: exists(env, env.dm_name("a", "other")), "and activated again")

    passes(env, 3)
    assert is_suspended(env, below), "it is its owner's to resume"
    dmsetup("resume", below)
    env.wait("a", pool="below")
    env.wait_pool(pool="below")
    assert checksum(f"/dev/mapper/{thin}") == before


def test_what_was_declared_meanwhile_is_made_afterwards(env: Environment) -> None:
    below = _below(env, "metadata")
    dmsetup("suspend", "--noflush", below)
    env.wait_pool("Stuck", "below")
    env.declare(env.device("late", "below"), file="late.yaml")
    env.wait("late", "Stuck", pool="below")
    dmsetup("resume", below)
    env.wait("late", pool="below", live="Active")


def test_where_the_pool_is_down_nothing_is_read_from_the_suspended_disk(env: Environment) -> None:
    """A look at the superblock would hang, and the second worker's with it."""
    below, pool = _below(env, "metadata"), env.prefix + "below"
    env.wait_pool(pool="below")
    with env.asleep():
        for name in ("a", "late"):  # the second one only where the test before has run
            if exists(env, env.dm_name(name, "below")):
                dmsetup("remove", "--retry", env.dm_name(name, "below"))
        dmsetup("remove", "--retry", pool)
        dmsetup("suspend", below)
    said = env.wait_pool("Stuck", "below")
    assert f"dmsetup resume {below}" in said["message"]
    passes(env, 3)
    assert "no answer" not in env.wait_pool("Stuck", "below")["message"]
    dmsetup("resume", below)
    env.wait("a", pool="below")
