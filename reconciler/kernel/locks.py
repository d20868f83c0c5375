"""Host-wide locks below /run/dm-reconciler: of a pool (POOL.lock), and of a block device that a pool is to lie on
(MAJOR:MINOR.device).

The kernel lets two pools share a device, and both are lost. Each pool has a worker of its own, perhaps a daemon of its
own: the scan that finds the device free, and the table that takes it, are one only under this lock.
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

from reconciler.kernel.block.loops import told_as
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError

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


def open_lock(path: Path) -> int:
    """A file that nobody but root can lock, made if need be."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, 0o600)  # whoever can read a file can lock it
    return descriptor


class PoolLock:
    """An flock, so that it goes with the process, also when that is killed; and stays while a call of it hangs."""

    def __init__(self, pool: str, folder: Path = FOLDER) -> None:
        self._pool = pool
        self._path = folder / f"{pool}.lock"
        self._descriptor: int | None = None

    def take(self, state_dir: str) -> None:
        """Raises PoolLocked, with who holds it."""
        descriptor = open_lock(self._path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 4096, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise PoolLocked(self._pool, holder) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {state_dir}\n".encode(), 0)
        self._descriptor = descriptor

    def holder(self) -> PoolLocked | None:
        """Who holds it at this moment; None if nobody does."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return PoolLocked(self._pool, os.pread(descriptor, 4096, 0).decode(errors="replace").strip())
        finally:
            os.close(descriptor)
        return None

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_PATIENCE: Final = 2.0
"""Seconds: it is held for as long as a pool takes to come up, which is less, unless a call hangs."""


@contextmanager
def alone_on(devnos: Sequence[Devno], folder: Path = FOLDER, patience: float = _PATIENCE) -> Iterator[None]:
    """Nobody else of this project puts a table on any of them meanwhile. Raises HostError EBUSY where one is taken.

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
            raise HostError("lock", str(devno), errno.EBUSY, "another process puts a pool on it at this moment")
        time.sleep(0.01)
