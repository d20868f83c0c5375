"""Programs on a real kernel: filesystems that are made and grow, discards, and pool metadata."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.kernel import programs
from reconciler.kernel.programs import HostTools
from reconciler.kernel.protocol import Mkfs
from reconciler.model.errors import HostError
from reconciler.model.live import ThinEntry
from reconciler.model.units import Bytes

MIB = 1024 * 1024
EXT4 = Mkfs("ext4", "label", Bytes(1024), discard=False)
XFS = Mkfs("xfs", "label", Bytes(4096), discard=False)
MakeLoop = Callable[..., Path]
Mount = Callable[[Path], Path]
SMALL = 320 * MIB  # mkfs.xfs makes none below 300 MiB
LARGE = 480 * MIB


def sh(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def tools() -> HostTools:
    return HostTools()


@pytest.fixture
def mounted(workdir: Path) -> Iterator[Mount]:
    points: list[Path] = []

    def mount(node: Path) -> Path:
        point = workdir / f"on {len(points)}"
        point.mkdir()
        sh("mount", str(node), str(point))
        points.append(point)
        return point

    yield mount
    for point in points:
        sh("umount", str(point))


def grow(workdir: Path, node: Path) -> None:
    os.truncate(workdir / "disk", LARGE)
    sh("losetup", "--set-capacity", str(node))


def size_of(point: Path) -> int:
    facts = os.statvfs(point)
    return facts.f_blocks * facts.f_frsize


@pytest.mark.parametrize("wanted", [EXT4, XFS, Mkfs("xfs", "", Bytes(4096), discard=True)])
def test_filesystems_are_made(tools: HostTools, make_loop: MakeLoop, wanted: Mkfs, mounted: Mount) -> None:
    node = make_loop("disk", SMALL)
    tools.mkfs(str(node), wanted)
    assert tools.filesystem(str(node)) == wanted.type
    assert sh("blkid", "-p", "-o", "value", "-s", "LABEL", str(node)) == wanted.label
    assert os.statvfs(mounted(node)).f_bsize == wanted.block_size


def test_nothing_is_made_over_what_is_there(tools: HostTools, make_loop: MakeLoop) -> None:
    node = make_loop("disk", SMALL)
    tools.mkfs(str(node), XFS)
    for wanted in (EXT4, XFS):
        with pytest.raises(HostError) as refused:
            tools.mkfs(str(node), wanted)
        assert refused.value.errno == errno.EEXIST
    assert tools.filesystem(str(node)) == "xfs"


def test_an_empty_device_has_no_filesystem(tools: HostTools, make_loop: MakeLoop) -> None:
    node = make_loop("disk")
    assert tools.filesystem(str(node)) == ""
    sh("mkswap", "-q", str(node))
    assert tools.filesystem(str(node)) == ""


def test_the_reason_of_a_failure_is_told(tools: HostTools, make_loop: MakeLoop) -> None:
    node = make_loop("disk", 8 * MIB)
    with pytest.raises(HostError, match=r"mkfs\.xfs /dev/loop\d+ failed: size 2048 .* too small"):
        tools.mkfs(str(node), XFS)


@pytest.mark.parametrize("wanted", [EXT4, XFS])
def test_a_mounted_filesystem_grows(
    tools: HostTools, make_loop: MakeLoop, workdir: Path, wanted: Mkfs, mounted: Mount
) -> None:
    node = make_loop("disk", SMALL)
    tools.mkfs(str(node), wanted)
    point = mounted(node)
    before = size_of(point)
    grow(workdir, node)
    tools.grow_filesystem(str(node), str(point))
    assert size_of(point) > before + 100 * MIB
    tools.grow_filesystem(str(node), str(point))  # nothing to do is no failure


@pytest.mark.parametrize("wanted", [EXT4, XFS])
def test_a_closed_filesystem_grows_and_is_closed_again(
    tools: HostTools, make_loop: MakeLoop, workdir: Path, wanted: Mkfs, mounted: Mount
) -> None:
    node = make_loop("disk", SMALL)
    tools.mkfs(str(node), wanted)
    grow(workdir, node)
    tools.grow_filesystem(str(node), None)
    os.close(os.open(node, os.O_RDWR | os.O_EXCL))  # unmounted: it could be claimed
    assert size_of(mounted(node)) > SMALL


@pytest.mark.parametrize("wanted", [EXT4, XFS])
def test_a_filesystem_mounted_in_another_namespace_grows(
    tools: HostTools, make_loop: MakeLoop, workdir: Path, wanted: Mkfs
) -> None:
    node = make_loop("disk", SMALL)
    tools.mkfs(str(node), wanted)
    point = workdir / "private"
    point.mkdir()
    hidden = f"mount {node} {point} && echo ready && read line; df --block-size=1 --output=size {point} | tail -1"
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", hidden],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        grow(workdir, node)
        tools.grow_filesystem(str(node), str(point))
        size, _ = other.communicate("\n")
    assert int(size) > SMALL


def test_a_snapshot_of_a_mounted_xfs_grows_beside_it(
    tools: HostTools, make_loop: MakeLoop, workdir: Path, mounted: Mount
) -> None:
    origin = make_loop("origin", SMALL)
    tools.mkfs(str(origin), XFS)
    sh("cp", "--sparse=always", str(workdir / "origin"), str(workdir / "copy"))
    mounted(origin)
    copy = workdir / "copy"
    os.truncate(copy, LARGE)
    node = sh("losetup", "--find", "--show", str(copy))
    try:
        tools.grow_filesystem(node, None)  # the same UUID as the mounted one
    finally:
        sh("losetup", "--detach", node)


def test_what_cannot_grow_is_told(tools: HostTools, make_loop: MakeLoop) -> None:
    with pytest.raises(HostError) as refused:
        tools.grow_filesystem(str(make_loop("disk")), None)
    assert refused.value.errno == errno.EOPNOTSUPP


def test_discarding_gives_a_pool_its_blocks_back(
    tools: HostTools,
    make_pool: Callable[..., Any],
    make_thin: Callable[..., str],
    dmsetup: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = make_thin(make_pool(thins=(1,)), 1, size=16 * MIB)
    node = f"/dev/mapper/{name}"
    sh("dd", "if=/dev/zero", f"of={node}", "bs=1M", "count=8", "oflag=direct")
    assert dmsetup("status", name).out.split()[3] == str(8 * MIB // 512)
    monkeypatch.setattr(programs, "_DISCARD_AT_ONCE", 1000 * 1024)  # not whole blocks: it must round
    tools.discard(node)
    assert dmsetup("status", name).out.split()[3] == "0"


def test_a_mounted_device_is_not_discarded(tools: HostTools, make_loop: MakeLoop, mounted: Mount) -> None:
    node = make_loop("disk", SMALL)
    tools.mkfs(str(node), EXT4)
    mounted(node)
    with pytest.raises(HostError) as refused:
        tools.discard(str(node))
    assert refused.value.errno == errno.EBUSY


def test_thin_ids_of_a_live_pool_are_read_from_the_held_snapshot(
    tools: HostTools, make_pool: Callable[..., Any], make_thin: Callable[..., str], dmsetup: Callable[..., Any]
) -> None:
    pool = make_pool(thins=(1,))
    dmsetup("message", pool.name, "0", "set_transaction_id 0 7")
    dmsetup("message", pool.name, "0", "create_thin 5")
    sh("dd", "if=/dev/zero", f"of=/dev/mapper/{make_thin(pool, 5)}", "bs=64k", "count=3", "oflag=direct")
    with pytest.raises(HostError, match="no current metadata snap"):
        tools.thin_ls(str(pool.metadata), live=True)
    dmsetup("message", pool.name, "0", "reserve_metadata_snap")
    found = tools.thin_ls(str(pool.metadata), live=True)
    dmsetup("message", pool.name, "0", "release_metadata_snap")
    assert found == {1: ThinEntry(0, 0), 5: ThinEntry(3, 7)}


def test_a_missing_program_names_its_package(
    tools: HostTools, make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch, workdir: Path
) -> None:
    node = make_loop("disk")
    monkeypatch.setattr("reconciler.kernel.programs._ALSO_IN", str(workdir))
    monkeypatch.setenv("PATH", str(workdir))
    with pytest.raises(HostError, match="apt-get install thin-provisioning-tools") as missing:
        tools.thin_check(str(node))
    assert missing.value.errno == errno.ENOENT
