"""Host-wide locks in /run/dm-reconciler: of a pool (POOL.lock), and of a block device that a pool is to use
(MAJOR:MINOR.device).

The kernel lets two pools share a device, which destroys both. Each pool has its own worker, perhaps of another daemon,
so only this lock joins the scan that finds the device free and the table that takes it.
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
        """`PID STATE_DIR`, as the worker that holds the lock wrote it."""

    @property
    def state_dir(self) -> str:
        return self.holder.partition(" ")[2]

    def __str__(self) -> str:
        pid, _, state_dir = ascii(self.holder)[1:-1][:_LONGEST].partition(" ")
        return f"pool {self.pool} is worked on by process {pid or 'unknown'} (state in {state_dir or 'unknown'})"


class PoolLock:
    """The lock of a pool, which its worker holds for as long as the worker lives."""

    def __init__(self, pool: str, folder: Path = FOLDER) -> None:
        self._pool = pool
        self._lock = FileLock(folder / f"{pool}.lock")

    def take(self, state_dir: str) -> None:
        """Takes the lock. Raises PoolLocked, with the holder, if another process has it."""
        try:
            self._lock.take()
        except LockTaken as taken:
            raise PoolLocked(self._pool, taken.signed) from None
        self._lock.sign(f"{os.getpid()} {state_dir}\n")

    def holder(self) -> PoolLocked | None:
        """Who holds the lock now; None if nobody does."""
        taken = self._lock.holder()
        return None if taken is None else PoolLocked(self._pool, taken.signed)

    def close(self) -> None:
        self._lock.release()


_PATIENCE: Final = 2.0
"""Seconds to wait for the lock. It is held while a pool is activated, which takes less unless a call hangs."""


@contextmanager
def alone_on(devnos: Sequence[Devno], folder: Path = FOLDER, patience: float = _PATIENCE) -> Iterator[None]:
    """Locks these devices. All processes take them in the same order, so that no two wait for each other."""
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
