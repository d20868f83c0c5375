"""Loops on a real kernel: a file is on one loop at most, and what detach and attach say is so."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.kernel.block import loops
from reconciler.kernel.host import HostDisks
from reconciler.model.errors import HostError, VerificationError
from reconciler.model.live import Loop
from reconciler.model.units import Bytes

MIB = 1024 * 1024
Attach = Callable[[Path], Loop]


def sh(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def disks() -> HostDisks:
    return HostDisks()


@pytest.fixture
def attach(disks: HostDisks) -> Iterator[Attach]:
    """Attaches, and frees in the end what is still attached."""
    made: list[Loop] = []

    def call(file: Path) -> Loop:
        made.append(disks.attach(str(file)))
        sh("udevadm", "settle")  # its rules open the loop for a moment, which would make detaching Busy
        return made[-1]

    yield call
    for loop in made:
        subprocess.run(["losetup", "--detach", loop.path], check=False, capture_output=True)


@pytest.fixture
def file(workdir: Path) -> Path:
    path = workdir / "disk"
    path.touch()
    os.truncate(path, 8 * MIB)
    return path


def test_attaching_a_file_gives_a_loop_that_shows_it(disks: HostDisks, file: Path, attach: Attach) -> None:
    loop = attach(file)
    assert loop.size == 8 * MIB
    assert sh("losetup", "--noheadings", "--output", "BACK-FILE", loop.path) == str(file)
    assert disks.loops_on(str(file)) == [loop]
    assert loop in loops.loops()


def test_a_file_that_is_on_a_loop_is_not_attached_again(disks: HostDisks, file: Path, attach: Attach) -> None:
    attach(file)
    with pytest.raises(HostError) as refused:
        disks.attach(str(file))
    assert refused.value.errno == errno.EBUSY
    assert len(disks.loops_on(str(file))) == 1


def test_another_name_of_the_file_is_the_same_file(disks: HostDisks, file: Path, attach: Attach) -> None:
    loop = attach(file)
    other = file.with_name("other")
    other.hardlink_to(file)
    file.unlink()  # /sys calls it deleted now, and it is not
    assert [found.path for found in disks.loops_on(str(other))] == [loop.path]
    with pytest.raises(HostError):
        disks.attach(str(other))


def test_a_file_of_another_filesystem_with_the_same_inode_number_is_another_file(
    disks: HostDisks, workdir: Path, attach: Attach
) -> None:
    files = []
    for folder in (workdir / "one", workdir / "two"):
        folder.mkdir()
        sh("mount", "-t", "tmpfs", "none", str(folder))  # each counts its inodes anew
        files.append(folder / "disk")
        files[-1].touch()
        os.truncate(files[-1], 8 * MIB)
    try:
        assert files[0].stat().st_ino == files[1].stat().st_ino
        loop = attach(files[0])
        assert disks.loops_on(str(files[1])) == []
        disks.detach(loop)
    finally:
        for file in files:
            sh("umount", "--lazy", str(file.parent))


def test_two_who_attach_at_a_time_do_not_both_succeed(disks: HostDisks, file: Path) -> None:
    with file.open("rb") as rival:
        fcntl.flock(rival, fcntl.LOCK_EX)
        with pytest.raises(HostError) as refused:
            disks.attach(str(file))
    assert refused.value.errno == errno.EBUSY
    assert disks.loops_on(str(file)) == []


def test_the_lock_does_not_outlive_the_attaching(file: Path, attach: Attach) -> None:
    attach(file)
    with file.open("rb") as rival:
        fcntl.flock(rival, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_rival_that_comes_in_between_is_noticed_and_keeps_its_loop(
    disks: HostDisks, file: Path, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure = loops._configure_a_free_one

    def with_rival(opened: int, path: str) -> Loop:
        sh("losetup", "--find", str(file))
        return configure(opened, path)

    monkeypatch.setattr(loops, "_configure_a_free_one", with_rival)
    with pytest.raises(HostError) as refused:
        attach(file)
    assert refused.value.errno == errno.EBUSY
    sh("udevadm", "settle")  # what its rules have open goes at their last close
    (rival,) = disks.loops_on(str(file))
    sh("losetup", "--detach", rival.path)


def test_a_loop_that_somebody_snatches_is_left_for_the_next(
    file: Path, workdir: Path, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    snatched: list[str] = []
    configure = loops._configure
    other = workdir / "other"
    other.touch()
    os.truncate(other, MIB)

    def late(node: str, opened: int, name: bytes) -> bool:
        if not snatched:
            snatched.append(node)
            sh("losetup", node, str(other))
        return configure(node, opened, name)

    monkeypatch.setattr(loops, "_configure", late)
    loop = attach(file)
    assert snatched
    assert loop.path not in snatched
    sh("losetup", "--detach", *snatched)


def test_the_loop_of_a_deleted_file_is_not_the_loop_of_its_successor(
    disks: HostDisks, file: Path, attach: Attach
) -> None:
    old = attach(file)
    file.unlink()
    file.touch()
    os.truncate(file, 4 * MIB)
    assert disks.loops_on(str(file)) == []
    assert [loop.deleted for loop in loops.loops() if loop.path == old.path] == [True]
    new = attach(file)
    assert (new.path != old.path, new.size) == (True, 4 * MIB)


def test_more_loops_than_nodes_are_made_as_needed(workdir: Path, attach: Attach) -> None:
    for number in range(10):  # the kernel begins with eight
        path = workdir / f"disk{number}"
        path.touch()
        os.truncate(path, MIB)
        attach(path)
    assert len(loops.loops()) >= 10


def test_a_missing_node_is_made(disks: HostDisks, file: Path, attach: Attach) -> None:
    loop = attach(file)
    disks.detach(loop)
    Path(loop.path).unlink()  # as in a container whose /dev is no devtmpfs; the kernel gives the lowest free loop
    assert attach(file).path == loop.path
    assert Path(loop.path).is_block_device()


def test_a_loop_has_direct_io_where_its_file_has_it(file: Path, attach: Attach) -> None:
    """On tmpfs from some kernel after 6.1 on."""
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_DIRECT))
        expected = "1"
    except OSError:
        expected = "0"
    loop = attach(file)
    assert sh("losetup", "--noheadings", "--output", "DIO", loop.path) == expected


def test_a_kernel_that_refuses_direct_io_is_asked_without(
    file: Path, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure = loops._configure_with

    def strict(device: int, opened: int, name: bytes, flags: int) -> None:
        if flags:
            raise OSError(errno.EINVAL, "no direct I/O")
        configure(device, opened, name, flags)

    monkeypatch.setattr(loops, "_configure_with", strict)
    assert attach(file).size == 8 * MIB


def test_ext4_has_direct_io_and_it_is_used(disks: HostDisks, file: Path, workdir: Path, attach: Attach) -> None:
    outer = attach(file)
    sh("mkfs.ext4", "-q", outer.path)
    point = workdir / "point"
    point.mkdir()
    sh("mount", outer.path, str(point))
    try:
        disks.make_file(str(point / "inner"), Bytes(MIB), allocate=False)
        inner = attach(point / "inner")
        assert sh("losetup", "--noheadings", "--output", "DIO", inner.path) == "1"
        disks.detach(inner)
    finally:
        sh("umount", str(point))


def test_a_grown_file_is_seen_after_resizing(disks: HostDisks, file: Path, attach: Attach) -> None:
    loop = attach(file)
    os.truncate(file, 16 * MIB)
    assert disks.loops_on(str(file))[0].size == 8 * MIB
    disks.resize_loop(loop)
    assert disks.loops_on(str(file))[0].size == 16 * MIB


def test_an_offset_is_told(disks: HostDisks, file: Path) -> None:
    node = sh("losetup", "--find", "--show", "--offset", "4096", str(file))
    (loop,) = disks.loops_on(str(file))
    sh("losetup", "--detach", node)
    assert loop.offset == 4096


def test_detached_means_gone(disks: HostDisks, file: Path, attach: Attach) -> None:
    loop = attach(file)
    disks.detach(loop)
    assert disks.loops_on(str(file)) == []
    with pytest.raises(HostError) as again:
        disks.detach(loop)
    assert again.value.errno == errno.ENXIO


def test_a_loop_that_only_goes_at_its_last_close_is_no_success(disks: HostDisks, file: Path, attach: Attach) -> None:
    loop = attach(file)
    with Path(loop.path).open("rb"):
        with pytest.raises(VerificationError) as refused:
            disks.detach(loop)
        assert refused.value.errno == errno.EBUSY
        assert len(disks.loops_on(str(file))) == 1
    sh("udevadm", "settle")  # udev may have it open for a moment, too
    assert disks.loops_on(str(file)) == []


def test_a_claimed_loop_is_not_even_marked_to_go(
    disks: HostDisks, file: Path, attach: Attach, prefix: str, dmsetup: Callable[..., object]
) -> None:
    loop = attach(file)
    dmsetup("create", f"{prefix}lin", "--table", f"0 2048 linear {loop.path} 0")
    with pytest.raises(HostError) as refused:
        disks.detach(loop)
    assert refused.value.errno == errno.EBUSY
    assert not isinstance(refused.value, VerificationError)
    dmsetup("remove", "--retry", f"{prefix}lin")
    assert sh("losetup", "--noheadings", "--output", "AUTOCLEAR", loop.path) == "0"


def test_no_file_no_loop(disks: HostDisks, workdir: Path) -> None:
    with pytest.raises(HostError) as missing:
        disks.attach(str(workdir / "none"))
    assert missing.value.errno == errno.ENOENT
