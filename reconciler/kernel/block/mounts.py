"""Mounts and swap, in every mount namespace of the host.

A device that is mounted in some container is in use, though no mount table of ours shows it. Each namespace is read
once, through any process in it. One that no process is in, and that only an open file keeps, cannot be seen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.kernel.block.hostcalls import devno_of
from reconciler.model.dm_tables import Devno, parse_devno

_BLANKS: Final = re.compile(rb"[ \t]+")
_ESCAPE: Final = re.compile(rb"\\([0-3][0-7]{2})")
GONE: Final = (FileNotFoundError, ProcessLookupError)
"""A process that ends while /proc is read."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo (proc(5))."""

    devno: Devno
    """st_dev of the files on it: the block device, or an anonymous number (btrfs, overlay, tmpfs)."""
    point: str
    source: str


def mounts_of(devno: Devno) -> list[str]:
    """`/srv` for each mount point in our own namespace, then, once each, `/data (in the mount namespace of pid 412)` for
    those that are only elsewhere, then `swap`.
    """
    own = _points(read_mountinfo("self"), devno)
    elsewhere: dict[str, int] = {}
    for pid in _one_process_a_namespace():
        for point in _points(_mountinfo_if_there(pid), devno):
            if point not in own:
                elsewhere.setdefault(point, pid)
    told = [f"{point} (in the mount namespace of pid {pid})" for point, pid in elsewhere.items()]
    return [*own, *told, *(["swap"] if is_swap(devno) else [])]


def mounted_here(devno: Devno) -> list[str]:
    """Mount points in our own namespace."""
    return _points(read_mountinfo("self"), devno)


def read_mountinfo(process: str) -> list[Mount]:
    return parse_mountinfo(Path("/proc", process, "mountinfo").read_bytes())


def parse_mountinfo(text: bytes) -> list[Mount]:
    """Lines end with a newline and nothing else: the kernel leaves a carriage return in a name as it is."""
    return [mount for line in text.split(b"\n") if (mount := parse(line))]


def parse(line: bytes) -> Mount | None:
    """None for a line that is not understood."""
    before, separator, after = line.partition(b" - ")
    words, rest = before.split(b" "), after.split(b" ")
    if not separator or len(words) < 6 or len(rest) < 2:
        return None
    devno = parse_devno(words[2].decode(errors="replace"))
    return None if devno is None else Mount(devno, unescape(words[4]), unescape(rest[1]))


def unescape(word: bytes) -> str:
    r"""The kernel writes space, tab, newline and backslash as \040 and so on."""
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), word))


def is_swap(devno: Devno) -> bool:
    return devno in swap_devices()


def swap_devices() -> list[Devno]:
    """The block devices that are swapped to. A swap file is on a device that is found by its path."""
    paths = parse_swaps(Path("/proc/swaps").read_bytes())
    return [devno for path in paths if (devno := _rdev(path)) is not None]


def parse_swaps(text: bytes) -> list[str]:
    """The first column, below the line of headings."""
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
    except OSError:  # a path of another namespace, or a deleted one: not to be found from here
        return None


def _one_process_a_namespace() -> Iterator[int]:
    """Of each mount namespace but our own."""
    seen = {_namespace("self")}
    for pid in all_processes():
        namespace = _namespace(str(pid))
        if namespace and namespace not in seen:
            seen.add(namespace)
            yield pid


def _namespace(process: str) -> str:
    try:
        return str(Path(f"/proc/{process}/ns/mnt").readlink())
    except (*GONE, PermissionError):  # not allowed: this process cannot be seen, perhaps another of its namespace can
        return ""


def _mountinfo_if_there(pid: int) -> list[Mount]:
    try:
        return read_mountinfo(str(pid))
    except (*GONE, OSError):  # EINVAL: it is about to end and has no namespace any more
        return []


def all_processes() -> Iterator[int]:
    """All processes, but threads."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            yield int(entry.name)
