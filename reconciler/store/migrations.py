"""The tables, as numbered migrations. A released migration is never edited; a change is a new one at the end.

Only what is looked up, or is constrained by the schema, has columns of its own; `body` is the whole dataclass
(`codec`). There are no STRICT tables, no RETURNING and no JSON functions, because SQLite 3.34 is still in use.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

APPLICATION_ID: Final = 0x444D5201
"""Marks the file as a store of this project, for `file` and for the checks."""

_FIRST: Final = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- The last good set of records.
CREATE TABLE manifests (
    position INTEGER PRIMARY KEY,
    pool TEXT NOT NULL,
    device TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (pool, device)
);

CREATE TABLE pools (
    pool TEXT PRIMARY KEY,
    -- The id that was handed out last: a freed one is not used again at once, also not after a restart.
    last_thin_id INTEGER NOT NULL,
    body TEXT NOT NULL
) WITHOUT ROWID;

-- Every id that may not be handed out. The primary key is what keeps one from being handed out twice: rows are
-- inserted, never replaced.
CREATE TABLE thin_ids (
    pool TEXT NOT NULL REFERENCES pools DEFERRABLE INITIALLY DEFERRED,
    thin_id INTEGER NOT NULL CHECK (thin_id BETWEEN 0 AND 16777215),
    held_as TEXT NOT NULL CHECK (held_as IN ('device', 'intent', 'taken')),
    device TEXT NOT NULL,
    PRIMARY KEY (pool, thin_id),
    UNIQUE (pool, thin_id, device)
) WITHOUT ROWID;

CREATE TABLE devices (
    pool TEXT NOT NULL,
    device TEXT NOT NULL,
    thin_id INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (pool, device),
    -- A device has the id that is held for it, so no two have the same.
    FOREIGN KEY (pool, thin_id, device) REFERENCES thin_ids (pool, thin_id, device) DEFERRABLE INITIALLY DEFERRED
) WITHOUT ROWID;

-- One at a time in each pool: its transaction id counts them.
CREATE TABLE intents (
    pool TEXT PRIMARY KEY,
    thin_id INTEGER NOT NULL,
    body TEXT NOT NULL,
    FOREIGN KEY (pool, thin_id) REFERENCES thin_ids (pool, thin_id) DEFERRABLE INITIALLY DEFERRED
) WITHOUT ROWID;

CREATE TABLE statuses (
    pool TEXT NOT NULL,
    device TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (pool, device)
) WITHOUT ROWID;

-- AUTOINCREMENT, as a revision must never come back: readers go on after the last one that they have seen.
CREATE TABLE events (
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    pool TEXT NOT NULL,
    device TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX events_by_fingerprint ON events (fingerprint);
CREATE INDEX events_by_key ON events (pool, device);
"""

_CREATED_AT: Final = """
-- Of a thin that this store made and then forgot (held as taken, or being deleted): the pool's transaction id then.
-- NULL: it is that of a device, or of somebody else.
ALTER TABLE thin_ids ADD COLUMN created_at INTEGER;
"""

_SINCE_0_2_0: Final = """
-- No table changes: what 0.2.0 notes in `body` (the disks of a pool, what was taken over) 0.1.0 does not know, and would call
-- damaged. With a number of its own the store is of a later version to it, and a copy is kept for the way back.
"""

MIGRATIONS: Final[tuple[str, ...]] = (_FIRST, _CREATED_AT, _SINCE_0_2_0)


def version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Brings the tables up to date. Each migration is applied completely, with its number, or not at all."""
    for number, script in enumerate(migrations, start=1):
        if number <= version_of(connection):
            continue
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")
        finally:
            if connection.in_transaction:
                connection.rollback()
