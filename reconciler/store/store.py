"""The store: the interface that the rest of the project uses."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

from reconciler.model.conditions import Event, Status
from reconciler.model.names import Key, is_store_id
from reconciler.model.steps import SaveDevice, StoreStep
from reconciler.model.stored import ForgottenThin, Intent, StoredDevice, StoredPool
from reconciler.store import database, transitions
from reconciler.store.database import Database
from reconciler.store.errors import StoreError, damaged
from reconciler.store.lock import check_directory, make_directory
from reconciler.store.quarantine import recall_id
from reconciler.store.tables import (
    KEPT,
    EventLog,
    LastGoodRecord,
    LastGoodRecords,
    Reserved,
    drop_statuses,
    load_last_good,
    load_ledger,
    load_statuses,
    put_statuses,
    save_last_good,
    write_ledger,
)
from reconciler.store.transitions import IdUse, StoredPoolState

_NOTHING: Final = StoredPoolState()
_INSTEAD_OF: Final = "instead_of"


@dataclass(frozen=True, slots=True)
class Contents:
    """The content of an open store that is kept in memory."""

    store_id: str
    known: dict[str, StoredPoolState]
    statuses: dict[Key, Status]


class Store:
    """The store. Opened with `open` by the one process that holds the StateLock, or with `open_read_only` by any.

    It is thread-safe. What is stored is also kept in memory, so that a pass needs no SQL and waits for no flush.
    """

    def __init__(self, db: Database, wall_clock: Callable[[], float], store_id: str) -> None:
        """Used only by `open` and `open_read_only`, which then fill the object."""
        self._db = db
        self._wall_clock = wall_clock
        self._events = EventLog(db)
        self.reserved = Reserved(db)
        """The pools of which this store may hold a metadata snapshot."""
        self._known: Mapping[str, StoredPoolState] = {}
        self._statuses: dict[Key, Status] = {}
        self._version: int | None = None
        self._store_id = store_id

    @classmethod
    def open(cls, directory: Path, *, wall_clock: Callable[[], float], instead_of: Path | None = None) -> Self:
        """Opens the store for writing, and creates it if it is missing. The caller holds the directory's StateLock.

        `instead_of` is a damaged store that a new one replaces. The new one gets its id, because devices with that id
        belong to the same installation.
        """
        make_directory(directory)

        def first_rows(connection: sqlite3.Connection) -> None:
            store_id = (instead_of and recall_id(instead_of)) or secrets.token_hex(16)
            rows = [("store_id", store_id), ("created_at", repr(wall_clock()))]
            rows += [(_INSTEAD_OF, instead_of.name)] if instead_of is not None else []
            connection.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", rows)

        db, contents = database.open_for_writing(directory / database.NAME, first_rows, _all_contents)
        return cls._of_contents(db, wall_clock, contents)

    @classmethod
    def open_read_only(cls, directory: Path) -> Self:
        """Opens the store beside the daemon. Every read returns what the daemon has written by then."""
        check_directory(directory)
        db = database.open_for_reading(directory / database.NAME)
        try:
            return cls._of_contents(db, lambda: 0.0, _contents(db))
        except BaseException:
            db.close()
            raise

    @staticmethod
    def examine(directory: Path) -> None:
        """Raises StoreError for a store that `open` would refuse. It changes nothing and needs no lock."""
        check_directory(directory)
        database.examine(directory / database.NAME, _all_contents)

    @property
    def trouble(self) -> StoreError | None:
        """Why an attempt to write failed; None once `try_again` finds that one works. No device is
        changed meanwhile.
        """
        return self._db.trouble

    @property
    def read_only(self) -> bool:
        return self._db.read_only

    def try_again(self) -> None:
        """Tests whether the store can be written to again, after an attempt that failed."""
        self._db.try_again()

    @property
    def store_id(self) -> str:
        return self._store_id

    @property
    def instead_of(self) -> Path | None:
        """The damaged store that this one replaced. Its content may concern pools that this store does not know."""
        rows = self._db.read("SELECT value FROM meta WHERE name = ?", (_INSTEAD_OF,))
        return self._db.path.with_name(Path(str(rows[0][0])).name) if rows else None

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What is known of pools and devices.

    def known_pools(self) -> Mapping[str, StoredPool]:
        return {name: known.pool for name, known in self._all().items() if known.pool is not None}

    def knowledge(self, pool: str) -> object:
        """An object that is replaced whenever what is stored of the pool changes, so that derived
        values can be cached.
        """
        return self._of(pool)

    def known_pool(self, name: str) -> StoredPool | None:
        return self._of(name).pool

    def known_devices(self, pool: str) -> Mapping[str, StoredDevice]:
        """The pool's devices by name, as they are now. The mapping does not change with later steps."""
        return MappingProxyType(self._of(pool).devices)

    def intents(self, pool: str) -> tuple[Intent, ...]:
        """The pool's open intents; there is one at most."""
        intent = self._of(pool).intent
        return () if intent is None else (intent,)

    def taken(self, pool: str) -> frozenset[int]:
        """Ids that are never handed out though no device has them: those of other programs and of forgotten devices."""
        return frozenset(number for number, held in self._of(pool).ids.items() if held.held_as is IdUse.TAKEN)

    def former(self, pool: str) -> Mapping[int, ForgottenThin]:
        """Thins that this store made and then forgot, by id. Whether they still exist only the pool can say."""
        return {
            number: ForgottenThin(number, held.device, held.created_at)
            for number, held in self._of(pool).ids.items()
            if held.held_as is IdUse.TAKEN and held.created_at is not None
        }

    def left_by(self, pool: str, device: str) -> Mapping[int, int | None]:
        """The thin ids that a forgotten device of this name had, each with its creating transaction, if known."""
        return {
            number: held.created_at
            for number, held in self._of(pool).ids.items()
            if held.held_as is IdUse.TAKEN and held.device == device
        }

    def free_thin_id(self, pool: str, also_taken: Container[int] = ()) -> int:
        """A free id, which `BeginIntent` can reserve."""
        thin_id = transitions.free_thin_id(self._of(pool), also_taken)
        if thin_id is None:
            raise StoreError(f"pool {pool} has no thin id left: delete devices that nobody needs")
        return thin_id

    def apply(self, step: StoreStep) -> None:
        """Carries out the step, which is on disk when this returns."""
        pool = step.key.pool
        with self._db.lock:
            before = self._of(pool)
            now = transitions.after(before, step)
            with self._db.transaction() as connection:
                write_ledger(connection, pool, before, now)
            self._known = {**self._known, pool: now}

    def set_gone(self, key: Key, at: float | None) -> None:
        """Notes since when no record names this device, in wall-clock seconds, or None. Unknown devices are ignored."""
        with self._db.lock:
            device = self._of(key.pool).devices.get(key.device)
            if device is not None and device.gone_since != at:
                self.apply(SaveDevice(key, replace(device, gone_since=at)))

    # The last good set of records.

    def save_records(self, records: Sequence[LastGoodRecord], digest: str) -> None:
        save_last_good(self._db, records, digest, self._wall_clock())

    def load_records(self) -> LastGoodRecords | None:
        """The last good set; None if there never was one."""
        return load_last_good(self._db)

    # Statuses and events.

    def put_statuses(self, new: Iterable[Status]) -> None:
        """Writes those statuses that have changed."""
        with self._db.lock:
            changed = [status for status in new if self._statuses.get(status.key) != status]
            if changed:
                put_statuses(self._db, changed)
                self._statuses.update((status.key, status) for status in changed)

    def drop_statuses(self, keys: Iterable[Key]) -> None:
        with self._db.lock:
            dropped = [key for key in keys if key in self._statuses]
            if dropped:
                drop_statuses(self._db, dropped)
                for key in dropped:
                    self._statuses.pop(key, None)

    def statuses(self) -> dict[Key, Status]:
        """All statuses by key: pools before their devices, in the order of their names."""
        return load_statuses(self._db)

    def add_event(self, event: Event) -> None:
        """Adds an event. A repeat within 10 minutes increments the count of the earlier one, under a new revision."""
        self._events.add(event)

    def events(self, after: int | None = None, key: Key | None = None, limit: int = 1000) -> list[tuple[int, Event]]:
        """Events with revisions, oldest first: the first `limit` after the revision `after`, or
        else the last `limit`.
        """
        return self._events.read(after, key, limit)

    @classmethod
    def _of_contents(cls, db: Database, wall_clock: Callable[[], float], contents: Contents) -> Self:
        store = cls(db, wall_clock, contents.store_id)
        store._known, store._statuses = contents.known, contents.statuses
        return store

    def _of(self, pool: str) -> StoredPoolState:
        return self._all().get(pool, _NOTHING)

    def _all(self) -> Mapping[str, StoredPoolState]:
        if not self._db.read_only:
            return self._known
        with self._db.lock:
            version = self._db.version()
            if version != self._version:
                self._known, self._version = load_ledger(self._db), version
            return self._known


def _contents(db: Database) -> Contents:
    """Reads the content. Raises StoreDamaged if it is inconsistent."""
    return Contents(_read_id(db), load_ledger(db), load_statuses(db))


def _all_contents(db: Database) -> Contents:
    """Also reads what is otherwise read on demand, so that all of it is readable before the store is used."""
    load_last_good(db)
    EventLog(db).read(None, None, KEPT)
    return _contents(db)


def _read_id(db: Database) -> str:
    rows = db.read("SELECT value FROM meta WHERE name = 'store_id'")
    if not rows or not is_store_id(str(rows[0][0])):
        raise damaged(db.path, "it has no id")
    return str(rows[0][0])
