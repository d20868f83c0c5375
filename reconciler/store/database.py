"""The SQLite file: made whole or not at all, checked before it is written to, one connection for all threads."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, Final, TypeVar
from urllib.parse import quote

from reconciler.store.errors import StoreError, damaged, explain
from reconciler.store.rows import Data, decode
from reconciler.store.schema import APPLICATION_ID, MIGRATIONS, migrate, version_of

NAME: Final = "state.db"
_BUSY_SECONDS: Final = 5.0
_LOG_LIMIT: Final = 4 * 1024**2
_SMALLEST: Final = 512
T = TypeVar("T", bound=Data)


class Database:
    """An open store. Whoever uses the connection holds `lock`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self.lock = RLock()
        self._connection = connection
        self._durable = True

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows at once: a half-read cursor would keep the log from being folded into the file."""
        with self.lock, translated(self.path):
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read inside is of one moment, whatever the daemon writes meanwhile."""
        with self.lock, translated(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.rollback()

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; on disk before it returns, unless `durable` is given up for speed."""
        if self.read_only:
            raise StoreError(
                f"store {self.path} was opened for reading only: only `run`, `apply` and the like write it"
            )
        with self.lock, translated(self.path):
            self._set_durable(durable)
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.rollback()

    def decoded(self, kind: type[T], text: str) -> T:
        try:
            return decode(kind, text)
        except ValueError as error:
            raise damaged(self.path, str(error)) from error

    def version(self) -> int:
        """Changes whenever another process has written."""
        return int(self.read("PRAGMA data_version")[0][0])

    def close(self) -> None:
        with self.lock, translated(self.path):
            self._connection.close()

    def _set_durable(self, durable: bool) -> None:
        # FULL flushes the log at each commit, NORMAL leaves it to the next one that does.
        if durable != self._durable:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable


@contextmanager
def translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise explain(path, error) from error
    except OSError as error:
        raise StoreError(
            f"store {path}: {error.strerror}: run as the user that the daemon runs as, on a writable filesystem with room"
        ) from error


def open_for_writing(path: Path, first_rows: Callable[[sqlite3.Connection], None]) -> Database:
    """Open it, and make it with `first_rows` where there is none."""
    with translated(path):
        if _size(path) is None:
            _make(path, first_rows)
        _check_untouched(path)
        connection = _connect(path, "rw")
        try:
            _tune(connection)
            migrate(connection)
            # A file that cannot be written to is opened all the same, and would fail in the middle of something.
            connection.executescript("BEGIN IMMEDIATE; ROLLBACK;")
        except BaseException:
            connection.close()
            raise
    return Database(path, connection, read_only=False)


def open_for_reading(path: Path) -> Database:
    """Open it beside a running daemon."""
    with translated(path):
        if _size(path) is None:
            raise StoreError(f"there is no store {path} yet: start `dm-reconciler run`, or give its --state-dir")
        connection = _connect(path, "ro")
        try:
            _check_current(path, connection)
        except BaseException:
            connection.close()
            raise
    return Database(path, connection, read_only=True)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _tune(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT}")


def _make(path: Path, first_rows: Callable[[sqlite3.Connection], None]) -> None:
    """Under another name first: killed in the middle, nothing is there, and an empty file is never mistaken for new."""
    log = path.with_name(path.name + "-wal")
    if _size(log):
        raise StoreError(f"store {path} is gone, its log {log} is still there: restore both, or move the log away")
    new = path.with_name(path.name + ".new")
    for left in path.parent.glob(new.name + "*"):
        left.unlink()
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(_connect(new, "rw")) as connection:
        _tune(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection)
        first_rows(connection)
        # The log does not come along under the other name: all of it must be in the file, which closing only tries.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    new.rename(path)
    _flush_directory(path.parent)


def _size(path: Path) -> int | None:
    """None: it is not there. Path.exists takes one that may not be looked at for missing."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _flush_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _check_untouched(path: Path) -> None:
    """Look at the whole file through a connection that cannot write, so that a damaged one stays as it is."""
    with closing(_connect(path, "ro")) as connection:
        _check_kind(path, connection)
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise damaged(path, " ".join(str(found).split()))


def _check_current(path: Path, connection: sqlite3.Connection) -> None:
    if _check_kind(path, connection) < len(MIGRATIONS):
        raise StoreError(f"store {path} is of an earlier version: start `dm-reconciler run` once, it converts it")


def _check_kind(path: Path, connection: sqlite3.Connection) -> int:
    """The version of the store's tables."""
    # SQLite would take so short a file for an empty database.
    if (_size(path) or 0) < _SMALLEST:
        raise damaged(path, "it is cut off")
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path} is not a store of dm-reconciler: give another directory with --state-dir")
    version = version_of(connection)
    if version > len(MIGRATIONS):
        raise StoreError(
            f"store {path} was written by a later version (its tables are version {version}, this one knows "
            f"{len(MIGRATIONS)}): install the later version again, or restore a copy from before"
        )
    return version
