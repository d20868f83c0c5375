"""Memory: the process is kept in it, so that it can resume what it has suspended even if that carries its own pages; and
what waits in the host's to be written.
"""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path
from typing import Final

from reconciler.model.units import Bytes

_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2

_log = logging.getLogger(__name__)


def lock_memory() -> None:
    """mlockall(2), which takes CAP_IPC_LOCK. Where that is missing it is said, once, and work goes on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        reason = os.strerror(ctypes.get_errno())
        _log.warning("cannot lock the worker in memory (%s): give it CAP_IPC_LOCK", reason)


def unwritten_bytes() -> Bytes:
    """Dirty pages, and those on their way to a disk (proc(5), meminfo)."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    return Bytes(sum(int(words[1]) * 1024 for words in lines if words[0] in {"Dirty:", "Writeback:"}))
