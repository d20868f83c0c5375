"""Loop devices, by ioctl, and small helpers for all host calls: errors, device numbers, and devices in /sys.

The numbers and structures are from the kernel's include/uapi/linux/loop.h.

One file on two loops is two views of one disk, which corrupts both. The kernel does not prevent that; this file does. A
file is known by its device and inode and not by its path, because the path in /sys belongs to some mount namespace and
perhaps to a deleted file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.model.dm_tables import Devno, parse_devno
from reconciler.model.errors import HostError, VerificationError
from reconciler.model.live import Loop
from reconciler.model.units import Bytes, Sectors, in_bytes, whole_number


@contextmanager
def told_as(operation: str, subject: str) -> Iterator[None]:
    """Turns any OSError inside into a HostError with its errno, as the layers above expect."""
    try:
        yield
    except OSError as error:
        raise HostError(operation, subject, error.errno or 0, error.strerror or str(error)) from error


@contextmanager
def opened(path: str, flags: int, mode: int = 0o600) -> Iterator[int]:
    """A file descriptor that is closed at the end, and is never inherited by programs."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def devno_of(number: int) -> Devno:
    """The device number in a dev_t as stat, mountinfo and LOOP_GET_STATUS64 give it."""
    return Devno(os.major(number), os.minor(number))


def sysfs(devno: Devno) -> Path:
    return Path("/sys/dev/block") / str(devno)


def read_devno(folder: Path) -> Devno | None:
    """The number of the device that this folder of /sys describes; None if the device is gone, or has no number."""
    return parse_devno(read_attribute(folder / "dev"))


def read_attribute(path: Path) -> str:
    """The value of the attribute; empty if it or its device is not there (any more)."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        # The device was removed between open and read.
        if error.errno in {errno.ENXIO, errno.ENODEV}:
            return ""
        raise


def size_of(devno: Devno) -> Bytes:
    """The size of a block device in bytes, read without opening it, which would count and could block."""
    size = whole_number(read_attribute(sysfs(devno) / "size"))
    return Bytes(0) if size is None else in_bytes(Sectors(size))


def name_of(devno: Devno) -> str:
    """The name that people know: the dm name of a dm device, else the kernel's name. Empty if the device is gone."""
    folder = sysfs(devno)
    return read_attribute(folder / "dm/name") or (folder.resolve().name if folder.exists() else "")


_CLR_FD: Final = 0x4C01
_GET_STATUS64: Final = 0x4C05
_SET_CAPACITY: Final = 0x4C07
_CONFIGURE: Final = 0x4C0A
"""Linux 5.8 and later: file and settings in one call, so that no loop is ever visible half made."""
_CTL_GET_FREE: Final = 0x4C82

_READ_ONLY: Final = 1
_DIRECT_IO: Final = 16
_NAME_SIZE: Final = 64
_INFO: Final = struct.Struct(f"=5Q4I{_NAME_SIZE}s64s32s2Q")
"""struct loop_info64: device, inode, rdevice, offset, size limit; number, encryption (2), flags; names, key, init."""
_CONFIG_HEAD: Final = struct.Struct("=2I")
_CONFIG_TAIL: Final = bytes(64)

_DELETED: Final = " (deleted)"
_ATTEMPTS: Final = 64
"""How many free loops may be taken by others between GET_FREE and CONFIGURE before this gives up."""


@dataclass(frozen=True, slots=True)
class Behind:
    """What LOOP_GET_STATUS64 reports of the file behind a loop."""

    device: int
    """The dev_t of the filesystem that the file is on."""
    inode: int
    block_device: int
    """The dev_t of the block device behind the loop; 0 if there is a file behind it."""
    offset: int
    size_limit: int
    read_only: bool


def loops() -> list[Loop]:
    """All loops in use on the host, except those that are detached, or that hide their status, during the call."""
    return [loop for loop, _ in _in_use()]


def loops_on(path: str) -> list[Loop]:
    with told_as("look for loops on", path), opened(path, os.O_RDONLY) as file:
        return _loops_on(file)


def loops_on_device(devno: Devno) -> list[Loop]:
    """The loops that have this block device, and not a file, behind them."""
    number = os.makedev(devno.major, devno.minor)
    return [loop for loop, seen in _in_use() if seen.block_device == number]


def loops_in_filesystem(devno: Devno) -> list[Loop]:
    """The loops whose files are on the filesystem of this block device, whether or not that still has a mount point."""
    number = os.makedev(devno.major, devno.minor)
    return [loop for loop, seen in _in_use() if not seen.block_device and seen.device == number]


def attach(path: str) -> Loop:
    with told_as("attach", path), opened(path, os.O_RDWR) as file:
        with _alone(file, path):
            if there := _loops_on(file):
                raise HostError("attach", path, errno.EBUSY, f"it is on {there[0].path} already")
            loop = _configure_a_free_one(file, path)
            _look_after_attach(loop, file, path)
        return loop


def resize(loop: Loop) -> None:
    """Makes the loop notice that its file has grown."""
    with told_as("resize", loop.path), opened(loop.path, os.O_RDWR) as device:
        fcntl.ioctl(device, _SET_CAPACITY)


def detach(loop: Loop) -> None:
    # O_EXCL fails if the device is claimed; without it, the loop of a live pool would be marked for removal.
    with told_as("detach", loop.path), opened(loop.path, os.O_RDWR | os.O_EXCL) as device:
        fcntl.ioctl(device, _CLR_FD)
    # Newer kernels detach at the last close, which may be the one just above, so the check comes after it.
    if _backing_folder(Path(loop.path).name).exists():
        raise VerificationError(
            "detach", loop.path, errno.EBUSY, "open elsewhere: the kernel lets go of it at its last close"
        )


def behind(devno: Devno) -> Behind | None:
    """What is behind the loop; None if the device is no loop, or a free one."""
    name = Path("/sys/dev/block", str(devno)).resolve().name
    if not _backing_folder(name).exists():
        return None
    return _status(_node(name))


def backing_file(devno: Devno) -> str:
    """The path of the file behind the loop as /sys shows it, in some mount namespace. Empty for a free loop."""
    name = Path("/sys/dev/block", str(devno)).resolve().name
    return read_attribute(_backing_folder(name) / "backing_file").removesuffix(_DELETED)


def _in_use() -> list[tuple[Loop, Behind]]:
    found = []
    for folder in sorted(Path("/sys/block").glob("loop*/loop"), key=lambda folder: (len(str(folder)), str(folder))):
        seen = _look(folder.parent.name)
        if seen is not None:
            found.append(seen)
    return found


def _look(name: str) -> tuple[Loop, Behind] | None:
    devno = read_devno(Path("/sys/block", name))
    if devno is None:
        return None
    node = _node(name)
    seen = _status(node)
    if seen is None:
        return None
    told = read_attribute(_backing_folder(name) / "backing_file")
    loop = Loop(
        devno,
        node,
        told.endswith(_DELETED),
        size_of(devno),
        Bytes(seen.offset),
        Bytes(seen.size_limit),
        seen.read_only,
    )
    return loop, seen


def _loops_on(file: int) -> list[Loop]:
    """The loops on this file. While `file` is open its inode number cannot be reused, so equal numbers mean the same
    file.

    A deleted file of the same path has another inode, and does not count.
    """
    facts = os.fstat(file)
    if stat.S_ISBLK(facts.st_mode):
        return loops_on_device(devno_of(facts.st_rdev))
    return [loop for loop, seen in _in_use() if (seen.device, seen.inode) == (facts.st_dev, facts.st_ino)]


@contextmanager
def _alone(file: int, path: str) -> Iterator[None]:
    """Keeps others of this project from attaching the file at the same time, when both would find no loop.

    The lock is advisory, and held through a second open of the file: the loop keeps `file` itself open, and would keep
    a lock on it for as long.
    """
    with opened(f"/proc/self/fd/{file}", os.O_RDONLY) as second:
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HostError("attach", path, errno.EBUSY, "another process holds its lock") from error
        yield


def _configure_a_free_one(file: int, path: str) -> Loop:
    name = path.encode(errors="surrogateescape")[: _NAME_SIZE - 1]
    with opened("/dev/loop-control", os.O_RDWR) as control:
        for _ in range(_ATTEMPTS):
            number = fcntl.ioctl(control, _CTL_GET_FREE)
            node = _node(f"loop{number}")
            if _configure(node, file, name):
                devno = devno_of(Path(node).stat().st_rdev)
                return Loop(devno, node, size=size_of(devno))
    raise HostError("attach", path, errno.EBUSY, f"others took {_ATTEMPTS} free loops first")


def _configure(node: str, file: int, name: bytes) -> bool:
    """Attaches the file. False if another process has taken this loop since it was free."""
    with opened(node, os.O_RDWR) as device:
        try:
            _configure_with(device, file, name, _DIRECT_IO)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            if error.errno != errno.EINVAL:
                raise
            # Some kernels refuse direct I/O if the filesystem has none, others silently leave it off.
            _configure_with(device, file, name, 0)
    return True


def _configure_with(device: int, file: int, name: bytes, flags: int) -> None:
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, name, b"", b"", 0, 0)
    fcntl.ioctl(device, _CONFIGURE, _CONFIG_HEAD.pack(file, 0) + info + _CONFIG_TAIL)


def _look_after_attach(loop: Loop, file: int, path: str) -> None:
    """Checks the new loop, and undoes only what this attempt made; nothing is undone if the check itself failed."""
    now = _loops_on(file)
    if [there.path for there in now] == [loop.path]:
        return
    if loop.path not in {there.path for there in now}:
        raise VerificationError("attach", path, 0, f"{loop.path} does not show the file")
    detach(loop)
    others = ", ".join(there.path for there in now if there.path != loop.path)
    raise HostError("attach", path, errno.EBUSY, f"it came to be on {others} at the same time")


def _status(node: str) -> Behind | None:
    """The status of the loop; None if it is free, or was removed at this moment."""
    try:
        with opened(node, os.O_RDONLY) as device:
            answer = fcntl.ioctl(device, _GET_STATUS64, bytes(_INFO.size))
    except OSError as error:
        if error.errno in {errno.ENXIO, errno.ENODEV, errno.ENOENT}:
            return None
        raise
    device_number, inode, block_device, offset, size_limit, _, _, _, flags, *_ = _INFO.unpack(answer)
    return Behind(device_number, inode, block_device, offset, size_limit, bool(flags & _READ_ONLY))


def _node(name: str) -> str:
    """The node, such as /dev/loop3, which is made if it is missing: in a container, /dev may not be a devtmpfs."""
    node = f"/dev/{name}"
    if not Path(node).exists():
        devno = read_devno(Path("/sys/block", name))
        if devno is not None:
            os.mknod(node, stat.S_IFBLK | 0o660, os.makedev(devno.major, devno.minor))
    return node


def _backing_folder(name: str) -> Path:
    """The folder in /sys that exists only while the loop is in use."""
    return Path("/sys/block", name, "loop")
