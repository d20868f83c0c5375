"""Errors of the store, with messages that say what to do next."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

_FULL: Final = "free some space there (`df {place}`, `df --inodes {place}`), what was being done is tried again"
_DISK: Final = "its disk does not work; look at the kernel's log (`dmesg`), and restore a copy if the disk is lost"
_LOCKS: Final = "files cannot be locked there; the state directory must be on a local filesystem"
_BESIDE: Final = (
    "SQLite cannot make or map the file {file}-shm beside it; see that {place} is local, writable and has room"
)
_NEXT: Final = {
    sqlite3.SQLITE_FULL: f"there is no room left, or a quota is used up; {_FULL}",
    sqlite3.SQLITE_READONLY: "it cannot be written to; see that its filesystem is writable and who owns the file",
    sqlite3.SQLITE_READONLY_DIRECTORY: "nothing can be made in {place}; see that it is writable and who owns it",
    sqlite3.SQLITE_READONLY_DBMOVED: "it was moved or removed while in use; put it back, or stop the daemon and start it again",
    sqlite3.SQLITE_READONLY_RECOVERY: "its log has to be folded in first; run as the user that the daemon runs as",
    sqlite3.SQLITE_READONLY_CANTINIT: "its log has to be folded in first; run as the user that the daemon runs as",
    sqlite3.SQLITE_READONLY_ROLLBACK: "its log has to be folded in first; run as the user that the daemon runs as",
    sqlite3.SQLITE_READONLY_CANTLOCK: _LOCKS,
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; run as the user that the daemon runs as, on a writable filesystem",
    sqlite3.SQLITE_CANTOPEN_ISDIR: "there is a directory in its place; move that away",
    sqlite3.SQLITE_CANTOPEN_SYMLINK: "there is a symbolic link in its place; put the file itself there",
    sqlite3.SQLITE_CANTOPEN_NOTEMPDIR: "there is no directory for temporary files; make /tmp writable",
    sqlite3.SQLITE_PERM: "it cannot be opened; run as the user that the daemon runs as",
    sqlite3.SQLITE_AUTH: "it cannot be opened; run as the user that the daemon runs as",
    sqlite3.SQLITE_BUSY: "another program keeps it locked; end that program (`fuser {file}` names it) and try again",
    sqlite3.SQLITE_BUSY_RECOVERY: "another program is folding in its log; try again in a moment",
    sqlite3.SQLITE_LOCKED: "another program keeps it locked; end that program (`fuser {file}` names it) and try again",
    sqlite3.SQLITE_PROTOCOL: _LOCKS,
    sqlite3.SQLITE_NOMEM: "the host has no memory left; free some, what was being done is tried again",
    sqlite3.SQLITE_IOERR: _DISK,
    sqlite3.SQLITE_IOERR_NOMEM: "the host has no memory left; free some, what was being done is tried again",
    sqlite3.SQLITE_IOERR_LOCK: _LOCKS,
    sqlite3.SQLITE_IOERR_RDLOCK: _LOCKS,
    sqlite3.SQLITE_IOERR_UNLOCK: _LOCKS,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK: _LOCKS,
    sqlite3.SQLITE_IOERR_SHMLOCK: _LOCKS,
    sqlite3.SQLITE_IOERR_SHMOPEN: _BESIDE,
    sqlite3.SQLITE_IOERR_SHMSIZE: _BESIDE,
    sqlite3.SQLITE_IOERR_SHMMAP: _BESIDE,
    sqlite3.SQLITE_IOERR_MMAP: _BESIDE,
    sqlite3.SQLITE_IOERR_DELETE_NOENT: "a file beside it was removed while in use; try again",
    sqlite3.SQLITE_IOERR_CORRUPTFS: "the filesystem that it is on is damaged; check that (`fsck`), then try again",
}
"""Errors that a person can correct, while the file is undamaged. Extended codes come before their plain ones."""
_ROOM: Final = 64 * 1024
"""Free space in bytes below which no transaction fits."""
_BY_THE_PLACE: Final = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL}
)
_READ_ONLY: Final = (
    "the filesystem of {place} is read-only; see in the kernel's log why (`dmesg`), then `mount -o remount,rw`"
)
_CONTRADICTION: Final = "it refuses what contradicts itself; please report this, with the events before it"
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_LONGEST: Final = 200


class StoreError(Exception):
    """The store cannot do what was asked. The message is one line: what, where, and what to do."""


class StoreUnusable(StoreError):  # noqa: N818  # what it is, as with LockHeld
    """The store cannot be used now and is undamaged: the disk is full, for example, or another process has the lock."""


class StoreDamaged(StoreError):  # noqa: N818
    """The content of the store cannot be trusted. The file was left as it is."""

    def __init__(self, path: Path, detail: str) -> None:
        self.what = f"store {path} is damaged ({' '.join(ascii(detail)[1:-1].split())[:_LONGEST]})"
        super().__init__(
            f"{self.what} and was left as it is: restore a copy of it, or run `dm-reconciler doctor --fix --manifests DIR "
            f"--state-dir {path.parent}`, which keeps it aside and rebuilds it from the pools"
        )


def contradiction(subject: object, problem: str) -> StoreError:
    """The error for a step that contradicts what is stored: a bug in the plan, stopped before it has an effect."""
    return StoreError(f"{subject}: {problem}; nothing was done, please report this with the last events")


def damaged(path: Path, detail: str) -> StoreDamaged:
    return StoreDamaged(path, detail)


def explain(path: Path, error: sqlite3.Error) -> StoreError:
    # The lowest byte of an extended code is the plain code.
    extended = getattr(error, "sqlite_errorcode", 0)
    code = extended & 0xFF
    # The error for text that is not UTF-8 has no code.
    if code in _DAMAGED or (not code and isinstance(error, sqlite3.OperationalError)):
        return damaged(path, str(error))
    if code in _BY_THE_PLACE and (why := _trouble_of(path.parent)):
        return StoreUnusable(f"store {path}: {error}: {why}")
    if code in _NEXT:
        words = _NEXT.get(extended, _NEXT[code]).format(file=path, place=path.parent)
        return StoreUnusable(f"store {path}: {error}: {words}")
    if code == sqlite3.SQLITE_CONSTRAINT:
        return StoreError(f"store {path}: {error}: {_CONTRADICTION}")
    return StoreError(f"store {path}: {error}; please report this")


def explain_os(path: Path, error: OSError) -> str:
    """The cause and the remedy of a failed call on `path`, which is the state directory or a file in it."""
    place = path if path.is_dir() else path.parent
    said = error.strerror or str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{said}: there is no room left, or a quota is used up; {_FULL.format(place=place)}"
    if error.errno == errno.EROFS:
        return f"{said}: {_READ_ONLY.format(place=place)}"
    if error.errno == errno.EIO:
        return f"{said}: {_DISK}"
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return f"{said}: too many files are open; see `ulimit -n` and who has them (`lsof`)"
    return f"{said}: run as the user that the daemon runs as, on a writable filesystem with room"


def _trouble_of(place: Path) -> str | None:
    """Why a read or a write failed, which SQLite's code leaves open; None if the filesystem is fine."""
    try:
        found = os.statvfs(place)
    except OSError:
        return None
    if found.f_flag & os.ST_RDONLY:
        return _READ_ONLY.format(place=place)
    free = found.f_frsize * (found.f_bfree if os.geteuid() == 0 else found.f_bavail)
    if found.f_blocks and free < _ROOM:
        return f"the filesystem of {place} is full; {_FULL.format(place=place)}"
    if found.f_files and not found.f_ffree:
        return f"the filesystem of {place} has no inode left; {_FULL.format(place=place)}"
    return None
