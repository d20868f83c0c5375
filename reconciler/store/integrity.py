"""Is this file a store, is it whole, and is it ours alone: looked at before anything is believed or written."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Final

from reconciler.store.errors import StoreError, damaged
from reconciler.store.migrations import APPLICATION_ID, MIGRATIONS, migrate, version_of

BESIDE: Final = ("", "-wal", "-shm")
"""What SQLite adds to the file's name: the log of what is not in the file yet, and its index."""
_SMALLEST: Final = 512
_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def size_of(path: Path) -> int | None:
    """None: it is not there. Raises StoreError for what is no plain file of ours: opening a fifo would wait for ever."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise StoreError(f"{path} is {kind}, not a plain file: move it away, and put the store there")
    if found.st_uid not in {0, os.geteuid()}:
        raise StoreError(
            f"{path} belongs to user {found.st_uid}, who is neither root nor the one that runs this: run as that user, "
            f"or `chown {os.geteuid()} {path}`"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreError(f"{path} can be written to by others: `chmod go-w {path}`")
    return found.st_size


def check_kind(path: Path, connection: sqlite3.Connection) -> int:
    """The version of the store's tables."""
    # SQLite would take so short a file for an empty database.
    if (size_of(path) or 0) < _SMALLEST:
        raise damaged(path, "it is cut off")
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path} is not a store of dm-reconciler: give another directory with --state-dir")
    version = version_of(connection)
    if version > len(MIGRATIONS):
        raise StoreError(
            f"store {path} was written by a later version (its tables are version {version}, this one knows "
            f"{len(MIGRATIONS)}): install the later version again, or restore a copy from before"
        )
    if version < 1:
        raise damaged(path, f"its tables are version {version}")
    return version


def check_whole(path: Path, connection: sqlite3.Connection) -> None:
    """All of it, page by page, and that its tables are those of its version, and refer to what is there."""
    version = check_kind(path, connection)
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise damaged(path, str(found))
    if _columns(connection) != _expected(version):
        raise damaged(path, f"its tables are not those of version {version}")
    if connection.execute("SELECT 1 FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone():
        raise damaged(path, "it holds triggers or views, which no version has")
    lost = connection.execute("PRAGMA foreign_key_check").fetchone()
    if lost is not None:
        raise damaged(path, f"a row of {lost[0]} refers to one of {lost[2]} that is not there")


@cache
def _expected(version: int) -> Mapping[str, tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, MIGRATIONS[:version])
        return _columns(connection)


def _columns(connection: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    """Of each table. SQLite's own (of ANALYZE, say) do not count."""
    rows = connection.execute(
        "SELECT tables.name, columns.name FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns "
        "WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY tables.name, columns.cid"
    ).fetchall()
    found: dict[str, tuple[str, ...]] = {}
    for table, column in rows:
        found[table] = (*found.get(table, ()), column)
    return found
