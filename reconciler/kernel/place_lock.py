"""The host-wide lock of a block device that a pool is to lie on: /run/dm-reconciler/MAJOR:MINOR.device.

The kernel lets two pools share a device, and both are lost. Each pool has a worker of its own, perhaps a daemon of its
own: the look that finds the device free, and the table that takes it, are one only under this lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from reconciler.kernel.block.hostcalls import told_as
from reconciler.kernel.locks import FOLDER, open_lock
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostFault

_PATIENCE: Final = 2.0
"""Seconds: it is held for as long as a pool takes to come up, which is less, unless a call hangs."""


@contextmanager
def alone_on(devnos: Sequence[Devno], folder: Path = FOLDER, patience: float = _PATIENCE) -> Iterator[None]:
    """Nobody else of this project puts a table on any of them meanwhile. Raises HostFault EBUSY where one is taken.

    In one order for all, so that no two wait for each other.
    """
    end = time.monotonic() + patience
    with ExitStack() as held:
        for devno in sorted(set(devnos), key=lambda devno: (devno.major, devno.minor)):
            with told_as("lock", str(devno)):
                descriptor = open_lock(folder / f"{devno}.device")
            held.callback(os.close, descriptor)
            _take(descriptor, devno, end)
        yield


def _take(descriptor: int, devno: Devno, end: float) -> None:
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > end:
            raise HostFault("lock", str(devno), errno.EBUSY, "another process puts a pool on it at this moment")
        time.sleep(0.01)
