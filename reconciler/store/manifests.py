"""The last good set of records, which is used while the manifests cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.model.names import Key
from reconciler.store.codec import encode, parse
from reconciler.store.database import Database
from reconciler.store.errors import damaged


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record, and where it was read. Its spec is text here: what it means is for the model."""

    key: Key
    kind: str
    spec_json: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class StoredRecords:
    """A set, in the order in which it was saved."""

    records: tuple[StoredRecord, ...]
    digest: str
    loaded_at: float
    """Wall-clock seconds."""


@dataclass(frozen=True, slots=True)
class _Set:
    digest: str
    loaded_at: float


_META = "manifests"


def save_last_good(db: Database, records: Sequence[StoredRecord], digest: str, loaded_at: float) -> None:
    """In place of the former set, wholly or not at all."""
    rows = [(number, one.key.pool, one.key.device, encode(one)) for number, one in enumerate(records)]
    with db.transaction() as connection:
        connection.execute("DELETE FROM manifests")
        connection.executemany("INSERT INTO manifests (position, pool, device, body) VALUES (?, ?, ?, ?)", rows)
        connection.execute(
            "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (_META, encode(_Set(digest, loaded_at)))
        )


def load_last_good(db: Database) -> StoredRecords | None:
    """None: no set was ever good."""
    with db.snapshot():
        meta = db.read("SELECT value FROM meta WHERE name = ?", (_META,))
        rows = db.read("SELECT body FROM manifests ORDER BY position")
    if not meta:
        return None
    saved = db.decoded(_Set, meta[0][0])
    records = tuple(db.decoded(StoredRecord, body) for (body,) in rows)
    for record in records:
        if not _is_record(record):
            raise damaged(db.path, f"what it holds as the record of {record.key} is none")
    return StoredRecords(records, saved.digest, saved.loaded_at)


def _is_record(stored: StoredRecord) -> bool:
    try:
        return stored.kind == stored.key.kind and isinstance(parse(stored.spec_json), dict)
    except ValueError:
        return False
