"""What lies above and below a block device, and who has it open. Source: /sys and /proc, which open no device.

Only for a loop below something is the loop opened, to ask which filesystem its file is on; and a device whose read-only
flag is cleared.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from reconciler.kernel.block import loops
from reconciler.kernel.block.hostcalls import devno_of, name_of, opened, read_attribute, read_devno, sysfs, told_as
from reconciler.kernel.block.mounts import GONE, all_processes, mounts_of, read_mountinfo, swap_devices
from reconciler.model.dm_tables import Devno
from reconciler.model.units import SECTOR, whole_number

_BLKROSET: Final = 0x125D
"""_IO(0x12, 93), include/uapi/linux/fs.h: takes a pointer to an int."""


def devices_above(devno: Devno) -> list[str]:
    """Names of the devices that lie on it or on its partitions, and of partitions that are mounted. dm devices by their
    dm name, all others by the kernel's.
    """
    names = _directly_above(devno)
    for partition in _partitions(devno):
        names += _directly_above(partition)
        if mounts_of(partition):
            names.append(name_of(partition))
    return sorted(set(names))


def node_of_device(devno: Devno) -> str:
    """The path in /dev: /dev/mapper/NAME of a dm device, /dev/NAME of any other. udev's /dev/block is not always there."""
    folder = "/dev/mapper" if (sysfs(devno) / "dm").exists() else "/dev"
    return f"{folder}/{name_of(devno)}"


def is_read_only(devno: Devno) -> bool:
    """Whether the kernel refuses writes to it: its own flag, or its disk's."""
    return read_attribute(sysfs(devno) / "ro") == "1"


def sector_size(devno: Devno) -> int:
    """Bytes of its logical block; a partition has its disk's."""
    folder = sysfs(devno)
    if (folder / "partition").exists():
        folder = folder.resolve().parent
    return whole_number(read_attribute(folder / "queue/logical_block_size")) or SECTOR


def set_writable(devno: Devno) -> None:
    """Clear the flag that `blockdev --setro` sets. One that comes from a dm table is another, and stays."""
    path = node_of_device(devno)
    with told_as("make writable", path), opened(path, os.O_RDONLY) as device:
        fcntl.ioctl(device, _BLKROSET, bytes(4))


def processes_using(devno: Devno) -> list[str]:
    """`dd (pid 412)` for each process, but this one, that has a node of the device open; `bash (pid 77), with a file on
    it open` for one that keeps its filesystem mounted (`umount --lazy` takes away only the mount point); and `loop7,
    whose file is on it`.
    """
    told = ((pid, _use(pid, devno)) for pid in all_processes() if pid != os.getpid())
    users = [f"{command_of_process(pid)} (pid {pid}){use}" for pid, use in told if use is not None]
    return users + [f"{Path(loop.path).name}, whose file is on it" for loop in loops.loops_in_filesystem(devno)]


def devices_below(devno: Devno) -> list[Devno]:
    """The dm devices under it, nearest first; itself first if it is one. Through partitions, and through loops to what
    their files lie on.
    """
    found: list[Devno] = []
    seen = {devno}
    waiting = deque([devno])
    while waiting:
        here = waiting.popleft()
        if (sysfs(here) / "dm").exists():
            found.append(here)
        for lower in _directly_below(here):
            if lower not in seen:
                seen.add(lower)
                waiting.append(lower)
    return found


def filesystem_device(device: int) -> list[Devno]:
    """The block devices of the filesystem whose files have this st_dev: itself, or what an anonymous number is mounted
    from (btrfs names one of its devices; overlay and tmpfs none).
    """
    devno = devno_of(device)
    if devno.major != 0:
        return [devno]
    sources = {mount.source for mount in read_mountinfo("self") if mount.devno == devno and mount.source[:1] == "/"}
    return [found for source in sorted(sources) if (found := _block_device(source)) is not None]


def devices_under(paths: Sequence[str]) -> frozenset[Devno]:
    """The dm devices under the filesystems of these paths, and those that are swapped to."""
    found = {lower for path in paths for devno in filesystem_device(_device_of(path)) for lower in devices_below(devno)}
    return frozenset(found | {lower for devno in swap_devices() for lower in devices_below(devno)})


def _device_of(path: str) -> int:
    """st_dev of the path, or of the nearest folder above it that exists: where it would be made."""
    folders = (Path(path), *Path(path).parents)
    return next(folder for folder in folders if folder.exists()).stat().st_dev


def _directly_above(devno: Devno) -> list[str]:
    holders = sysfs(devno) / "holders"
    names = [read_attribute(holder / "dm/name") or holder.name for holder in _entries(holders)]
    # A loop on a whole block device is no holder in /sys.
    return names + [Path(loop.path).name for loop in loops.loops_on_device(devno)]


def _partitions(devno: Devno) -> list[Devno]:
    folder = sysfs(devno)
    return [part for file in folder.glob("*/partition") if (part := read_devno(file.parent)) is not None]


def _directly_below(devno: Devno) -> list[Devno]:
    folder = sysfs(devno)
    if (folder / "partition").exists():
        disk = read_devno(folder.resolve().parent)
        return [] if disk is None else [disk]
    slaves = [slave for entry in _entries(folder / "slaves") if (slave := read_devno(entry)) is not None]
    return slaves + _behind_loop(devno)


def _behind_loop(devno: Devno) -> list[Devno]:
    seen = loops.behind(devno)
    if seen is None:
        return []
    if seen.block_device:
        return [devno_of(seen.block_device)]
    return filesystem_device(seen.device)


def _use(pid: int, devno: Devno) -> str | None:
    """How a process uses the device, as the end of a sentence: empty for its node. None where it does not."""
    number = os.makedev(devno.major, devno.minor)
    has_file = False
    for link in (*descriptors_of(pid), *_others(pid)):
        try:
            # Only what looks like a path: stat of a socket or pipe costs, and tells nothing.
            if not str(link.readlink()).startswith("/"):
                continue
            facts = link.stat()
        except OSError:  # closed or ended meanwhile, or on a filesystem that does not answer root (FUSE)
            continue
        if stat.S_ISBLK(facts.st_mode) and facts.st_rdev == number:
            return ""
        has_file |= facts.st_dev == number
    return ", with a file on it open" if has_file or _has_mapped(pid, devno) else None


def descriptors_of(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/fd").iterdir())
    except (*GONE, PermissionError):  # ended, or hidden from us: then it cannot be named
        return []


def _others(pid: int) -> tuple[Path, ...]:
    """What it works in, and runs."""
    folder = Path(f"/proc/{pid}")
    return folder / "cwd", folder / "root", folder / "exe"


def _has_mapped(pid: int, devno: Devno) -> bool:
    """Whether a file on the device is in its memory (proc(5), maps: the device as %02x:%02x)."""
    mark = f" {devno.major:02x}:{devno.minor:02x} "
    try:
        return mark in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except (*GONE, PermissionError):
        return False


def command_of_process(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except GONE:
        return "ended"


def _block_device(path: str) -> Devno | None:
    try:
        facts = Path(path).stat()
    except OSError:  # a path of another namespace: not to be found from here
        return None
    return devno_of(facts.st_rdev) if stat.S_ISBLK(facts.st_mode) else None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
