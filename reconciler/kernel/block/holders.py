"""What is above and below a block device, and who has it open. Source: /sys and /proc, which open no device.

A loop is opened only to ask which filesystem its file is on, and a device only to clear its read-only flag.

Mounts and swap are read in every mount namespace of the host, because a device that is mounted in a container is in use
though our own mount table does not show it. Each namespace is read once, through any process in it. A namespace without
processes, which only an open file keeps, cannot be seen.

Writers are also found beside the block layer: a file may be open for writing, or be on another loop. The kernel lets
programs write to a file while a loop shows it, and to a block device while a table is on it.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.kernel.block import loops
from reconciler.kernel.block.loops import devno_of, name_of, opened, read_attribute, read_devno, sysfs, told_as
from reconciler.model.dm_tables import Devno, parse_devno
from reconciler.model.units import SECTOR, Bytes, whole_number

_BLANKS: Final = re.compile(rb"[ \t]+")
_ESCAPE: Final = re.compile(rb"\\([0-3][0-7]{2})")
GONE: Final = (FileNotFoundError, ProcessLookupError)
"""The errors for a process that ends while /proc is read."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo (proc(5))."""

    devno: Devno
    """The st_dev of the files on the mount: the block device, or an anonymous number (btrfs, overlay, tmpfs)."""
    point: str
    source: str


def mounts_of(devno: Devno) -> list[str]:
    own = _points(read_mountinfo("self"), devno)
    elsewhere: dict[str, int] = {}
    for pid in _one_process_a_namespace():
        for point in _points(_mountinfo_if_there(pid), devno):
            if point not in own:
                elsewhere.setdefault(point, pid)
    told = [f"{point} (in the mount namespace of pid {pid})" for point, pid in elsewhere.items()]
    return [*own, *told, *(["swap"] if is_swap(devno) else [])]


def mounted_here(devno: Devno) -> list[str]:
    """The mount points of the device in our own namespace."""
    return _points(read_mountinfo("self"), devno)


def read_mountinfo(process: str) -> list[Mount]:
    return parse_mountinfo(Path("/proc", process, "mountinfo").read_bytes())


def parse_mountinfo(text: bytes) -> list[Mount]:
    """Parses mountinfo. Lines end with a newline only: the kernel leaves a carriage return in a name as it is."""
    return [mount for line in text.split(b"\n") if (mount := parse(line))]


def parse(line: bytes) -> Mount | None:
    """Parses one line; None if it has an unknown form."""
    before, separator, after = line.partition(b" - ")
    words, rest = before.split(b" "), after.split(b" ")
    if not separator or len(words) < 6 or len(rest) < 2:
        return None
    devno = parse_devno(words[2].decode(errors="replace"))
    return None if devno is None else Mount(devno, unescape(words[4]), unescape(rest[1]))


def unescape(word: bytes) -> str:
    r"""Undoes the escapes of the kernel, which writes space, tab, newline and backslash as \040 and so on."""
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), word))


def is_swap(devno: Devno) -> bool:
    return devno in swap_devices()


def swap_devices() -> list[Devno]:
    """The block devices with swap. A swap file counts as the device that its path is on."""
    paths = parse_swaps(Path("/proc/swaps").read_bytes())
    return [devno for path in paths if (devno := _rdev(path)) is not None]


def parse_swaps(text: bytes) -> list[str]:
    """The first column, without the line of headings."""
    columns = (_BLANKS.split(line, maxsplit=1)[0] for line in text.split(b"\n")[1:])
    return [unescape(path) for path in columns if path]


def _points(table: list[Mount], devno: Devno) -> list[str]:
    return list(dict.fromkeys(mount.point for mount in table if _is_on(mount, devno)))


def _is_on(mount: Mount, devno: Devno) -> bool:
    if mount.devno == devno:
        return True
    # Filesystems over several devices (btrfs) have an anonymous number, and name one of their devices as the source.
    return mount.devno.major == 0 and mount.source.startswith("/dev/") and _rdev(mount.source) == devno


def _rdev(path: str) -> Devno | None:
    try:
        return devno_of(Path(path).stat().st_rdev)
    except OSError:  # the path belongs to another namespace or was deleted, so it cannot be found from here
        return None


def _one_process_a_namespace() -> Iterator[int]:
    """Yields the id of one process in each mount namespace except our own."""
    seen = {_namespace("self")}
    for pid in all_processes():
        namespace = _namespace(str(pid))
        if namespace and namespace not in seen:
            seen.add(namespace)
            yield pid


def _namespace(process: str) -> str:
    try:
        return str(Path(f"/proc/{process}/ns/mnt").readlink())
    except (*GONE, PermissionError):  # not allowed; another process of the same namespace may be visible
        return ""


def _mountinfo_if_there(pid: int) -> list[Mount]:
    try:
        return read_mountinfo(str(pid))
    except (*GONE, OSError):  # EINVAL means that the process is ending and has no namespace any more
        return []


def all_processes() -> Iterator[int]:
    """The ids of all processes, without threads."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            yield int(entry.name)


_BLKROSET: Final = 0x125D
"""_IO(0x12, 93) in include/uapi/linux/fs.h, which takes a pointer to an int."""


def devices_above(devno: Devno) -> list[str]:
    names = _directly_above(devno)
    for partition in _partitions(devno):
        names += _directly_above(partition)
        if mounts_of(partition):
            names.append(name_of(partition))
    return sorted(set(names))


def node_of_device(devno: Devno) -> str:
    """The path in /dev: /dev/mapper/NAME of a dm device, /dev/NAME of any other. udev's /dev/block may be missing."""
    folder = "/dev/mapper" if (sysfs(devno) / "dm").exists() else "/dev"
    return f"{folder}/{name_of(devno)}"


def is_read_only(devno: Devno) -> bool:
    return read_attribute(sysfs(devno) / "ro") == "1"


def sector_size(devno: Devno) -> int:
    folder = sysfs(devno)
    if (folder / "partition").exists():
        folder = folder.resolve().parent
    return whole_number(read_attribute(folder / "queue/logical_block_size")) or SECTOR


def set_writable(devno: Devno) -> None:
    path = node_of_device(devno)
    with told_as("make writable", path), opened(path, os.O_RDONLY) as device:
        fcntl.ioctl(device, _BLKROSET, bytes(4))


def processes_using(devno: Devno) -> list[str]:
    told = ((pid, _use(pid, devno)) for pid in all_processes() if pid != os.getpid())
    users = [f"{command_of_process(pid)} (pid {pid}){use}" for pid, use in told if use is not None]
    return users + [f"{Path(loop.path).name}, whose file is on it" for loop in loops.loops_in_filesystem(devno)]


def devices_below(devno: Devno) -> list[Devno]:
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
    """The block devices of the filesystem whose files have this st_dev: the device itself, or the source of the mount
    with an anonymous number (one of the devices for btrfs, none for overlay and tmpfs).
    """
    devno = devno_of(device)
    if devno.major != 0:
        return [devno]
    sources = {mount.source for mount in read_mountinfo("self") if mount.devno == devno and mount.source[:1] == "/"}
    return [found for source in sorted(sources) if (found := _block_device(source)) is not None]


def devices_under(paths: Sequence[str]) -> frozenset[Devno]:
    """The dm devices under the filesystems of these paths, and those with swap."""
    found = {lower for path in paths for devno in filesystem_device(_device_of(path)) for lower in devices_below(devno)}
    return frozenset(found | {lower for devno in swap_devices() for lower in devices_below(devno)})


def _device_of(path: str) -> int:
    """The st_dev of the path, or of the nearest existing folder above it, where the path would be made."""
    folders = (Path(path), *Path(path).parents)
    return next(folder for folder in folders if folder.exists()).stat().st_dev


def _directly_above(devno: Devno) -> list[str]:
    holders = sysfs(devno) / "holders"
    names = [read_attribute(holder / "dm/name") or holder.name for holder in _entries(holders)]
    # A loop on a whole block device is not listed as a holder in /sys.
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
    """How a process uses the device, to end a sentence: empty if it has the node open, None if it does not use it."""
    number = os.makedev(devno.major, devno.minor)
    has_file = False
    for link in (*descriptors_of(pid), *_others(pid)):
        try:
            # Only paths are of interest: a stat of a socket or a pipe costs time and yields nothing.
            if not str(link.readlink()).startswith("/"):
                continue
            facts = link.stat()
        except OSError:  # closed or ended meanwhile, or on a filesystem that refuses root (FUSE)
            continue
        if stat.S_ISBLK(facts.st_mode) and facts.st_rdev == number:
            return ""
        has_file |= facts.st_dev == number
    return ", with a file on it open" if has_file or _has_mapped(pid, devno) else None


def descriptors_of(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/fd").iterdir())
    except (*GONE, PermissionError):  # the process has ended or is hidden from us, so it cannot be named
        return []


def _others(pid: int) -> tuple[Path, ...]:
    """The working directory, the root and the program of a process."""
    folder = Path(f"/proc/{pid}")
    return folder / "cwd", folder / "root", folder / "exe"


def _has_mapped(pid: int, devno: Devno) -> bool:
    """Whether the process has mapped a file on the device (proc(5), maps: the device as %02x:%02x)."""
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
    except OSError:  # the path belongs to another namespace, so it cannot be found from here
        return None
    return devno_of(facts.st_rdev) if stat.S_ISBLK(facts.st_mode) else None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


_WRITES: Final = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True, slots=True)
class _Thing:
    """A file, by device and inode, or a block device, by its number."""

    device: int
    inode: int
    block_device: int


def file_behind(devno: Devno) -> tuple[str, Bytes] | None:
    seen = loops.behind(devno)
    path = loops.backing_file(devno) if seen is not None else ""
    if seen is None or seen.block_device or not path:
        return None
    try:
        facts = os.stat(path)  # noqa: PTH116  # for its device and inode at once
    except OSError:  # the path belongs to another mount namespace, or the file was deleted
        return None
    if (facts.st_dev, facts.st_ino) != (seen.device, seen.inode):
        return None
    return path, Bytes(facts.st_size)


def writers_of(path: str) -> list[str]:
    with told_as("look at", path):
        facts = Path(path).stat()
    things = {_thing(facts)}
    if stat.S_ISBLK(facts.st_mode):
        seen = loops.behind(devno_of(facts.st_rdev))
        if seen is not None:
            things.add(_Thing(0, 0, seen.block_device) if seen.block_device else _Thing(seen.device, seen.inode, 0))
    others = (pid for pid in all_processes() if pid != os.getpid())
    return [
        f"{command_of_process(pid)} (pid {pid})"
        for pid in others
        if any(_writes(link, things) for link in descriptors_of(pid))
    ]


def _thing(facts: os.stat_result) -> _Thing:
    if stat.S_ISBLK(facts.st_mode):
        return _Thing(0, 0, facts.st_rdev)
    return _Thing(facts.st_dev, facts.st_ino, 0)


def _writes(link: Path, things: set[_Thing]) -> bool:
    try:
        # Only paths are of interest: a stat of a socket or a pipe costs time and yields nothing.
        if not str(link.readlink()).startswith("/") or _thing(link.stat()) not in things:
            return False
        told = (link.parent.parent / "fdinfo" / link.name).read_text(encoding="ascii")
    except OSError:  # closed or ended meanwhile, or on a filesystem that refuses root (FUSE)
        return False
    flags = next((line.split()[1] for line in told.splitlines() if line.startswith("flags:")), "0")
    return bool(int(flags, 8) & _WRITES)
