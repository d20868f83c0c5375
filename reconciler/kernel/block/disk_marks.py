"""What a disk or file is known by, whichever path leads there: its marks, as `model.identity` compares them.

Source: /sys, which its driver fills whether or not udev runs; libblkid for a partition's UUID and a filesystem's; and the
loop driver for the file behind a loop. Nothing is opened for writing.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from reconciler.kernel.block import loops
from reconciler.kernel.block.blkid import filesystem_uuid, partition_uuid
from reconciler.kernel.block.holders import filesystem_device, node_of_device
from reconciler.kernel.block.hostcalls import devno_of, read_attribute, read_devno, sysfs, told_as
from reconciler.kernel.block.stable_names import stable_path
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostFault
from reconciler.model.identity import Marks, is_same

_ATTRIBUTES: Final = (
    ("wwn", ("wwid", "device/wwid")),
    ("serial", ("serial", "device/serial", "device/cid", "md/uuid")),
)
"""nvme and scsi; virtio, mmc, md: the first that says something."""
_LUKS: Final = "CRYPT-LUKS"
_DEEPEST: Final = 8
"""Mappings on mappings without a UUID."""


def marks(path: str) -> Marks:
    """Of the block device or file at the path; links are followed. Empty where there is nothing to know it by."""
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


def whereabouts(wanted: Marks) -> str:
    """The path of the block device that has these marks now; empty where there is none."""
    for folder in sorted(Path("/sys/class/block").iterdir()):
        devno = read_devno(folder)
        if devno is None:
            continue
        with contextlib.suppress(HostFault, OSError):  # one that does not answer is not the one that is looked for
            if is_same(wanted, marks_of_device(devno)):
                return stable_path(node_of_device(devno))
    return ""


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
    """Some drivers answer with an error where a disk has no such thing."""
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
    except HostFault:
        return ""


def _of_dm(folder: Path, depth: int) -> list[str]:
    """By its UUID, which its maker gave it; without one, by what it lies on."""
    uuid = read_attribute(folder / "dm/uuid")
    if uuid.startswith(_LUKS):
        uuid = "-".join(uuid.split("-")[:3])  # the rest is the name under which it was opened
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
    """The filesystem is known by its UUID: its device's number changes at a boot."""
    found = {f"file:{_filesystem_uuid(device)}:{inode}"}
    if path:
        found.add(f"path:{path}")
    return tuple(sorted(found))


def _filesystem_uuid(device: int) -> str:
    """Empty for one that lies on no device, such as tmpfs."""
    for devno in filesystem_device(device):
        with contextlib.suppress(HostFault):
            return filesystem_uuid(node_of_device(devno))
    return ""
