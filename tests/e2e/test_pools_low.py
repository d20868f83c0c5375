"""A pool that fills up: it grows by itself where its record says so, and tells where it does not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.testing.environment import House, Record, a_house, eventually
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
def house() -> Iterator[House]:
    with a_house() as house:
        house.start("--suspend-grace", "1s")
        yield house


def _declare(house: House, name: str, **spec: object) -> Record:
    """A small pool with one device, larger than the pool itself."""
    pool = house.pool(name)
    pool["spec"]["data"]["size"] = f"{SMALL}MiB"
    pool["spec"].update(spec)
    house.declare(pool, house.device("a", name, size="128MiB"), file=f"{name}.yaml")
    return pool


def _extend(most: int) -> dict[str, str]:
    return {"threshold": "80%", "step": "50%", "max": f"{most}MiB"}


def _size(house: House, name: str) -> int:
    """MiB of the live pool."""
    return int(table(house.prefix + name).split()[1]) * 512 // MIB


@contextmanager
def _writer(house: House, name: str, mib: int) -> Iterator[subprocess.Popen[bytes]]:
    """Writes more than there is room for, and waits where the pool queues."""
    node = f"/dev/mapper/{house.dm_name('a', name)}"
    command = ["dd", "if=/dev/urandom", f"of={node}", "bs=1M", f"count={mib}", "oflag=direct", "status=none"]
    writer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield writer
    finally:
        writer.wait(60)


def _is_full(house: House, name: str) -> bool:
    return "out_of_data_space" in pool_status(house.prefix + name)


def test_a_pool_that_fills_is_reported_where_nothing_lets_it_grow(house: House) -> None:
    _declare(house, "plain")
    house.wait("a", pool="plain")
    write(house.dm_name("a", "plain"), 30)
    said = house.wait_pool("PoolLow", "plain")
    assert "add `extend`" in said["message"]
    house.wait("a", pool="plain")
    assert _size(house, "plain") == SMALL


def test_a_pool_grows_by_steps_up_to_its_most_and_stays_that_large(house: House) -> None:
    _declare(house, "steps", extend=_extend(56))
    house.wait("a", pool="steps")
    write(house.dm_name("a", "steps"), 28)
    eventually(lambda: _size(house, "steps") == 48, "it has grown by half")
    house.wait_pool(pool="steps")
    write(house.dm_name("a", "steps"), 14, at=28)
    eventually(lambda: _size(house, "steps") == 56, "it has grown to its most")
    write(house.dm_name("a", "steps"), 6, at=42)
    eventually(lambda: "extend.max" in house.pool_status("steps")["message"], "it is said that it may grow no more")
    house.wait_pool("PoolLow", "steps")

    before = checksum(f"/dev/mapper/{house.dm_name('a', 'steps')}")
    with stopped(house):
        put_down(house, "steps", "a")
        detach_loops(house, "steps")
    eventually(lambda: has_node(house.dm_name("a", "steps")), "the device is back")
    assert _size(house, "steps") == 56
    assert checksum(f"/dev/mapper/{house.dm_name('a', 'steps')}") == before
    house.wait_pool("PoolLow", "steps")


def test_a_full_pool_grows_and_the_waiting_writer_gets_on(house: House) -> None:
    _declare(house, "queue")
    house.wait("a", pool="queue")
    with _writer(house, "queue", 48) as writer:
        eventually(lambda: _is_full(house, "queue"), "it is full")
        said = house.wait_pool("PoolUnhealthy", "queue", mode="out_of_data_space")
        assert "raise `data.size`" in said["message"]
        assert writer.poll() is None
        _declare(house, "queue", extend=_extend(96))
        assert writer.wait(60) == 0
    eventually(lambda: 56 <= _size(house, "queue") <= 96, "it has grown once more, as it was full again")
    house.wait_pool(pool="queue")


def test_a_larger_size_in_the_record_frees_a_full_pool(house: House) -> None:
    pool = _declare(house, "raised")
    house.wait("a", pool="raised")
    with _writer(house, "raised", 40) as writer:
        eventually(lambda: _is_full(house, "raised"), "it is full")
        _declare(house, "raised", data={**pool["spec"]["data"], "size": "64MiB"})
        assert writer.wait(60) == 0
    assert _size(house, "raised") == 64
    house.wait_pool(pool="raised")


def test_in_a_full_pool_what_is_suspended_is_resumed_and_nothing_is_made(house: House) -> None:
    pool = _declare(house, "errors", whenFull="error")
    house.wait("a", pool="errors")
    name = house.dm_name("a", "errors")
    with _writer(house, "errors", 40):
        eventually(lambda: _is_full(house, "errors"), "it is full")
    house.wait_pool("PoolUnhealthy", "errors")
    devices = (house.device("a", "errors", size="128MiB"), house.device("b", "errors", snapshotOf="a"))
    house.declare(pool, *devices, file="errors.yaml")
    house.wait("b", "PoolUnhealthy", pool="errors")
    dmsetup("suspend", "--noflush", name)
    eventually(lambda: not is_suspended(house, name), "it is resumed")
    passes(house)
    assert pool_status(house.prefix + "errors")[0] == "1", "only the first device was ever made"


def test_metadata_that_fills_grows_too(house: House) -> None:
    """2 MiB of it, of which each thin takes a little."""
    pool = _declare(house, "metadata", extend={"threshold": "1%", "step": "100%", "max": "32MiB"})
    pool["spec"]["metadata"]["size"] = "2MiB"
    house.declare(pool, house.device("a", "metadata", size="16MiB"), file="metadata.yaml")
    house.wait("a", pool="metadata")
    write(house.dm_name("a", "metadata"), 4)
    blocks = 2 * MIB // 4096
    eventually(lambda: int(pool_status(house.prefix + "metadata")[1].split("/")[1]) > blocks, "the metadata grew")
    file = (house.root / "metadata.meta").stat()
    assert file.st_blocks * 512 >= file.st_size > 2 * MIB
