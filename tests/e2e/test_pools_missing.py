"""A pool that was there before and is not active: brought back if it is whole, and otherwise nothing is touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.pools import (
    attach,
    checksum,
    declared,
    detach,
    detach_loops,
    dmsetup,
    exists,
    has_node,
    loops_on,
    overwrite,
    passes,
    put_down,
    stopped,
    write,
)
from tests.testing.real_kernel import MIB, run


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool(), env.device("a"), file=f"{env.prefix}tank.yaml")
        env.start("--suspend-grace", "1s")
        env.wait("a")
        write(env.dm_name("a"), 1)
        yield env


@pytest.fixture
def data(env: Environment) -> Iterator[str]:
    """The checksum of what is on the pool's device, which is the same again after each test."""
    env.wait("a")
    node = f"/dev/mapper/{env.dm_name('a')}"
    before = checksum(node)
    yield before
    env.wait_pool()
    env.wait("a")
    assert checksum(node) == before


@contextmanager
def _down(env: Environment) -> Iterator[None]:
    """The pool is down while this is prepared; then it is the daemon's turn."""
    with stopped(env):
        put_down(env, "tank", "a")
        yield


def _metadata(env: Environment) -> Path:
    return env.root / "tank.meta"


def _left_alone(env: Environment, reason: str, words: str) -> None:
    said = env.wait_pool(reason)
    assert words in said["message"]
    env.wait("a", "WaitingForPool")
    passes(env)
    assert not exists(env, env.prefix + "tank")
    assert env.pool_status()["reason"] == reason


@pytest.mark.usefixtures("data")
def test_a_pool_that_was_removed_comes_back_with_its_devices(env: Environment) -> None:
    with _down(env):
        pass
    _is_back(env)
    assert f'device "{env.dm_name("a")}" is recorded as Active but is not active' in env.tail()


@pytest.mark.usefixtures("data")
def test_detached_loops_are_attached_again(env: Environment) -> None:
    with _down(env):
        detach_loops(env, "tank")
        assert not loops_on(_metadata(env))
    _is_back(env)
    assert len(loops_on(_metadata(env))) == 1
    assert any(event["reason"] == "LoopDetached" for event in env.events(env.prefix + "tank"))


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_a_file_on_two_loops_is_a_conflict_until_one_is_gone(env: Environment) -> None:
    with _down(env):
        second = attach(env.root / "tank.data")
    _left_alone(env, "Conflict", second)
    detach(second)


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("kind", ["data", "meta"])
def test_a_missing_file_is_not_made_anew(env: Environment, kind: str) -> None:
    file, away = env.root / f"tank.{kind}", env.root / "away"
    with _down(env):
        detach_loops(env, "tank")
        file.rename(away)
    _left_alone(env, "MetadataMismatch", f"{file}, is missing")
    assert not file.exists()
    away.rename(file)


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_a_file_that_was_cut_short_is_not_used(env: Environment) -> None:
    file = env.root / "tank.data"
    with _down(env):
        detach_loops(env, "tank")
        run("truncate", "--size", "128M", str(file))
    _left_alone(env, "MetadataMismatch", "is shorter than it was")
    run("truncate", "--size", "256M", str(file))


@pytest.mark.usefixtures("data")
def test_a_new_file_of_the_same_length_is_not_taken_for_the_data(env: Environment) -> None:
    file, away = env.root / "tank.data", env.root / "away"
    with _down(env):
        detach_loops(env, "tank")
        file.rename(away)
        run("truncate", "--size", str(away.stat().st_size), str(file))
    _left_alone(env, "MetadataMismatch", f"{file}, is an empty file")
    assert not loops_on(file)
    assert not file.stat().st_blocks
    away.rename(file)


def test_a_pool_whose_thin_was_never_written_to_comes_back_on_its_empty_file(env: Environment) -> None:
    file = env.root / "bare.data"
    env.declare(env.pool("bare"), env.device("a", "bare"), file=f"{env.prefix}bare.yaml")
    env.wait("a", pool="bare")
    with stopped(env):
        put_down(env, "bare", "a")
        detach_loops(env, "bare")
        assert not file.stat().st_blocks
    eventually(lambda: has_node(env.dm_name("a", "bare")), "the device is back")
    env.wait("a", pool="bare")
    env.declare(
        declared(env.pool("bare"), state="Absent"),
        env.device("a", "bare", state="Absent"),
        file=f"{env.prefix}bare.yaml",
    )
    env.wait_pool("Converged", "bare", live="Absent")


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("how", "words"),
    [
        (("--read-only",), "is read-only"),
        pytest.param(("--sizelimit", str(64 * MIB)), "shows only the first", marks=pytest.mark.soak),
    ],
)
def test_a_loop_that_does_not_give_all_of_the_data_is_a_conflict(
    env: Environment, how: tuple[str, ...], words: str
) -> None:
    file = env.root / "tank.data"
    with _down(env):
        detach_loops(env, "tank")
        loop = run("losetup", "--find", "--show", *how, str(file)).out
    _left_alone(env, "Conflict", words)
    assert f"losetup -d {loop}" in env.pool_status()["message"]
    detach(loop)


@pytest.mark.usefixtures("data")
def test_a_zeroed_superblock_is_not_formatted_over(env: Environment) -> None:
    before = env.root / "before"
    with _down(env):
        detach_loops(env, "tank")
        shutil.copy(_metadata(env), before)
        overwrite(_metadata(env))
        zeroed = checksum(_metadata(env))
    _left_alone(env, "MetadataMismatch", "begins with zeros where its superblock was")
    assert checksum(_metadata(env)) == zeroed
    _put_back(env, before)


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_something_else_where_the_superblock_was_is_not_used(env: Environment) -> None:
    before = env.root / "before"
    with _down(env):
        detach_loops(env, "tank")
        shutil.copy(_metadata(env), before)
        overwrite(_metadata(env), source="/dev/urandom")
    _left_alone(env, "MetadataMismatch", "begins with something else where its superblock was")
    _put_back(env, before)


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_an_older_copy_of_the_metadata_is_not_used(env: Environment) -> None:
    """A device was made since: its thin id is not in the copy."""
    older, newest = env.root / "older", env.root / "newest"
    with _down(env):
        shutil.copy(_metadata(env), older)
    _is_back(env)
    devices = (env.device("a"), env.device("since"))
    env.declare(env.pool(), *devices, file=f"{env.prefix}tank.yaml")
    env.wait("since")
    with stopped(env):
        put_down(env, "tank", "a", "since")
        detach_loops(env, "tank")
        shutil.copy(_metadata(env), newest)
        _put_back(env, older)
    _left_alone(env, "MetadataMismatch", "one of the two is an old copy")
    _put_back(env, newest)
    env.wait("since")
    env.declare(env.pool(), devices[0], env.device("since", state="Absent"), file=f"{env.prefix}tank.yaml")
    env.wait("since", live="Absent")


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_damaged_metadata_stops_with_the_words_that_repair_it(env: Environment) -> None:
    before = env.root / "before"
    with _down(env):
        detach_loops(env, "tank")
        shutil.copy(_metadata(env), before)
        for block in range(1, 40):
            overwrite(_metadata(env), skip=block, source="/dev/urandom")
        damaged = checksum(_metadata(env))
    _left_alone(env, "PoolUnhealthy", f"thin_repair -i {_metadata(env)} -o NEW")
    tried = env.metric("dm_reconciler_actions_total", action="thin_check", result="error")
    assert tried < 10, "it is tried less and less often"
    assert checksum(_metadata(env)) == damaged
    _put_back(env, before)


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_a_data_file_that_another_device_lies_on_is_a_conflict(env: Environment) -> None:
    above = env.prefix + "above"
    with _down(env):
        (loop,) = loops_on(env.root / "tank.data")
        dmsetup("create", above, "--table", f"0 2048 linear {loop} 0")
    _left_alone(env, "Conflict", f"device {above}")
    dmsetup("remove", above)


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_a_file_that_grew_beside_is_used_whole(env: Environment) -> None:
    with _down(env):
        detach_loops(env, "tank")
        run("truncate", "--size", "300M", str(env.root / "tank.data"))
    env.wait_pool(dataSizeBytes=300 * MIB)


def _is_back(env: Environment) -> None:
    eventually(lambda: has_node(env.dm_name("a")), "the device is back")
    env.wait("a")


def _put_back(env: Environment, copy: Path) -> None:
    """Whatever still has a loop on the file goes on seeing the file."""
    run("dd", f"if={copy}", f"of={_metadata(env)}", "bs=1M", "conv=notrunc,fsync")
