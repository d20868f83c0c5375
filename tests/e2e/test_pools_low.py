"""A pool that fills up: it grows by itself where its record says so, and tells where it does not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.testing.environment import Environment, Record, an_environment, eventually
from tests.testing.pools import (
    checksum,
    detach_loops,
    dmsetup,
    has_node,
    is_suspended,
    passes,
    pool_status,
    put_down,
    stopped,
    table,
    write,
)
from tests.testing.real_kernel import MIB

pytestmark = pytest.mark.soak

SMALL = 32
"""MiB of data in each pool here."""


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.start("--suspend-grace", "1s")
        yield env


def _declare(env: Environment, name: str, **spec: object) -> Record:
    """A small pool with one device, larger than the pool itself."""
    pool = env.pool(name)
    pool["spec"]["data"]["size"] = f"{SMALL}MiB"
    pool["spec"].update(spec)
    env.declare(pool, env.device("a", name, size="128MiB"), file=f"{name}.yaml")
    return pool


def _extend(most: int) -> dict[str, str]:
    return {"threshold": "80%", "step": "50%", "max": f"{most}MiB"}


def _size(env: Environment, name: str) -> int:
    """MiB of the live pool."""
    return int(table(env.prefix + name).split()[1]) * 512 // MIB


@contextmanager
def _writer(env: Environment, name: str, mib: int) -> Iterator[subprocess.Popen[bytes]]:
    """Writes more than there is room for, and waits where the pool queues."""
    node = f"/dev/mapper/{env.dm_name('a', name)}"
    command = ["dd", "if=/dev/urandom", f"of={node}", "bs=1M", f"count={mib}", "oflag=direct", "status=none"]
    writer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield writer
    finally:
        writer.wait(60)


def _is_full(env: Environment, name: str) -> bool:
    return "out_of_data_space" in pool_status(env.prefix + name)


def test_a_pool_that_fills_is_reported_where_nothing_lets_it_grow(env: Environment) -> None:
    _declare(env, "plain")
    env.wait("a", pool="plain")
    write(env.dm_name("a", "plain"), 30)
    said = env.wait_pool("PoolLow", "plain")
    assert "add `extend`" in said["message"]
    env.wait("a", pool="plain")
    assert _size(env, "plain") == SMALL


def test_a_pool_grows_by_steps_up_to_its_most_and_stays_that_large(env: Environment) -> None:
    _declare(env, "steps", extend=_extend(56))
    env.wait("a", pool="steps")
    write(env.dm_name("a", "steps"), 28)
    eventually(lambda: _size(env, "steps") == 48, "it has grown by half")
    env.wait_pool(pool="steps")
    write(env.dm_name("a", "steps"), 14, at=28)
    eventually(lambda: _size(env, "steps") == 56, "it has grown to its most")
    write(env.dm_name("a", "steps"), 6, at=42)
    eventually(lambda: "extend.max" in env.pool_status("steps")["message"], "it is said that it may grow no more")
    env.wait_pool("PoolLow", "steps")

    before = checksum(f"/dev/mapper/{env.dm_name('a', 'steps')}")
    with stopped(env):
        put_down(env, "steps", "a")
        detach_loops(env, "steps")
    eventually(lambda: has_node(env.dm_name("a", "steps")), "the device is back")
    assert _size(env, "steps") == 56
    assert checksum(f"/dev/mapper/{env.dm_name('a', 'steps')}") == before
    env.wait_pool("PoolLow", "steps")


def test_a_full_pool_grows_and_the_waiting_writer_gets_on(env: Environment) -> None:
    _declare(env, "queue")
    env.wait("a", pool="queue")
    with _writer(env, "queue", 48) as writer:
        eventually(lambda: _is_full(env, "queue"), "it is full")
        said = env.wait_pool("PoolUnhealthy", "queue", mode="out_of_data_space")
        assert "raise `data.size`" in said["message"]
        assert writer.poll() is None
        _declare(env, "queue", extend=_extend(96))
        assert writer.wait(60) == 0
    eventually(lambda: 56 <= _size(env, "queue") <= 96, "it has grown once more, as it was full again")
    env.wait_pool(pool="queue")


def test_a_larger_size_in_the_record_frees_a_full_pool(env: Environment) -> None:
    pool = _declare(env, "raised")
    env.wait("a", pool="raised")
    with _writer(env, "raised", 40) as writer:
        eventually(lambda: _is_full(env, "raised"), "it is full")
        _declare(env, "raised", data={**pool["spec"]["data"], "size": "64MiB"})
        assert writer.wait(60) == 0
    assert _size(env, "raised") == 64
    env.wait_pool(pool="raised")


def test_in_a_full_pool_what_is_suspended_is_resumed_and_nothing_is_made(env: Environment) -> None:
    pool = _declare(env, "errors", whenFull="error")
    env.wait("a", pool="errors")
    name = env.dm_name("a", "errors")
    with _writer(env, "errors", 40):
        eventually(lambda: _is_full(env, "errors"), "it is full")
    env.wait_pool("PoolUnhealthy", "errors")
    devices = (env.device("a", "errors", size="128MiB"), env.device("b", "errors", snapshotOf="a"))
    env.declare(pool, *devices, file="errors.yaml")
    env.wait("b", "PoolUnhealthy", pool="errors")
    dmsetup("suspend", "--noflush", name)
    eventually(lambda: not is_suspended(env, name), "it is resumed")
    passes(env)
    assert pool_status(env.prefix + "errors")[0] == "1", "only the first device was ever made"


def test_metadata_that_fills_grows_too(env: Environment) -> None:
    """2 MiB of it, of which each thin takes a little."""
    pool = _declare(env, "metadata", extend={"threshold": "1%", "step": "100%", "max": "32MiB"})
    pool["spec"]["metadata"]["size"] = "2MiB"
    env.declare(pool, env.device("a", "metadata", size="16MiB"), file="metadata.yaml")
    env.wait("a", pool="metadata")
    write(env.dm_name("a", "metadata"), 4)
    blocks = 2 * MIB // 4096
    eventually(lambda: int(pool_status(env.prefix + "metadata")[1].split("/")[1]) > blocks, "the metadata grew")
    file = (env.root / "metadata.meta").stat()
    assert file.st_blocks * 512 >= file.st_size > 2 * MIB
