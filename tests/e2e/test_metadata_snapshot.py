"""Another program's metadata snapshot, and one whose own commit fails the pool: asked of the real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing.environment import Environment, an_environment
from tests.testing.pools import dmsetup, exists, pool_status
from tests.testing.real_kernel import run


@pytest.fixture
def env() -> Iterator[Environment]:
    with an_environment() as env:
        yield env


def held(env: Environment) -> str:
    return pool_status(f"{env.prefix}tank")[3]


def test_another_programs_metadata_snapshot_stays(env: Environment) -> None:
    tank = f"{env.prefix}tank"
    env.declare(env.pool(), env.device("a"))
    env.cli("apply", "--manifests", str(env.manifests))
    assert held(env) == "-"
    dmsetup("message", tank, "0", "reserve_metadata_snap")
    root = held(env)
    env.declare(env.pool(), env.device("a"), env.device("b"))
    waiting = env.cli("apply", "--manifests", str(env.manifests), "--timeout", "10s", check=False)
    assert waiting.code != 0
    assert held(env) == root
    assert f"dmsetup message {tank} 0 release_metadata_snap" in waiting.out + waiting.err
    assert not exists(env, env.dm_name("b"))
    dmsetup("message", tank, "0", "release_metadata_snap")
    env.cli("apply", "--manifests", str(env.manifests))
    assert exists(env, env.dm_name("b"))
    assert held(env) == "-"
    run("dmsetup", "remove", "--retry", env.dm_name("a"))
