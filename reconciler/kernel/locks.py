"""Host-wide locks below /run/dm-reconciler: of a pool (POOL.lock), and of a block device that a pool is to lie on
(MAJOR:MINOR.device).

The kernel lets two pools share a device, and both are lost. Each pool has a worker of its own, perhaps a daemon of its
own: the scan that finds the device free, and the table that takes it, are one only under this lock.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from reconciler.kernel.block.loops import told_as
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError
from reconciler.trusted_files import FileLock, LockTaken

_LONGEST: Final = 300
FOLDER: Final = Path("/run/dm-reconciler")


class PoolLocked(Exception):  # noqa: N818  # says what is, as BlockingIOError does
    """Another process works on this pool."""

    def __init__(self, pool: str, holder: str) -> None:
        super().__init__(pool, holder)
        self.pool = pool
        self.holder = holder
        """`PID STATE_DIR`, as its worker wrote it."""

    @property
    def state_dir(self) -> str:
        return self.holder.partition(" ")[2]

    def __str__(self) -> str:
        pid, _, state_dir = ascii(self.holder)[1:-1][:_LONGEST].partition(" ")
        return f"pool {self.pool} is worked on by process {pid or 'unknown'} (state in {state_dir or 'unknown'})"


class PoolLock:
    """Held by the worker of the pool, for as long as it lives."""

    def __init__(self, pool: str, folder: Path = FOLDER) -> None:
        self._pool = pool
        self._lock = FileLock(folder / f"{pool}.lock")

    def take(self, state_dir: str) -> None:
        """Raises PoolLocked, with who holds it."""
        try:
            self._lock.take()
        except LockTaken as taken:
            raise PoolLocked(self._pool, taken.signed) from None
        self._lock.sign(f"{os.getpid()} {state_dir}\n")

    def holder(self) -> PoolLocked | None:
        """Who holds it at this moment; None if nobody does."""
        taken = self._lock.holder()
        return None if taken is None else PoolLocked(self._pool, taken.signed)

    def close(self) -> None:
        self._lock.release()


_PATIENCE: Final = 2.0
"""Seconds: it is held for as long as a pool takes to come up, which is less, unless a call hangs."""


@contextmanager
def alone_on(devnos: Sequence[Devno], folder: Path = FOLDER, patience: float = _PATIENCE) -> Iterator[None]:
    """In one order for all, so that no two wait for each other."""
    end = time.monotonic() + patience
    with ExitStack() as held:
        for devno in sorted(set(devnos), key=lambda devno: (devno.major, devno.minor)):
            lock = FileLock(folder / f"{devno}.device")
            held.callback(lock.release)
            _take(lock, devno, end - time.monotonic())
        yield


def _take(lock: FileLock, devno: Devno, patience: float) -> None:
    with told_as("lock", str(devno)):
        try:
            lock.take(patience)
        except LockTaken:
            why = "another process puts a pool on it at this moment"
            raise HostError("lock", str(devno), errno.EBUSY, why) from None
