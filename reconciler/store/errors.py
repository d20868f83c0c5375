"""Errors of the store, in words that say what to do next."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

_NEXT: Final = {
    sqlite3.SQLITE_FULL: "there is no room left; free some space on that filesystem, what was being done is tried again",
    sqlite3.SQLITE_READONLY: "it cannot be written to; see that its filesystem is writable and who owns the file",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; run as the user that the daemon runs as, on a writable filesystem",
    sqlite3.SQLITE_PERM: "it cannot be opened; run as the user that the daemon runs as",
    sqlite3.SQLITE_BUSY: "another program keeps it locked; end that program (`fuser` names it) and try again",
    sqlite3.SQLITE_IOERR: "its disk does not work; look at the kernel's log, and restore a copy if the disk is lost",
}
"""What a person can do something about, while the file is as good as before."""
_CONTRADICTION: Final = "it refuses what contradicts itself; please report this, with the events before it"
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_LONGEST: Final = 200


class StoreError(Exception):
    """The store cannot do what was asked. One line: what, where, and what to do."""


class StoreUnusable(StoreError):  # noqa: N818  # what it is, as with LockHeld
    """It cannot be used as things are, and is as good as before once that is over: a full disk, a lock."""


class StoreDamaged(StoreError):  # noqa: N818
    """What it says cannot be believed. It was left as it is."""

    def __init__(self, path: Path, detail: str) -> None:
        self.what = f"store {path} is damaged ({' '.join(ascii(detail)[1:-1].split())[:_LONGEST]})"
        super().__init__(
            f"{self.what} and was left as it is: restore a copy of it, or run `dm-reconciler doctor --fix --manifests DIR "
            f"--state-dir {path.parent}`, which keeps it aside and rebuilds it from the pools"
        )


def contradiction(subject: object, problem: str) -> StoreError:
    """A step that cannot follow from what is known: a mistake in the plan, stopped before it has an effect."""
    return StoreError(f"{subject}: {problem}; nothing was done, please report this with the last events")


def damaged(path: Path, detail: str) -> StoreDamaged:
    return StoreDamaged(path, detail)


def explain(path: Path, error: sqlite3.Error) -> StoreError:
    # Extended codes carry the plain one in their lowest byte.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # Text that is no UTF-8 comes without a code.
    if code in _DAMAGED or (not code and isinstance(error, sqlite3.OperationalError)):
        return damaged(path, str(error))
    if code in _NEXT:
        return StoreUnusable(f"store {path}: {error}: {_NEXT[code]}")
    if code == sqlite3.SQLITE_CONSTRAINT:
        return StoreError(f"store {path}: {error}: {_CONTRADICTION}")
    return StoreError(f"store {path}: {error}; please report this")
