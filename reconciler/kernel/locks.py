"""The host-wide lock of a pool: /run/dm-reconciler/POOL.lock."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

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
