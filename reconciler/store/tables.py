"""The tables of the store: thin ids and intents, events, the last good records, statuses, and reserved metadata
snapshots.

What is stored of pools is loaded at once, and only differences are written. Statuses are found anew after a restart, so
nothing waits for them to be on disk.

A pool has at most one metadata snapshot, and nothing in the pool tells who reserved it. So the store notes durably that
one is about to be reserved, and removes the note once it is seen to be released. After a crash in between, the next
scan releases it. A snapshot without such a note belongs to another program, and stays.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2s
from json import dumps
from typing import Any, Final, TypeVar

from reconciler.model.conditions import DeviceStatus, Event, PoolStatusReport, Status
from reconciler.model.names import Key
from reconciler.model.stored import Intent, StoredDevice, StoredPool
from reconciler.store.codec import encode, parse
from reconciler.store.database import Database
from reconciler.store.errors import damaged
from reconciler.store.integrity import problem_of
from reconciler.store.transitions import IdOwner, IdUse, StoredPoolState

REPEAT_SECONDS: Final = 600.0
KEPT: Final = 10_000


class EventLog:
    """The table of events. Events describe what has happened already, so nothing waits for them to be on disk."""

    def __init__(self, db: Database, *, kept: int = KEPT) -> None:
        self._db = db
        self._kept = kept

    def add(self, event: Event) -> None:
        """Adds an event. A repeat replaces the earlier one, with a higher count and a new revision for followers."""
        fingerprint = _fingerprint(event)
        with self._db.transaction(durable=False) as connection:
            before = self._before(fingerprint, event.time)
            if before is not None:
                revision, former = before
                connection.execute("DELETE FROM events WHERE revision = ?", (revision,))
                event = replace(event, first=former.first, count=former.count + event.count)
            elif not event.first:
                event = replace(event, first=event.time)
            connection.execute(
                "INSERT INTO events (pool, device, fingerprint, body) VALUES (?, ?, ?, ?)",
                (event.key.pool, event.key.device, fingerprint, encode(event)),
            )
            if before is None:
                self._make_room(connection.execute)

    def read(self, after: int | None, key: Key | None, limit: int) -> list[tuple[int, Event]]:
        """Events, oldest first: the first `limit` after the revision `after`, or else the last `limit` of all."""
        where = ["revision > ?"]
        values: list[Any] = [-1 if after is None else after]
        if key is not None:
            where.append("pool = ? AND device = ?")
            values += [key.pool, key.device]
        order = "DESC" if after is None else "ASC"
        rows = self._db.read(
            f"SELECT revision, body FROM events WHERE {' AND '.join(where)} ORDER BY revision {order} LIMIT ?",  # noqa: S608  # of constants
            (*values, limit),
        )
        return sorted(((revision, self._db.decoded(Event, body)) for revision, body in rows), key=lambda row: row[0])

    def _before(self, fingerprint: str, time: float) -> tuple[int, Event] | None:
        rows = self._db.read(
            "SELECT revision, body FROM events WHERE fingerprint = ? ORDER BY revision DESC LIMIT 1", (fingerprint,)
        )
        for revision, body in rows:
            former = self._db.decoded(Event, body)
            # A clock that was set back a little starts no new event; one that was set back far does.
            if abs(time - former.time) <= REPEAT_SECONDS:
                return int(revision), former
        return None

    def _make_room(self, execute: Any) -> None:
        (count,) = execute("SELECT count(*) FROM events").fetchone()
        if count > self._kept:
            execute(
                "DELETE FROM events WHERE revision IN (SELECT revision FROM events ORDER BY revision LIMIT ?)",
                (count - self._kept,),
            )


def _fingerprint(event: Event) -> str:
    said = dumps([event.key.pool, event.key.device, event.type, event.reason, event.message])
    return blake2s(said.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class LastGoodRecord:
    """One record and where it was read. Its spec is text here; the model gives it its meaning."""

    key: Key
    kind: str
    spec_json: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class LastGoodRecords:
    """A set of records, in the order in which it was saved."""

    records: tuple[LastGoodRecord, ...]
    digest: str
    loaded_at: float
    """When the set was loaded, in wall-clock seconds."""


@dataclass(frozen=True, slots=True)
class _Set:
    digest: str
    loaded_at: float


_META = "manifests"


def save_last_good(db: Database, records: Sequence[LastGoodRecord], digest: str, loaded_at: float) -> None:
    """Replaces the last good set, completely or not at all."""
    rows = [(number, one.key.pool, one.key.device, encode(one)) for number, one in enumerate(records)]
    with db.transaction() as connection:
        connection.execute("DELETE FROM manifests")
        connection.executemany("INSERT INTO manifests (position, pool, device, body) VALUES (?, ?, ?, ?)", rows)
        connection.execute(
            "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (_META, encode(_Set(digest, loaded_at)))
        )


def load_last_good(db: Database) -> LastGoodRecords | None:
    """The last good set; None if there never was one."""
    with db.snapshot():
        meta = db.read("SELECT value FROM meta WHERE name = ?", (_META,))
        rows = db.read("SELECT body FROM manifests ORDER BY position")
    if not meta:
        return None
    saved = db.decoded(_Set, meta[0][0])
    records = tuple(db.decoded(LastGoodRecord, body) for (body,) in rows)
    for record in records:
        if not _is_record(record):
            raise damaged(db.path, f"what it holds as the record of {record.key} is none")
    return LastGoodRecords(records, saved.digest, saved.loaded_at)


def _is_record(stored: LastGoodRecord) -> bool:
    try:
        return stored.kind == stored.key.kind and isinstance(parse(stored.spec_json), dict)
    except ValueError:
        return False


_KINDS: Final[dict[str, type[Status]]] = {kind.__name__: kind for kind in (Status, DeviceStatus, PoolStatusReport)}


def load_statuses(db: Database) -> dict[Key, Status]:
    rows = db.read("SELECT kind, body FROM statuses ORDER BY pool, device")
    statuses = (_status(db, kind, body) for kind, body in rows)
    return {status.key: status for status in statuses}


def put_statuses(db: Database, statuses: Iterable[Status]) -> None:
    rows = [(status.key.pool, status.key.device, type(status).__name__, encode(status)) for status in statuses]
    with db.transaction(durable=False) as connection:
        connection.executemany("INSERT OR REPLACE INTO statuses (pool, device, kind, body) VALUES (?, ?, ?, ?)", rows)


def drop_statuses(db: Database, keys: Iterable[Key]) -> None:
    with db.transaction(durable=False) as connection:
        connection.executemany(
            "DELETE FROM statuses WHERE pool = ? AND device = ?", [(key.pool, key.device) for key in keys]
        )


def _status(db: Database, kind: str, body: str) -> Status:
    if kind not in _KINDS:
        raise damaged(db.path, f"a status of kind {kind}")
    return db.decoded(_KINDS[kind], body)


_PREFIX: Final = "metadata_snapshot_of:"


class Reserved:
    """The notes of reserved metadata snapshots, of all pools."""

    def __init__(self, db: Database) -> None:
        self._db = db
        rows = db.read("SELECT name FROM meta WHERE substr(name, 1, ?) = ?", (len(_PREFIX), _PREFIX))
        self._pools = {str(name).removeprefix(_PREFIX) for (name,) in rows}

    def __contains__(self, pool: str) -> bool:
        return pool in self._pools

    def note(self, pool: str, *, reserved: bool) -> None:
        """Notes whether a snapshot is reserved; the note is on disk when this returns."""
        if reserved == (pool in self._pools):
            return
        with self._db.lock:
            with self._db.transaction() as connection:
                if reserved:
                    connection.execute("INSERT INTO meta (name, value) VALUES (?, '')", (_PREFIX + pool,))
                else:
                    connection.execute("DELETE FROM meta WHERE name = ?", (_PREFIX + pool,))
            (self._pools.add if reserved else self._pools.discard)(pool)


K = TypeVar("K")
V = TypeVar("V")


def load_ledger(db: Database) -> dict[str, StoredPoolState]:
    devices: defaultdict[str, dict[str, StoredDevice]] = defaultdict(dict)
    ids: defaultdict[str, dict[int, IdOwner]] = defaultdict(dict)
    with db.snapshot():
        for pool, device, thin_id, body in db.read("SELECT pool, device, thin_id, body FROM devices"):
            devices[pool][device] = known = db.decoded(StoredDevice, body)
            if known.thin_id != thin_id:
                raise damaged(db.path, f"device {pool}/{device} has thin id {thin_id}, and {known.thin_id}")
        for pool, thin_id, held_as, device, created_at in db.read(
            "SELECT pool, thin_id, held_as, device, created_at FROM thin_ids"
        ):
            ids[pool][thin_id] = _holder(db, held_as, device, created_at)
        intents = {pool: db.decoded(Intent, body) for pool, body in db.read("SELECT pool, body FROM intents")}
        pools = {
            pool: StoredPoolState(db.decoded(StoredPool, body), devices[pool], intents.get(pool), ids[pool], last)
            for pool, last, body in db.read("SELECT pool, last_thin_id, body FROM pools")
        }
    for pool, known_pool in pools.items():
        if problem := problem_of(pool, known_pool):
            raise damaged(db.path, problem)
    return pools


def _holder(db: Database, held_as: str, device: str, created_at: int | None) -> IdOwner:
    try:
        return IdOwner(IdUse(held_as), device, created_at)
    except ValueError as error:
        raise damaged(db.path, str(error)) from error


def write_ledger(connection: sqlite3.Connection, pool: str, before: StoredPoolState, now: StoredPoolState) -> None:
    """Writes the difference within the caller's transaction, at whose end foreign keys are checked:
    any order will do.
    """
    _write_pool(connection, pool, before, now)
    _write_ids(connection, pool, before.ids, now.ids)
    _write_devices(connection, pool, before.devices, now.devices)
    _write_intent(connection, pool, before.intent, now.intent)


def _write_pool(connection: sqlite3.Connection, pool: str, before: StoredPoolState, now: StoredPoolState) -> None:
    if now.pool is None:
        connection.execute("DELETE FROM pools WHERE pool = ?", (pool,))
    elif (now.pool, now.last_thin_id) != (before.pool, before.last_thin_id):
        connection.execute(
            "INSERT INTO pools (pool, last_thin_id, body) VALUES (?, ?, ?) "
            "ON CONFLICT (pool) DO UPDATE SET last_thin_id = excluded.last_thin_id, body = excluded.body",
            (pool, now.last_thin_id, encode(now.pool)),
        )


def _write_ids(
    connection: sqlite3.Connection, pool: str, before: Mapping[int, IdOwner], now: Mapping[int, IdOwner]
) -> None:
    """Inserts new ids without replacing, so that the schema refuses an id that is not free after all."""
    for thin_id in before.keys() - now.keys():
        connection.execute("DELETE FROM thin_ids WHERE pool = ? AND thin_id = ?", (pool, thin_id))
    for thin_id, holder in _changed(before, now):
        connection.execute(
            "UPDATE thin_ids SET held_as = ?, device = ?, created_at = ? WHERE pool = ? AND thin_id = ?"
            if thin_id in before
            else "INSERT INTO thin_ids (held_as, device, created_at, pool, thin_id) VALUES (?, ?, ?, ?, ?)",
            (holder.held_as.value, holder.device, holder.created_at, pool, thin_id),
        )


def _write_devices(
    connection: sqlite3.Connection, pool: str, before: Mapping[str, StoredDevice], now: Mapping[str, StoredDevice]
) -> None:
    for name in before.keys() - now.keys():
        connection.execute("DELETE FROM devices WHERE pool = ? AND device = ?", (pool, name))
    for name, device in _changed(before, now):
        connection.execute(
            "INSERT INTO devices (pool, device, thin_id, body) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (pool, device) DO UPDATE SET thin_id = excluded.thin_id, body = excluded.body",
            (pool, name, device.thin_id, encode(device)),
        )


def _write_intent(connection: sqlite3.Connection, pool: str, before: Intent | None, now: Intent | None) -> None:
    if now == before:
        return
    connection.execute("DELETE FROM intents WHERE pool = ?", (pool,))
    if now is not None:
        connection.execute(
            "INSERT INTO intents (pool, thin_id, body) VALUES (?, ?, ?)", (pool, now.thin_id, encode(now))
        )


def _changed(before: Mapping[K, V], now: Mapping[K, V]) -> list[tuple[K, V]]:
    """The items that changed, compared by identity: each step makes one new value, and a pool may have thousands."""
    return [(key, value) for key, value in now.items() if (old := before.get(key)) is not value and old != value]
