"""A reboot: every dm device and loop is gone, and nobody is there. All comes back with its data."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.pools import checksum, detach_loops, exists, has_node, loops_on, put_down, transaction, write
from tests.testing.real_kernel import run

ACTIVE = ("words", "tables", "raw")


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    """An ext4, an xfs, a raw device, a committed base and a snapshot of it that rests."""
    with an_environment() as env:
        env.declare(
            env.pool(data={"file": str(env.root / "tank.data"), "size": "1GiB"}),
            env.device("words", size="64MiB", filesystem={"type": "ext4"}),
            env.device("tables", size="300MiB", filesystem={"type": "xfs"}),
            env.device("raw"),
            env.device("base", state="Committed"),
            env.device("rest", snapshotOf="base", state="Inactive"),
        )
        env.start("--suspend-grace", "1s")
        for name in (*ACTIVE, "base", "rest"):
            env.wait(name)
        yield env


@contextmanager
def _mounted(env: Environment, name: str) -> Iterator[Path]:
    place = env.root / f"mnt-{name}"
    place.mkdir(exist_ok=True)
    run("mount", f"/dev/mapper/{env.dm_name(name)}", str(place))
    try:
        yield place
    finally:
        run("umount", str(place))


def _fill(env: Environment) -> dict[str, str]:
    """What is on the devices, by name."""
    sums = {}
    for name in ("words", "tables"):
        with _mounted(env, name) as place:
            run("dd", "if=/dev/urandom", f"of={place}/file", "bs=1M", "count=3", "conv=fsync")
            sums[name] = checksum(place / "file")
    write(env.dm_name("raw"), 3)
    sums["raw"] = checksum(f"/dev/mapper/{env.dm_name('raw')}")
    return sums


def _read(env: Environment) -> dict[str, str]:
    sums = {}
    for name in ("words", "tables"):
        with _mounted(env, name) as place:
            sums[name] = checksum(place / "file")
    sums["raw"] = checksum(f"/dev/mapper/{env.dm_name('raw')}")
    return sums


def test_after_a_reboot_all_active_devices_are_back_with_their_data(env: Environment) -> None:
    before = _fill(env)
    at = transaction(env.prefix + "tank")
    env.stop(signal.SIGKILL)
    put_down(env, "tank", *ACTIVE)
    detach_loops(env, "tank")
    assert not [listed for listed in env.dm.list_all() if listed.name.startswith(env.prefix)]
    assert not loops_on(env.root / "tank.data")

    env.start()
    for name in ACTIVE:
        eventually(lambda name=name: has_node(env.dm_name(name)), f"{name} is back")  # type: ignore[misc]
        env.wait(name, live="Active")
    for name in ("base", "rest"):
        env.wait(name, live="Inactive")
        assert not exists(env, env.dm_name(name))
    assert _read(env) == before
    assert transaction(env.prefix + "tank") == at
    log = env.tail(200)
    for name in ACTIVE:
        assert f'device "{env.dm_name(name)}" is recorded as Active but is not active, activating it' in log
    env.wait_pool()


def test_after_a_reboot_everything_works_on(env: Environment) -> None:
    """Ids go on where they were: a new device shares nothing with an old one."""
    env.declare(env.device("new", size="16MiB"), file="new.yaml")
    env.wait("new")
    ids = {env.status(name)["deviceId"] for name in (*ACTIVE, "base", "rest", "new")}
    assert len(ids) == len(ACTIVE) + 3
    assert env.pool_status()["leakedThinIds"] == []
