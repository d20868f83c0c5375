"""What a disk or file is known by, whichever path leads there: its marks, as `model.identity` compares them.

Source: /sys, which its driver fills whether or not udev runs; libblkid for a partition's UUID and a filesystem's; and the
loop driver for the file behind a loop. Nothing is opened for writing.

The stable name of a disk whose path may lead to another one after the next boot: `/dev/sdb`, `/dev/nvme1n1`, `/dev/loop0`.

Source: the links that udev makes in /dev/disk, of which those count that come from the disk or its partition table, not
from what is on it; the names of device-mapper; the file behind a loop.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path
from typing import Final

from reconciler.kernel.block import loops
from reconciler.kernel.block.files import filesystem_uuid, partition_uuid
from reconciler.kernel.block.holders import filesystem_device, node_of_device
from reconciler.kernel.block.loops import devno_of, read_attribute, read_devno, sysfs, told_as
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError
from reconciler.model.identity import Marks, is_same

_UNSTABLE: Final = re.compile(
    r"/dev/(?:(?:[shv]|xv|ub)d[a-z]+\d*|(?:nvme\d+n\d+|mmcblk\d+|loop\d+|nbd\d+|md\d+|pmem\d+)(?:p\d+)?|dm-\d+|(?:ram|zram|rbd)\d+)"
)
_FOLDERS: Final = ("by-id", "by-partuuid", "by-path")
"""Folders in /dev/disk, the best first: a path through buses changes when the disk is plugged in elsewhere."""
_OF_CONTENT: Final = ("lvm-pv-uuid-", "dm-uuid-", "dm-name-")
_BEST: Final = ("wwn-", "nvme-eui.", "nvme-uuid.", "nvme-nvme.")
"""Names that the maker of the disk made unique; they come before names of model and serial."""


def is_unstable(path: str) -> bool:
    """Whether the kernel numbers such names in the order in which it finds the disks."""
    return _UNSTABLE.fullmatch(path) is not None


def stable_name(path: str) -> str | None:
    """The stable name to write in a record instead, such as /dev/disk/by-id/...; None if nothing stable leads there."""
    try:
        number = devno_of(os.stat(path).st_rdev)  # noqa: PTH116  # nothing else of it is needed
    except OSError:
        return None
    mapped = read_attribute(sysfs(number) / "dm/name")
    if mapped:
        return f"device: /dev/mapper/{mapped}"
    link = _link_to(os.path.realpath(path))
    if link:
        return f"device: {link}"
    file = loops.backing_file(number)
    return f"file: {file}" if file else None


def stable_path(node: str) -> str:
    """A stable path for a node in /dev if udev has made one; else the node itself."""
    return _link_to(os.path.realpath(node)) or node


def _link_to(node: str) -> str:
    for folder in _FOLDERS:
        links = [link for link in _links(Path("/dev/disk", folder)) if os.path.realpath(link) == node]
        if links:
            return str(min(links, key=_rank))
    return ""


def _rank(link: Path) -> tuple[bool, str]:
    return not link.name.startswith(_BEST), link.name


def _links(folder: Path) -> list[Path]:
    try:
        return [link for link in folder.iterdir() if not link.name.startswith(_OF_CONTENT)]
    except OSError:  # udev does not run, or has made none of these
        return []


_ATTRIBUTES: Final = (
    ("wwn", ("wwid", "device/wwid")),
    ("serial", ("serial", "device/serial", "device/cid", "md/uuid")),
)
"""Attributes in /sys (of nvme and scsi; virtio, mmc and md); the first one with a value counts."""
_LUKS: Final = "CRYPT-LUKS"
_DEEPEST: Final = 8
"""How many mappings without a UUID are followed down."""


def marks(path: str) -> Marks:
    with told_as("look at", path):
        try:
            facts = Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return ()
    if stat.S_ISBLK(facts.st_mode):
        return marks_of_device(devno_of(facts.st_rdev))
    if stat.S_ISREG(facts.st_mode):
        return _of_file(facts.st_dev, facts.st_ino, os.path.realpath(path))
    return ()


def marks_of_device(devno: Devno) -> Marks:
    return tuple(sorted(set(_of_device(devno, depth=0))))


def whereabouts(wanted: Marks) -> str | None:
    for folder in sorted(Path("/sys/class/block").iterdir()):
        devno = read_devno(folder)
        if devno is None:
            continue
        with contextlib.suppress(HostError, OSError):  # a device that does not answer is not the one that is sought
            if is_same(wanted, marks_of_device(devno)):
                return stable_path(node_of_device(devno))
    return None


def _of_device(devno: Devno, depth: int) -> list[str]:
    folder = sysfs(devno)
    if (folder / "partition").exists():
        return _of_partition(devno, folder, depth)
    if (folder / "dm").exists():
        return _of_dm(folder, depth)
    behind = loops.behind(devno)
    if behind is not None:
        return _of_loop(devno, behind, depth)
    return _of_disk(folder)


def _of_disk(folder: Path) -> list[str]:
    found = []
    for kind, names in _ATTRIBUTES:
        told = next((text for name in names if (text := _attribute(folder / name))), "")
        if told:
            found.append(f"{kind}:{told}")
    return found


def _attribute(path: Path) -> str:
    """The value of the attribute; some drivers return an error if a disk has no such value."""
    try:
        return " ".join(read_attribute(path).replace("\0", " ").split())
    except OSError:
        return ""


def _of_partition(devno: Devno, folder: Path, depth: int) -> list[str]:
    found = [f"part:{read_attribute(folder / 'partition')}"]
    uuid = _partition_uuid(devno)
    if uuid:
        found.append(f"partuuid:{uuid}")
    disk = read_devno(folder.resolve().parent)
    return found if disk is None else found + _of_device(disk, depth + 1)


def _partition_uuid(devno: Devno) -> str:
    try:
        return partition_uuid(node_of_device(devno))
    except HostError:
        return ""


def _of_dm(folder: Path, depth: int) -> list[str]:
    """The marks of a dm device: its UUID, which its maker gave it, or else those of what it is on."""
    uuid = read_attribute(folder / "dm/uuid")
    if uuid.startswith(_LUKS):
        uuid = "-".join(uuid.split("-")[:3])  # the rest is the name with which it was opened
    if uuid:
        return [f"dm:{uuid}"]
    if depth > _DEEPEST:
        return []
    lower = (read_devno(slave) for slave in sorted((folder / "slaves").iterdir()))
    return ["offset:mapped", *(mark for devno in lower if devno is not None for mark in _of_device(devno, depth + 1))]


def _of_loop(devno: Devno, behind: loops.Behind, depth: int) -> list[str]:
    found = [f"offset:{behind.offset}"]
    if behind.block_device:
        return found + _of_device(devno_of(behind.block_device), depth + 1)
    return found + list(_of_file(behind.device, behind.inode, loops.backing_file(devno)))


def _of_file(device: int, inode: int, path: str) -> Marks:
    """The marks of a file. Its filesystem is known by the UUID, because device numbers change at a boot."""
    found = {f"file:{_filesystem_uuid(device)}:{inode}"}
    if path:
        found.add(f"path:{path}")
    return tuple(sorted(found))


def _filesystem_uuid(device: int) -> str:
    """The UUID of the filesystem; empty for one that is on no device, such as tmpfs."""
    for devno in filesystem_device(device):
        with contextlib.suppress(HostError):
            return filesystem_uuid(node_of_device(devno))
    return ""
