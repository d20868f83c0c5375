"""Nothing empty in the place of data: `forget` and `adopt`, judged by dmsetup and checksums."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import Environment, Record, an_environment
from tests.testing.pools import checksum, declared, dmsetup, exists, write
from tests.testing.real_kernel import Run, run


@pytest.fixture
def env() -> Iterator[Environment]:
    with an_environment() as env:
        yield env


def apply(env: Environment, *records: Record, check: bool = True) -> Run:
    env.declare(*records)
    return env.cli("apply", "--manifests", str(env.manifests), "--timeout", "60s", check=check)


def taken_down(*names: str) -> None:
    for name in names:
        run("dmsetup", "remove", "--retry", name)


def thins(prefix: str) -> list[str]:
    return [line for line in dmsetup("ls", "--target", "thin").splitlines() if line.startswith(prefix)]


def test_a_forgotten_pool_gives_back_its_data_and_no_empty_device(env: Environment) -> None:
    pool, device, name = env.pool(), env.device("a"), env.dm_name("a")
    apply(env, pool, device)
    write(name, 4)
    data = checksum(Path("/dev/mapper", name))
    taken_down(name, f"{env.prefix}tank")
    env.cli("forget", "pool", f"{env.prefix}tank", "--yes")

    held = apply(env, declared(pool, adopt=True), device, check=False)
    assert held.code == 4
    assert thins(env.prefix) == []
    said = held.out + held.err
    assert "0 (4MiB, of transaction 0)" in said
    assert f"adopt: {{deviceId: 0, dmName: {name}}}" in said
    assert f"{name}" not in dmsetup("ls")

    apply(env, declared(pool, adopt=True), declared(device, adopt={"deviceId": 0, "dmName": name}))
    assert checksum(Path("/dev/mapper", name)) == data


def test_a_new_state_directory_and_a_hand_made_pool_are_no_other_case(env: Environment) -> None:
    pool, device = env.pool(), env.device("a")
    apply(env, pool, device)
    tank = f"{env.prefix}tank"
    taken_down(env.dm_name("a"))
    env.state = env.root / "new-state"
    held = apply(env, declared(pool, adopt=True), device, check=False)
    assert held.code == 4
    assert not exists(env, env.dm_name("a"))
    apply(env, declared(pool, adopt=True, foreignThins=[0]), device)
    assert dmsetup("table", env.dm_name("a")).split()[-1] == "1"
    assert exists(env, tank)


def test_a_forgotten_device_is_not_made_anew_beside_its_data(env: Environment) -> None:
    pool, device, name = env.pool(), env.device("a"), env.dm_name("a")
    apply(env, pool, device)
    taken_down(name)
    env.cli("forget", "device", env.key("a"), "--yes")
    held = apply(env, pool, device, check=False)
    assert held.code == 4
    assert not exists(env, name)
    dmsetup("message", f"{env.prefix}tank", "0", "delete 0")  # whoever wants it gone
    apply(env, pool, device)
    assert exists(env, name)


def test_somebody_elses_thins_hold_up_no_device_of_a_pool_that_this_store_made(env: Environment) -> None:
    pool = env.pool()
    apply(env, pool, env.device("a"))
    dmsetup("message", f"{env.prefix}tank", "0", "create_thin 77")
    apply(env, pool, env.device("a"), env.device("b"))
    assert exists(env, env.dm_name("b"))
