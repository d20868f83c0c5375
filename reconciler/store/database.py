"""The SQLite file: it is created completely or not at all, checked before it is written to, and read by all threads
through one connection.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Any, Final, TypeVar
from urllib.parse import quote

from reconciler.store.codec import Data, decode
from reconciler.store.errors import StoreError, StoreUnusable, damaged, explain, explain_os
from reconciler.store.integrity import BESIDE, beside, check_kind, check_whole, size_of
from reconciler.store.migrations import APPLICATION_ID, MIGRATIONS, migrate, version_of

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
    """Creates the file under another name and renames it when complete, so that a crash leaves no empty store."""
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
        # The WAL is not renamed along with the file, so everything must be in the file, which closing alone does not
        # guarantee.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    new.rename(path)
    flush_directory(path.parent)


def keep_copy(path: Path, connection: sqlite3.Connection, version: int) -> None:
    """Copies the database before a migration, so that the program version that wrote it can be used again."""
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
    """The path, after removing what an interrupted attempt left there."""
    for left in new.parent.glob(f"{new.name}*"):
        left.unlink()
    return new


__all__ = ["NAME", "Database", "examine", "open_for_reading", "open_for_writing"]

_ROOM: Final = 256 * 1024
"""Bytes that a few large transactions take."""
T = TypeVar("T", bound=Data)
L = TypeVar("L")


class Database:
    """An open store. Whoever uses the connection must hold `lock`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self.lock = RLock()
        self.trouble: StoreUnusable | None = None
        """Why an attempt to write failed; None once `try_again` finds that one works."""
        self._connection = connection
        self._durable = True
        self._identities = _identities(path)

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """Reads all rows at once, because an open cursor would keep the WAL from being checkpointed."""
        with self.lock, translated(self.path):
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see the same moment, whatever the daemon writes meanwhile."""
        with self.lock, translated(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.rollback()

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it or nothing, and on disk when it returns, unless `durable` is False for speed."""
        if self.read_only:
            raise StoreError(
                f"store {self.path} was opened for reading only: only `run`, `apply` and the like write it"
            )
        with self.lock, self._noting_trouble(), translated(self.path):
            self._check_place()
            self._set_durable(durable)
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.rollback()

    def try_again(self) -> None:
        """After a failed write, tests whether there is space for more than a small transaction."""
        if self.trouble is None:
            return
        with suppress(StoreUnusable):
            with self.transaction() as connection:
                connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('room', zeroblob(?))", (_ROOM,))
            with self.transaction() as connection:
                connection.execute("DELETE FROM meta WHERE name = 'room'")
            self.trouble = None

    @contextmanager
    def _noting_trouble(self) -> Iterator[None]:
        try:
            yield
        except StoreUnusable as trouble:
            self.trouble = trouble
            raise

    def _check_place(self) -> None:
        """Checks that the file is in its place: what is written to a deleted or replaced file would be lost."""
        if _identities(self.path) != self._identities:
            raise StoreUnusable(
                f"store {self.path}: it, or its log, is gone or was replaced while in use: put back what was there, or "
                "stop the daemon, put the right store there, and start it again"
            )

    def decoded(self, kind: type[T], text: str) -> T:
        try:
            return decode(kind, text)
        except ValueError as error:
            raise damaged(self.path, str(error)) from error

    def version(self) -> int:
        """A number that changes whenever another process has written."""
        return int(self.read("PRAGMA data_version")[0][0])

    def is_replaced(self) -> bool:
        """Whether the file is gone or was replaced, so that what is read through this connection is outdated."""
        return _identity(self.path) != self._identities[0]

    def close(self) -> None:
        with self.lock, translated(self.path):
            self._connection.close()

    def _set_durable(self, durable: bool) -> None:
        # FULL flushes the WAL at each commit; NORMAL leaves it to the next commit that is FULL.
        if durable != self._durable:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable


def open_for_writing(
    path: Path, first_rows: Callable[[sqlite3.Connection], None], look: Callable[[Database], L]
) -> tuple[Database, L]:
    """Opens the store, or creates it with `first_rows`, and returns it with the result of `look`.

    It is first read through a connection that cannot write, so that a damaged store is left as it is.
    """
    with translated(path):
        if size_of(path) is None:
            make(path, first_rows)
        seen = _look_at(path, look)
        connection = connect(path, "rw")
        try:
            tune(connection)
            version = version_of(connection)
            if version < len(MIGRATIONS):
                keep_copy(path, connection, version)
                migrate(connection)
            # SQLite opens a file that cannot be written to as well, and the error would come in the middle of some
            # later work.
            connection.executescript("BEGIN IMMEDIATE; ROLLBACK;")
            database = Database(path, connection, read_only=False)
            return database, look(database) if seen is None else seen
        except BaseException:
            connection.close()
            raise


def examine(path: Path, look: Callable[[Database], object]) -> None:
    """Raises StoreError for a store that `open_for_writing` would refuse. May run at any time,
    beside the daemon too.
    """
    with translated(path):
        if size_of(path) is not None:
            _look_at(path, look)
        elif size_of(beside(path, "-wal")):
            raise damaged(path, f"it is gone, and its log {path.name}-wal is still there")


def open_for_reading(path: Path) -> Database:
    """Opens the store for reading, beside a running daemon."""
    with translated(path):
        if _size(path) is None:
            raise StoreError(f"there is no store {path} yet: start `dm-reconciler run`, or give its --state-dir")
        connection = connect(path, "ro")
        try:
            _check_current(path, connection)
        except BaseException:
            connection.close()
            raise
    return Database(path, connection, read_only=True)


def _check_current(path: Path, connection: sqlite3.Connection) -> None:
    if check_kind(path, connection) < len(MIGRATIONS):
        raise StoreError(f"store {path} is of an earlier version: start `dm-reconciler run` once, it converts it")


def _look_at(path: Path, look: Callable[[Database], L]) -> L | None:
    """The result of `look`. None for a sound store of an earlier version, which only the migrations can read."""
    _size(path)
    with closing(connect(path, "ro")) as connection:
        check_whole(path, connection)
        if version_of(connection) < len(MIGRATIONS):
            return None
        return look(Database(path, connection, read_only=True))


def _size(path: Path) -> int | None:
    for suffix in BESIDE[1:]:
        size_of(beside(path, suffix))
    return size_of(path)


def _identities(path: Path) -> tuple[tuple[int, int] | None, ...]:
    return tuple(_identity(beside(path, suffix)) for suffix in BESIDE)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
