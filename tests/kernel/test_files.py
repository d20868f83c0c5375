"""Files and first bytes, on a real kernel: tmpfs for room that ends, loops for block devices."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.kernel.host import HostDisks
from reconciler.model.errors import HostError
from reconciler.model.live import PathKind
from reconciler.model.units import Bytes

MIB = 1024 * 1024
MakeLoop = Callable[..., Path]


def sh(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def disks() -> HostDisks:
    return HostDisks()


def test_kinds_are_told_apart(disks: HostDisks, workdir: Path, make_loop: MakeLoop) -> None:
    node = make_loop("disk", 8 * MIB)
    link = workdir / "link"
    link.symlink_to(node)
    number = node.stat().st_rdev
    kind, size, devno = disks.kind(str(link))
    assert (kind, size) == (PathKind.BLOCK, 8 * MIB)
    assert str(devno) == f"{os.major(number)}:{os.minor(number)}"
    assert disks.kind(str(workdir / "disk")) == (PathKind.FILE, 8 * MIB, None)
    assert disks.kind(str(workdir / "none/at/all"))[0] == PathKind.MISSING
    assert disks.kind(str(workdir / "disk/below"))[0] == PathKind.MISSING
    assert disks.kind(str(workdir))[0] == PathKind.OTHER


def test_a_sparse_file_takes_no_room(disks: HostDisks, workdir: Path) -> None:
    path = str(workdir / "sparse")
    before = disks.file_facts(path)[1]
    disks.make_file(path, Bytes(64 * MIB), allocate=False)
    assert disks.kind(path)[1] == 64 * MIB
    assert disks.file_facts(path) == (0, before)
    assert Path(path).stat().st_mode & 0o777 == 0o600


def test_an_allocated_file_has_its_room(disks: HostDisks, workdir: Path) -> None:
    path = str(workdir / "full")
    disks.make_file(path, Bytes(16 * MIB), allocate=True)
    assert disks.file_facts(path)[0] == 16 * MIB


@pytest.mark.security("S44")
def test_the_umask_does_not_count(disks: HostDisks, workdir: Path) -> None:
    before = os.umask(0o777)
    try:
        disks.make_file(str(workdir / "file"), Bytes(512), allocate=False)
    finally:
        os.umask(before)
    assert (workdir / "file").stat().st_mode & 0o777 == 0o600


def test_no_room_leaves_no_file(disks: HostDisks, workdir: Path) -> None:
    path = workdir / "huge"
    with pytest.raises(HostError) as full:
        disks.make_file(str(path), Bytes(4096 * MIB), allocate=True)
    assert full.value.errno == errno.ENOSPC
    assert not path.exists()


def test_what_is_there_is_never_overwritten(disks: HostDisks, workdir: Path) -> None:
    path = workdir / "kept"
    path.write_text("mine")
    dangling = workdir / "dangling"
    dangling.symlink_to(workdir / "elsewhere")
    for there in (path, dangling):
        with pytest.raises(HostError) as refused:
            disks.make_file(str(there), Bytes(MIB), allocate=False)
        assert refused.value.errno == errno.EEXIST
    assert path.read_text() == "mine"
    assert not (workdir / "elsewhere").exists()


def test_growing_never_shrinks(disks: HostDisks, workdir: Path) -> None:
    path = str(workdir / "file")
    disks.make_file(path, Bytes(4 * MIB), allocate=False)
    disks.grow_file(path, Bytes(MIB), allocate=False)
    assert disks.kind(path)[1] == 4 * MIB
    disks.grow_file(path, Bytes(8 * MIB), allocate=True)
    assert disks.kind(path)[1] == 8 * MIB
    assert disks.file_facts(path)[0] == 4 * MIB, "only what is new is allocated"


def test_growing_makes_no_file(disks: HostDisks, workdir: Path) -> None:
    with pytest.raises(HostError) as missing:
        disks.grow_file(str(workdir / "none"), Bytes(MIB), allocate=False)
    assert missing.value.errno == errno.ENOENT
    assert list(workdir.iterdir()) == []


def test_deleting_twice_is_fine(disks: HostDisks, workdir: Path) -> None:
    path = workdir / "file"
    path.touch()
    disks.delete_file(str(path))
    disks.delete_file(str(path))
    disks.delete_file(str(workdir / "no folder" / "file"))
    assert not path.exists()


def test_reading_past_the_page_cache_sees_what_the_disk_has(
    disks: HostDisks, workdir: Path, make_loop: MakeLoop
) -> None:
    node = make_loop("disk", MIB)
    with node.open("rb") as cached:
        assert cached.read(4096) == bytes(4096)
        with (workdir / "disk").open("r+b") as behind:  # past the loop: its page cache still has the zeros
            behind.write(b"new" * 100)
        assert disks.read(str(node), 300) == b"new" * 100


def test_reading_falls_back_where_there_is_no_direct_io(disks: HostDisks, workdir: Path) -> None:
    (workdir / "file").write_bytes(b"0123456789")  # tmpfs
    assert disks.read(str(workdir / "file"), 4) == b"0123"
    assert disks.read(str(workdir / "file"), 4096) == b"0123456789"


def test_zeroing_stops_where_it_should(disks: HostDisks, workdir: Path) -> None:
    path = workdir / "file"
    path.write_bytes(b"x" * 10000)
    disks.zero(str(path), 4096)
    assert path.read_bytes() == bytes(4096) + b"x" * 5904
    disks.zero(str(path), 20000)
    assert path.read_bytes() == bytes(10000)


def test_a_claimed_device_is_not_zeroed(
    disks: HostDisks, make_loop: MakeLoop, prefix: str, dmsetup: Callable[..., object]
) -> None:
    node = make_loop("disk", MIB)
    node.write_bytes(b"x" * 4096)
    dmsetup("create", f"{prefix}lin", "--table", f"0 2048 linear {node} 0")
    with pytest.raises(HostError) as refused:
        disks.zero(str(node), 4096)
    assert refused.value.errno == errno.EBUSY
    dmsetup("remove", "--retry", f"{prefix}lin")
    disks.zero(str(node), 4096)
    assert disks.read(str(node), 4096) == bytes(4096)
