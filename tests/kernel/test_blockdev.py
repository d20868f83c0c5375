"""Signatures, and what lies above and below a device, on a real kernel."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.kernel.host import HostDisks
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError
from reconciler.model.units import Bytes

MIB = 1024 * 1024
MakeLoop = Callable[..., Path]
Dmsetup = Callable[..., object]


def sh(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def partition(path: Path, size: int) -> None:
    """A dos partition table with one Linux partition that begins at 1 MiB."""
    entry = struct.pack("<B3sB3sII", 0, b"", 0x83, b"", MIB // 512, size // 512)
    with path.open("r+b") as disk:
        disk.seek(446)
        disk.write(entry.ljust(64, b"\0") + b"\x55\xaa")


def devno_of(node: str | Path) -> Devno:
    number = Path(node).stat().st_rdev
    return Devno(os.major(number), os.minor(number))


@pytest.fixture
def disks() -> HostDisks:
    return HostDisks()


@pytest.fixture
def mounted(workdir: Path) -> Iterator[Callable[[Path], Path]]:
    """Mounts a node, and unmounts in the end."""
    points: list[Path] = []

    def mount(node: Path) -> Path:
        point = workdir / f"on {len(points)}"  # the space is told as \040 in mountinfo
        point.mkdir()
        sh("mount", str(node), str(point))
        points.append(point)
        return point

    yield mount
    for point in reversed(points):
        sh("umount", str(point))


@pytest.fixture
def linear(prefix: str, dmsetup: Dmsetup) -> Iterator[Callable[[str, Path], Path]]:
    """`linear("a", node)`: a dm device of 4 MiB on the node."""
    made: list[str] = []

    def make(name: str, node: Path, start: int = 0) -> Path:
        dmsetup("create", prefix + name, "--table", f"0 8192 linear {node} {start}")
        made.append(prefix + name)
        return Path("/dev/mapper", prefix + name)

    yield make
    for name in reversed(made):
        dmsetup("remove", "--retry", name)


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (("mkfs.ext4", "-q"), "ext4"),
        (("mkfs.xfs", "-q"), "xfs"),
        (("pvcreate", "-qq", "--devices"), "LVM2_member"),
        (("mkswap", "-q"), "swap"),
    ],
)
def test_signatures_are_found(disks: HostDisks, make_loop: MakeLoop, command: tuple[str, ...], found: str) -> None:
    node = make_loop("disk", 320 * MIB)
    if "--devices" in command:
        command = (*command, str(node))
    sh(*command, str(node))
    assert disks.signature(str(node)) == found


def test_a_partition_table_is_found(disks: HostDisks, make_loop: MakeLoop) -> None:
    node = make_loop("disk", 8 * MIB)
    partition(node, 2 * MIB)
    assert disks.signature(str(node)) == "dos"


def test_all_traces_are_told(disks: HostDisks, make_loop: MakeLoop) -> None:
    node = make_loop("disk", 8 * MIB)
    sh("mkfs.ext4", "-q", str(node))  # begins at 1 KiB: a partition table fits before it
    partition(node, 2 * MIB)
    assert sorted(disks.signature(str(node)).split("+")) == ["dos", "ext4"]


def test_nothing_known_is_nothing(disks: HostDisks, make_loop: MakeLoop, workdir: Path) -> None:
    node = make_loop("disk", 8 * MIB)
    assert disks.signature(str(node)) == ""
    node.write_bytes(b"not known at all" * 4096)
    assert disks.signature(str(node)) == ""
    (workdir / "empty").touch()
    assert disks.signature(str(workdir / "empty")) == ""


def test_files_have_signatures_too(disks: HostDisks, workdir: Path) -> None:
    disks.make_file(str(workdir / "file"), Bytes(8 * MIB), allocate=False)
    sh("mkfs.ext4", "-q", str(workdir / "file"))
    assert disks.signature(str(workdir / "file")) == "ext4"


def test_no_device_no_signature(disks: HostDisks, workdir: Path) -> None:
    with pytest.raises(HostError) as missing:
        disks.signature(str(workdir / "none"))
    assert missing.value.code == "ENOENT"


def test_mounts_are_told(disks: HostDisks, make_loop: MakeLoop, mounted: Callable[[Path], Path]) -> None:
    node = make_loop("disk")
    sh("mkfs.ext4", "-q", str(node))
    assert disks.mounts(devno_of(node)) == []
    point = mounted(node)
    assert disks.mounts(devno_of(node)) == [str(point)]


def test_a_mount_in_another_namespace_is_found_once(disks: HostDisks, make_loop: MakeLoop, workdir: Path) -> None:
    node = make_loop("disk")
    sh("mkfs.ext4", "-q", str(node))
    point = workdir / "private"
    point.mkdir()
    hidden = f"mount {node} {point} && echo ready && {{ sleep 60 & read line; kill %1; }}"
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", hidden],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        time.sleep(0.2)
        (told,) = disks.mounts(devno_of(node))
        other.communicate("end\n")
    assert told.startswith(f"{point} (in the mount namespace of pid ")
    assert disks.mounts(devno_of(node)) == []


def test_swap_is_told(disks: HostDisks, make_loop: MakeLoop) -> None:
    node = make_loop("disk")
    sh("mkswap", "-q", str(node))
    node.chmod(0o600)
    sh("swapon", str(node))
    try:
        assert disks.mounts(devno_of(node)) == ["swap"]
    finally:
        sh("swapoff", str(node))


def test_dm_devices_above_are_told_by_their_names(
    disks: HostDisks, make_loop: MakeLoop, linear: Callable[..., Path]
) -> None:
    node = make_loop("disk")
    names = [linear("b", node).name, linear("a", node, 8192).name]
    assert disks.above(devno_of(node)) == sorted(names)


def test_a_loop_on_the_device_is_above_it(disks: HostDisks, make_loop: MakeLoop) -> None:
    node = make_loop("disk")
    upper = sh("losetup", "--find", "--show", str(node))
    try:
        assert disks.above(devno_of(node)) == [Path(upper).name]
        assert [loop.path for loop in disks.loops_on(str(node))] == [upper]
    finally:
        sh("losetup", "--detach", upper)


def test_a_mounted_partition_is_above_its_disk(
    disks: HostDisks, workdir: Path, mounted: Callable[[Path], Path]
) -> None:
    disks.make_file(str(workdir / "disk"), Bytes(64 * MIB), allocate=False)
    partition(workdir / "disk", 32 * MIB)
    node = sh("losetup", "--find", "--show", "--partscan", str(workdir / "disk"))
    try:
        first = Path(f"{node}p1")
        sh("mkfs.ext4", "-q", str(first))
        assert disks.above(devno_of(node)) == []
        point = mounted(first)
        assert disks.above(devno_of(node)) == [first.name]
        sh("umount", str(point))
        sh("mount", "-t", "tmpfs", "none", str(point))  # something for the fixture to unmount
    finally:
        sh("losetup", "--detach", node)


def test_processes_that_have_it_open_are_told(disks: HostDisks, make_loop: MakeLoop) -> None:
    node = make_loop("disk")
    sh("udevadm", "settle")
    with node.open("rb") as ours:  # which does not count
        with subprocess.Popen(["sleep", "60"], stdin=ours) as sleeper:
            comm = Path(f"/proc/{sleeper.pid}/comm")
            while comm.read_text(encoding="ascii") != "sleep\n":  # its name comes a moment after the exec
                time.sleep(0.001)
            told = disks.processes(devno_of(node))
            sleeper.kill()
        assert told == [f"sleep (pid {sleeper.pid})"]
        assert disks.processes(devno_of(node)) == []


def test_below_goes_through_loops_and_their_filesystems(
    disks: HostDisks, make_loop: MakeLoop, linear: Callable[..., Path], mounted: Callable[[Path], Path]
) -> None:
    bottom = linear("bottom", make_loop("disk"))
    middle = linear("middle", bottom)
    sh("mkfs.ext4", "-q", str(middle))
    point = mounted(middle)
    disks.make_file(str(point / "file"), Bytes(MIB), allocate=False)
    loop = disks.attach(str(point / "file"))
    try:
        assert disks.below(loop.devno) == [devno_of(middle), devno_of(bottom)]
        assert disks.below(devno_of(middle)) == [devno_of(middle), devno_of(bottom)]
    finally:
        sh("udevadm", "settle")  # its rules open the loop for a moment
        disks.detach(loop)


def test_below_goes_through_partitions_and_whole_device_loops(
    disks: HostDisks, make_loop: MakeLoop, linear: Callable[..., Path]
) -> None:
    bottom = linear("bottom", make_loop("disk"))
    partition(bottom, 2 * MIB)
    node = sh("losetup", "--find", "--show", "--partscan", str(bottom))
    try:
        assert disks.below(devno_of(f"{node}p1")) == [devno_of(bottom)]
    finally:
        sh("losetup", "--detach", node)


def test_nothing_of_dm_below_a_plain_loop_or_nowhere(disks: HostDisks, make_loop: MakeLoop) -> None:
    assert disks.below(devno_of(make_loop("disk"))) == []
    assert disks.below(Devno(254, 9999)) == []
