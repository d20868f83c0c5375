"""The store's file: opened as SQLite, made whole or not at all, kept aside; and its errors in words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from reconciler.store.errors import StoreUnusable, damaged, explain, explain_os
from reconciler.store.integrity import beside, size_of
from reconciler.store.migrations import APPLICATION_ID, migrate

NAME: Final = "state.db"
_BUSY_SECONDS: Final = 5.0
_LOG_LIMIT: Final = 4 * 1024**2


@contextmanager
def translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise explain(path, error) from error
    except OSError as error:
        raise StoreUnusable(f"store {path}: {explain_os(path, error)}") from error


def connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def tune(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT}")


def make(path: Path, first_rows: Callable[[sqlite3.Connection], None]) -> None:
    """Under another name first: killed in the middle, nothing is there, and an empty file is never mistaken for new."""
    log = beside(path, "-wal")
    if size_of(log):
        raise damaged(path, f"it is gone, and its log {log.name} is still there")
    new = _cleared(beside(path, ".new"))
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(connect(new, "rw")) as connection:
        tune(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection)
        first_rows(connection)
        # The log does not come along under the other name: all of it must be in the file, which closing only tries.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    new.rename(path)
    flush_directory(path.parent)


def keep_copy(path: Path, connection: sqlite3.Connection, version: int) -> None:
    """As it is before it is brought up to date, for going back to the version of the program that wrote it."""
    new = _cleared(beside(path, ".new"))
    connection.execute("VACUUM INTO ?", (str(new),))
    new.chmod(0o600)
    with new.open("rb") as file:
        os.fsync(file.fileno())
    new.rename(beside(path, f".version-{version}"))
    flush_directory(path.parent)


def flush_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _cleared(new: Path) -> Path:
    """What somebody who was killed left under the name goes first."""
    for left in new.parent.glob(f"{new.name}*"):
        left.unlink()
    return new
