"""Small things that all host calls share: errors, device numbers, and where /sys keeps a device."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.model.dm_tables import Devno, parse_devno
from reconciler.model.errors import HostFault
from reconciler.model.units import Bytes, Sectors, in_bytes, whole_number


@contextmanager
def told_as(operation: str, subject: str) -> Iterator[None]:
    """Any OSError inside leaves as the HostFault that the layers above know, with its errno."""
    try:
        yield
    except OSError as error:
        raise HostFault(operation, subject, error.errno or 0, error.strerror or str(error)) from error


@contextmanager
def opened(path: str, flags: int, mode: int = 0o600) -> Iterator[int]:
    """A file descriptor that is closed at the end. Never inherited by programs."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def devno_of(number: int) -> Devno:
    """Of a dev_t as stat, mountinfo and LOOP_GET_STATUS64 give it."""
    return Devno(os.major(number), os.minor(number))


def sysfs(devno: Devno) -> Path:
    return Path("/sys/dev/block") / str(devno)


def read_devno(folder: Path) -> Devno | None:
    """The number of the device that /sys describes in this folder. None: it has gone, or has no number."""
    return parse_devno(read_attribute(folder / "dev"))


def read_attribute(path: Path) -> str:
    """Empty where the attribute, or its whole device, is not there (any more)."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        # The device went between open and read.
        if error.errno in {errno.ENXIO, errno.ENODEV}:
            return ""
        raise


def size_of(devno: Devno) -> Bytes:
    """Of a block device, without opening it: an open would count as one, and could block on a suspended device."""
    size = whole_number(read_attribute(sysfs(devno) / "size"))
    return Bytes(0) if size is None else in_bytes(Sectors(size))


def name_of(devno: Devno) -> str:
    """As people know it: the name in device-mapper for a dm device, else the kernel's. Empty where it has gone."""
    folder = sysfs(devno)
    return read_attribute(folder / "dm/name") or (folder.resolve().name if folder.exists() else "")
