"""What thin_check finds in real metadata: after a power cut, after damage, on a disk that fails. Whichever version is here."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.kernel.programs import HostTools
from reconciler.model.errors import HostError
from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.pools import (
    checksum,
    detach_loops,
    dmsetup,
    exists,
    has_node,
    loops_on,
    overwrite,
    passes,
    put_down,
    stopped,
    table,
    write,
)
from tests.testing.real_kernel import BLOCK, MIB, TestPool, run

LATE = 3000
"""Milliseconds that a write of data takes while the kernel commits what it has allocated for it."""


def test_metadata_is_checked_when_the_pool_is_down(make_pool: Callable[..., TestPool]) -> None:
    pool = make_pool(thins=(1, 2))
    dmsetup("remove", "--retry", pool.name)
    assert HostTools().thin_check(str(pool.metadata)) == ""
    assert sorted(HostTools().thin_ls(str(pool.metadata), live=False)) == [1, 2]


@pytest.mark.parametrize("what", ["metadata", "metadata_file"])
def test_live_metadata_is_refused_by_errno(make_pool: Callable[..., Any], what: str) -> None:
    path = str(getattr(make_pool(), what))
    for look in (HostTools().thin_check, lambda metadata: HostTools().thin_ls(metadata, live=False)):
        with pytest.raises(HostError) as refused:
            look(path)
        assert refused.value.errno == errno.EBUSY


def _zero_it(metadata: Path) -> None:
    overwrite(metadata)


def _spoil_the_superblock(metadata: Path) -> None:
    with metadata.open("r+b") as opened:
        opened.seek(100)
        opened.write(os.urandom(8))


def _spoil_the_rest(metadata: Path) -> None:
    with metadata.open("r+b") as opened:
        opened.seek(4096)
        opened.write(os.urandom(39 * 4096))


def _cut_it_short(metadata: Path) -> None:
    os.truncate(metadata, 4096)


@pytest.mark.parametrize("spoil", [_zero_it, _spoil_the_superblock, _spoil_the_rest, _cut_it_short])
def test_damage_is_told_as_damage(
    make_pool: Callable[..., TestPool], workdir: Path, spoil: Callable[[Path], None]
) -> None:
    pool = make_pool(thins=(1, 2))
    dmsetup("remove", "--retry", pool.name)
    copy = workdir / "spoilt"
    shutil.copy(pool.metadata_file, copy)
    spoil(copy)
    with _on_a_loop(copy) as loop, pytest.raises(HostError) as found:
        HostTools().thin_check(loop)
    assert found.value.errno == errno.EUCLEAN
    assert found.value.detail
    assert "examining" not in found.value.detail
    assert "\n" not in found.value.detail


def test_a_disk_that_cannot_be_read_is_no_damage(make_pool: Callable[..., TestPool], prefix: str) -> None:
    """The superblock can be read, and what it leads to cannot."""
    pool = make_pool(thins=(1, 2))
    dmsetup("remove", "--retry", pool.name)
    length = 16 * MIB // 512
    lines = f"0 8 linear {pool.metadata} 0\n8 {length - 8} error\n"
    run("dmsetup", "create", prefix + "failing", stdin=lines)
    with pytest.raises(HostError) as found:
        HostTools().thin_check(f"/dev/mapper/{prefix}failing")
    assert found.value.errno == errno.EIO


def test_a_file_without_direct_io_is_no_damage(workdir: Path) -> None:
    """A filesystem in memory that has none on any kernel. It goes with the folder of the test."""
    folder = workdir / "ramfs"
    folder.mkdir()
    run("mount", "-t", "ramfs", "none", str(folder))
    (folder / "file").write_bytes(bytes(MIB))
    try:
        with pytest.raises(HostError) as refused:
            HostTools().thin_check(str(folder / "file"))
    finally:
        run("umount", str(folder))
    assert refused.value.errno == errno.EINVAL


def test_blocks_that_leaked_in_a_power_cut_are_harmless(
    make_pool: Callable[..., TestPool], workdir: Path, prefix: str
) -> None:
    pool = make_pool(thins=(0,))
    live = table(pool.name)
    dmsetup("remove", "--retry", pool.name)
    _cut_off(prefix, live, pool.data, workdir / "cut", pool.metadata_file)
    with _on_a_loop(workdir / "cut") as loop:
        told = HostTools().thin_check(loop)
        assert told == ("" if _is_0_9() else "1 data blocks have leaked")
        run("thin_check", "--auto-repair", loop)
        assert HostTools().thin_check(loop) == ""


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool(), env.device("a"), file=f"{env.prefix}tank.yaml")
        env.start("--suspend-grace", "1s")
        env.wait("a")
        write(env.dm_name("a"), 1)
        yield env


def test_a_pool_comes_up_after_a_power_cut(env: Environment) -> None:
    node, metadata = f"/dev/mapper/{env.dm_name('a')}", env.root / "tank.meta"
    before = checksum(node)
    with stopped(env):
        live = table(env.prefix + "tank")
        put_down(env, "tank", "a")
        (data,) = loops_on(env.root / "tank.data")
        _cut_off(env.prefix, live, Path(data), env.root / "cut", metadata)
        detach_loops(env, "tank")
        shutil.copy(env.root / "cut", metadata)
    eventually(lambda: has_node(env.dm_name("a")), "the device is back")
    env.wait_pool()
    env.wait("a")
    assert checksum(node) == before


def test_a_pool_with_damage_stays_down_and_says_how_to_repair_it(env: Environment) -> None:
    """Its superblock is whole, so only thin_check can tell."""
    metadata, before = env.root / "tank.meta", env.root / "before"
    env.wait("a")
    with stopped(env):
        put_down(env, "tank", "a")
        detach_loops(env, "tank")
        shutil.copy(metadata, before)
        _spoil_the_rest(metadata)
        spoilt = checksum(metadata)
    said = env.wait_pool("PoolUnhealthy")["message"]
    assert f"thin_repair -i {metadata} -o NEW" in said
    passes(env)
    assert not exists(env, env.prefix + "tank")
    assert checksum(metadata) == spoilt
    with stopped(env):
        detach_loops(env, "tank")
        shutil.copy(before, metadata)
    env.wait_pool()
    env.wait("a")


def _is_0_9() -> bool:
    return run("thin_check", "--version").out.startswith("0.9")


@contextmanager
def _on_a_loop(file: Path) -> Iterator[str]:
    node = run("losetup", "--find", "--show", str(file)).out
    yield node
    run("losetup", "--detach", node)


def _cut_off(prefix: str, live: str, data: Path, copy: Path, metadata: Path) -> None:
    """Bring up the pool of the table `live`, which is down, and copy its metadata while a write of data is under way.

    The block of the write is allocated and committed then, and the mapping that uses it is not: what a power cut leaves.
    """
    pool, thin, late = f"{prefix}cut", f"{prefix}cut-thin", f"{prefix}cut-late"
    start, length, _, metadata_devno, _, block, low = live.split()[:7]
    dmsetup("create", late, "--table", f"{start} {length} delay {data} 0 0 {data} 0 {LATE} {data} 0 0")
    dmsetup("create", pool, "--table", f"{start} {length} thin-pool {metadata_devno} /dev/mapper/{late} {block} {low}")
    dmsetup("create", thin, "--table", f"0 {8 * MIB // 512} thin /dev/mapper/{pool} 0")
    before = _used(pool)
    to = (f"of=/dev/mapper/{thin}", f"bs={int(BLOCK) * 512}", "seek=64", "count=1", "oflag=direct")
    with subprocess.Popen(["dd", "if=/dev/urandom", *to], stderr=subprocess.DEVNULL) as writer:
        eventually(lambda: _used(pool) > before, "the kernel has allocated a block")
        shutil.copy(metadata, copy)
        assert writer.poll() is None, "its data was not written yet"
    for name in (thin, pool, late):
        dmsetup("remove", "--retry", name)


def _used(pool: str) -> int:
    """Blocks of data that are in use. The question makes the kernel commit."""
    return int(dmsetup("status", pool).split()[5].partition("/")[0])
