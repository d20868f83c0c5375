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
    sqlite3.SQLITE_CONSTRAINT: "it refuses what contradicts itself; please report this, with the events before it",
}
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


class StoreError(Exception):
    """The store cannot do what was asked. One line: what, where, and what to do."""


def contradiction(subject: object, problem: str) -> StoreError:
    """A step that cannot follow from what is known: a mistake in the plan, stopped before it has an effect."""
    return StoreError(f"{subject}: {problem}; nothing was done, please report this with the last events")


def damaged(path: Path, detail: str) -> StoreError:
    return StoreError(
        f"store {path} is damaged ({detail}) and was left as it is: restore a copy of it, or move it away and see "
        "what `dm-reconciler doctor --fix --manifests DIR` can rebuild from the pools"
    )


def explain(path: Path, error: sqlite3.Error) -> StoreError:
    # Extended codes carry the plain one in their lowest byte.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # Text that is no UTF-8 comes without a code.
    if code in _DAMAGED or (not code and isinstance(error, sqlite3.OperationalError)):
        return damaged(path, str(error))
    if code in _NEXT:
        return StoreError(f"store {path}: {error}: {_NEXT[code]}")
    return StoreError(f"store {path}: {error}; please report this")
