"""Two pools that lie on one disk, or in one file, under two names. The kernel takes both, and each destroys the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import Environment, Record, an_environment, eventually
from tests.testing.pools import dmsetup, exists, make_disk, passes, write
from tests.testing.real_kernel import MIB, run

NAMES = ("one", "two")


@pytest.fixture
def env() -> Iterator[Environment]:
    with an_environment() as env:
        yield env


def _exactly_one_is_live(env: Environment, records: list[Record]) -> tuple[str, str]:
    """Both are declared before the daemon starts, so that their lanes look at the same time. (live, other)"""
    env.declare(*records, *(env.device("a", name) for name in NAMES))
    env.start("--resync", "2s")

    def told() -> tuple[str, str] | None:
        reasons = {name: env.pool_status(name).get("reason") for name in NAMES}
        ordered = sorted(NAMES, key=lambda name: reasons[name] != "Converged")
        return (ordered[0], ordered[1]) if {*reasons.values()} == {"Converged", "Conflict"} else None

    live, other = eventually(told, "one Converged, the other Conflict")
    env.wait("a", pool=live)
    env.wait("a", "WaitingForPool", pool=other)
    passes(env, 1)
    assert exists(env, env.prefix + live)
    assert not exists(env, env.prefix + other)
    write(env.dm_name("a", live), 4)
    return live, other


@pytest.mark.parametrize("again", [0, *(pytest.param(number, marks=pytest.mark.soak) for number in (1, 2))])
def test_of_two_pools_on_one_disk_one_comes_up(env: Environment, again: int) -> None:
    disk = make_disk(env, f"disk{again}")
    link = env.root / "by-id"
    link.symlink_to(disk)
    pools = [env.pool("one", data={"device": disk}), env.pool("two", data={"device": str(link)})]
    _, other = _exactly_one_is_live(env, pools)
    assert Path(disk).name in env.pool_status(other)["message"] or "by-id" in env.pool_status(other)["message"]


def test_of_two_pools_in_one_file_one_comes_up(env: Environment) -> None:
    names = [env.root / "first.data", env.root / "second.data"]
    names[0].touch(0o600)
    os.truncate(names[0], 64 * MIB)
    names[1].hardlink_to(names[0])
    pools = [env.pool(name, data={"file": str(file), "size": "64MiB"}) for name, file in zip(NAMES, names, strict=True)]
    _exactly_one_is_live(env, pools)


def test_two_that_share_a_disk_already_are_told(env: Environment) -> None:
    disk, metadata = make_disk(env, "disk"), make_disk(env, "beside.meta", 4)
    env.declare(env.pool("one", data={"device": disk}), env.device("a", "one"))
    env.start("--resync", "1s")
    env.wait("a", pool="one")
    beside = env.prefix + "beside"
    dmsetup("create", beside, "--table", f"0 {64 * MIB // 512} thin-pool {metadata} {disk} 128 0")
    assert beside in env.wait_pool("Conflict", "one")["message"]
    env.declare(env.pool("one", data={"device": disk}), env.device("a", "one"), env.device("b", "one"))
    env.wait("b", "WaitingForPool", pool="one")
    assert env.info("b", "one") is None
    run("dmsetup", "remove", beside)
    env.wait("b", pool="one")


def test_data_and_metadata_in_one_file_are_a_conflict(env: Environment) -> None:
    file, other = env.root / "same", env.root / "same-too"
    file.touch(0o600)
    os.truncate(file, 64 * MIB)
    other.hardlink_to(file)
    pool = env.pool("one", data={"file": str(file), "size": "64MiB"}, metadata={"file": str(other), "size": "64MiB"})
    env.declare(pool)
    env.start("--resync", "2s")
    assert "the same device" in env.wait_pool("Conflict", "one")["message"]
    assert not exists(env, env.prefix + "one")
