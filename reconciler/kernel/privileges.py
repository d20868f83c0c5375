"""The privileges of this process: the capabilities that it needs, and nothing beyond them, however it was started.

The numbers and structures are from include/uapi/linux/capability.h and prctl.h. Capabilities belong to one thread, and
pass to the threads and programs that it starts later, so this must be done before there are others.

The process also locks its memory, so that it can resume a device that it has suspended even if its own pages are on
that device; and it can read how much data of the host waits to be written.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from reconciler.model.errors import HostError
from reconciler.model.units import Bytes

_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2

_log = logging.getLogger(__name__)


def lock_memory() -> None:
    """Locks all memory with mlockall(2), which takes CAP_IPC_LOCK. Without that, a warning is logged once."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        reason = os.strerror(ctypes.get_errno())
        _log.warning("cannot lock the worker in memory (%s): give it CAP_IPC_LOCK", reason)


def unwritten_bytes() -> Bytes:
    """The size of dirty pages, including those being written (proc(5), meminfo)."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    return Bytes(sum(int(words[1]) * 1024 for words in lines if words[0] in {"Dirty:", "Writeback:"}))


_CAPABILITY_VERSION: Final = 0x20080522
_SETPCAP: Final = 8
_MOST: Final = 64
"""How many capabilities the structures have room for."""
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_WORD: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Capability:
    name: str
    bit: int
    without: str
    """What does not work without the capability."""


SYS_ADMIN: Final = Capability("CAP_SYS_ADMIN", 21, "nothing can be done")
IPC_LOCK: Final = Capability("CAP_IPC_LOCK", 14, "workers may wait for pages that lie on what they have suspended")
MKNOD: Final = Capability("CAP_MKNOD", 27, "no node is made where udev makes none, or has ended")
EVERY: Final = (
    SYS_ADMIN,
    Capability("CAP_DAC_READ_SEARCH", 2, "processes of other users that hold a device are not named"),
    Capability("CAP_SYS_PTRACE", 19, "processes that hold a device, and mounts in other namespaces, are not seen"),
    IPC_LOCK,
    Capability("CAP_SYS_RESOURCE", 24, "a mounted ext4 does not grow"),
    MKNOD,
)


@dataclass(frozen=True, slots=True)
class Held:
    """Sets of capabilities, one bit each."""

    effective: int
    permitted: int
    inheritable: int


def missing() -> list[Capability]:
    """The capabilities that are needed and not held."""
    effective = held().effective
    return [capability for capability in EVERY if not effective >> capability.bit & 1]


def held() -> Held:
    """The capabilities of this thread."""
    words = (ctypes.c_uint32 * 6)()
    _called("capget", _libc().capget(_header(), words))
    low, high = words[:3], words[3:]
    effective, permitted, inheritable = (below | above << 32 for below, above in zip(low, high, strict=True))
    return Held(effective, permitted, inheritable)


def drop_all_others(kept: tuple[Capability, ...] = EVERY) -> None:
    """Drops all capabilities but those in `kept`, for good, also for every program that is started later.

    Raises HostError if the kernel refuses. Threads that already run keep what they have.
    """
    keep = sum(1 << capability.bit for capability in kept)
    _called("prctl", _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    before = held()
    # Without CAP_SETPCAP the bounding set stays, which is harmless: no program gains what is not permitted here.
    if before.effective >> _SETPCAP & 1:
        for bit in range(_MOST):
            if not keep >> bit & 1 and _libc().prctl(_PR_CAPBSET_READ, bit, 0, 0, 0) == 1:
                _called("prctl", _libc().prctl(_PR_CAPBSET_DROP, bit, 0, 0, 0))
    held_on = before.permitted & keep
    _put(Held(held_on, held_on, before.inheritable & keep))


def require_admin() -> None:
    """Raises HostError if this process lacks the privileges without which nothing works."""
    if SYS_ADMIN in missing():
        raise HostError("use", "device-mapper", errno.EPERM, f"user {os.geteuid()} is without {SYS_ADMIN.name}")


def _put(wanted: Held) -> None:
    sets = (wanted.effective, wanted.permitted, wanted.inheritable)
    words = (ctypes.c_uint32 * 6)(*(word & _WORD for word in sets), *(word >> 32 for word in sets))
    _called("capset", _libc().capset(_header(), words))


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    return libc


def _header() -> ctypes.Array[ctypes.c_uint32]:
    """The header of the capability calls, for this thread."""
    return (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)


def _called(call: str, answer: int) -> None:
    if answer != 0:
        raise HostError(call, "capabilities", ctypes.get_errno(), os.strerror(ctypes.get_errno()))
