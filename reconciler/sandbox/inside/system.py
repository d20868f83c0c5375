"""System calls that Python's standard library has no name for."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

TYPE_CHECKING = False  # typing takes as long to import as all the rest
if TYPE_CHECKING:
    from typing import Final

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_BIND: Final = 4096

_NR_FINIT_MODULE: Final = 313  # x86-64
_AF_INET, _SOCK_DGRAM = 2, 2
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """Raises OSError."""
    arguments = [os.fsencode(text) for text in (source, target, fstype)]
    _checked(_libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(data) or None), target)


def insert_module(path: str, parameters: str = "") -> None:
    """Load a kernel module from its file; one that is there already is fine. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.syscall(_NR_FINIT_MODULE, fd, parameters.encode(), 0), path)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    finally:
        os.close(fd)


def set_hostname(name: str) -> None:
    encoded = name.encode()
    _checked(_libc.sethostname(encoded, len(encoded)), "hostname")


def interface_up(name: str) -> None:
    """What `ip link set NAME up` does, without starting a process."""
    fd = _checked(_libc.socket(_AF_INET, _SOCK_DGRAM, 0), name)
    try:
        fcntl.ioctl(fd, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), _IFF_UP))
    finally:
        os.close(fd)


def sync_filesystem(path: str) -> None:
    """Write back that one file system, and so never wait for a suspended device that carries another."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.syncfs(fd), path)
    finally:
        os.close(fd)
