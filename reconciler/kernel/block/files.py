"""Files and the first bytes of devices."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from pathlib import Path
from typing import Final

from reconciler.kernel.block.hostcalls import devno_of, opened, size_of, told_as
from reconciler.model.dm_tables import Devno
from reconciler.model.live import PathKind
from reconciler.model.units import Bytes

_STAT_BLOCK: Final = 512
"""Unit of st_blocks, whatever the filesystem's block size (stat(2))."""
_ALIGNMENT: Final = 4096
"""Direct I/O works in multiples of the disk's logical block, which is 512 or 4096 bytes."""
_CHUNK: Final = 1024 * 1024
_KERNELS: Final = ("/proc/", "/sys/")


def kind(path: str) -> tuple[PathKind, Bytes, Devno | None]:
    """What is there (links followed), its size, and a block device's number."""
    with told_as("look at", path):
        try:
            facts = Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return PathKind.MISSING, Bytes(0), None
    if stat.S_ISREG(facts.st_mode):
        if _is_of_the_kernel(path):
            return PathKind.OTHER, Bytes(0), None
        return PathKind.FILE, Bytes(facts.st_size), None
    if stat.S_ISBLK(facts.st_mode):
        devno = devno_of(facts.st_rdev)
        return PathKind.BLOCK, size_of(devno), devno
    return PathKind.OTHER, Bytes(0), None


def _is_of_the_kernel(path: str) -> bool:
    """A file of /proc, /sys or their like: it looks plain and empty, and what is written to it is done by the kernel.

    Their filesystems have no blocks, but for some in /sys that keep variables of the firmware.
    """
    with told_as("look at", path):
        real = os.path.realpath(path)
        return real.startswith(_KERNELS) or os.statvfs(real).f_blocks == 0


def file_facts(path: str) -> tuple[Bytes, Bytes]:
    """(allocated on disk, free in its filesystem) of a file, or of the folder where it would be made.

    Free is what an ordinary user may take: the reserve for root is no room to plan with.
    """
    with told_as("look at", path):
        try:
            allocated, place = Path(path).stat().st_blocks * _STAT_BLOCK, path
        except FileNotFoundError:
            allocated, place = 0, _folder(path)
        room = os.statvfs(place)
    return Bytes(allocated), Bytes(room.f_bavail * room.f_frsize)


def folder_exists(path: str) -> bool:
    """Whether the folder that the file is in, or would be in, exists."""
    return Path(_folder(path)).is_dir()


def make_file(path: str, size: Bytes, *, allocate: bool) -> None:
    """A new file, 0600, durable when this returns.

    Raises HostFault: EEXIST there is something of that name, be it a dangling link; ENOSPC, EFBIG (nothing is left
    behind); ENOENT no such folder.
    """
    with told_as("make", path), opened(_folder(path), os.O_RDONLY | os.O_DIRECTORY) as folder:
        with opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW) as file:
            try:
                os.fchmod(file, 0o600)  # whatever the umask is
                _extend(file, Bytes(0), size, allocate=allocate)
                os.fsync(file)
            except BaseException:
                Path(path).unlink()  # this very attempt made it: O_EXCL
                os.fsync(folder)
                raise
        os.fsync(folder)


def grow_file(path: str, size: Bytes, *, allocate: bool) -> None:
    """Never shrinks. Durable when this returns. ENOSPC may leave the file larger than it was, which is harmless."""
    with told_as("grow", path), opened(path, os.O_RDWR) as file:
        now = Bytes(os.fstat(file).st_size)
        if now >= size:
            return
        _extend(file, now, size, allocate=allocate)
        os.fsync(file)


def delete_file(path: str) -> None:
    """Durable when this returns. Fine where there is none, or no folder for it."""
    with told_as("delete", path):
        try:
            Path(path).unlink()
        except FileNotFoundError:
            return
        with opened(_folder(path), os.O_RDONLY | os.O_DIRECTORY) as folder:
            os.fsync(folder)


def read(path: str, length: int) -> bytes:
    """The first bytes, past the page cache where the filesystem can. Shorter where there are no more."""
    with told_as("read", path):
        try:
            return _read_directly(path, length)
        except OSError as error:
            # open: the filesystem has no direct I/O; read: its blocks are larger than the alignment.
            if error.errno != errno.EINVAL:
                raise
        with opened(path, os.O_RDONLY) as file:
            return os.pread(file, length, 0)


def zero(path: str, length: int) -> None:
    """Zero the first bytes, at most up to its end; durable when this returns.

    Raises HostFault: EBUSY for a block device that something has claimed.
    """
    with told_as("zero", path):
        is_block = stat.S_ISBLK(Path(path).stat().st_mode)
        # O_EXCL without O_CREAT is for block devices alone: it refuses one that is mounted or under a dm device.
        with opened(path, os.O_WRONLY | (os.O_EXCL if is_block else 0)) as file:
            end = min(length, os.lseek(file, 0, os.SEEK_END))
            position = 0
            while position < end:
                position += os.pwrite(file, bytes(min(_CHUNK, end - position)), position)
            os.fsync(file)


def _extend(file: int, start: Bytes, size: Bytes, *, allocate: bool) -> None:
    if allocate:
        os.posix_fallocate(file, start, size - start)
    else:
        os.ftruncate(file, size)


def _read_directly(path: str, length: int) -> bytes:
    rounded = -(-length // _ALIGNMENT) * _ALIGNMENT
    # An anonymous map begins on a page: the alignment of memory that direct I/O asks for.
    with opened(path, os.O_RDONLY | os.O_DIRECT) as file, mmap.mmap(-1, rounded) as buffer:
        count = os.preadv(file, [buffer], 0)
        return buffer[: min(count, length)]


def _folder(path: str) -> str:
    return str(Path(path).parent)
