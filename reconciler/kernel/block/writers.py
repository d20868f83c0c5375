"""Who writes to what a pool is to lie on, beside the block layer: a file that is open for writing, or one on another loop.

The kernel lets a program write to a file while a loop shows it, and to a block device while a table is on it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.kernel.block import loops
from reconciler.kernel.block.holders import command_of_process, descriptors_of
from reconciler.kernel.block.hostcalls import devno_of, told_as
from reconciler.kernel.block.mounts import all_processes
from reconciler.model.dm_tables import Devno
from reconciler.model.units import Bytes

_WRITES: Final = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True, slots=True)
class _Thing:
    """A file by device and inode, or a block device by its number."""

    device: int
    inode: int
    block_device: int


def file_behind(devno: Devno) -> tuple[str, Bytes] | None:
    """The file behind a loop, and its size. None: no loop, a device behind it, or no such file under that path here."""
    seen = loops.behind(devno)
    path = loops.backing_file(devno) if seen is not None else ""
    if seen is None or seen.block_device or not path:
        return None
    try:
        facts = os.stat(path)  # noqa: PTH116  # for its device and inode at once
    except OSError:  # the path is one of another mount namespace, or the file was deleted
        return None
    if (facts.st_dev, facts.st_ino) != (seen.device, seen.inode):
        return None
    return path, Bytes(facts.st_size)


def writers_of(path: str) -> list[str]:
    """`qemu (pid 412)` for each other process that has it open for writing, or the file behind it where it is a loop."""
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
        # Only what looks like a path: stat of a socket or pipe costs, and tells nothing.
        if not str(link.readlink()).startswith("/") or _thing(link.stat()) not in things:
            return False
        told = (link.parent.parent / "fdinfo" / link.name).read_text(encoding="ascii")
    except OSError:  # closed or ended meanwhile, or on a filesystem that does not answer root (FUSE)
        return False
    flags = next((line.split()[1] for line in told.splitlines() if line.startswith("flags:")), "0")
    return bool(int(flags, 8) & _WRITES)
