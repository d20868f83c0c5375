"""Whose metadata snapshot a pool holds: a pool has one at a time, and nothing in it tells who reserved it.

So that it will be reserved is flushed before, and taken back once it is seen to be released: after a crash between the
two the next look releases it. One that is held without such a note is another program's, and stays.
"""

from __future__ import annotations

from typing import Final

from reconciler.store.database import Database

_PREFIX: Final = "metadata_snapshot_of:"


class Reserved:
    """Of all pools of a store."""

    def __init__(self, db: Database) -> None:
        self._db = db
        rows = db.read("SELECT name FROM meta WHERE substr(name, 1, ?) = ?", (len(_PREFIX), _PREFIX))
        self._pools = {str(name).removeprefix(_PREFIX) for (name,) in rows}

    def __contains__(self, pool: str) -> bool:
        return pool in self._pools

    def note(self, pool: str, *, reserved: bool) -> None:
        """On disk when this returns."""
        if reserved == (pool in self._pools):
            return
        with self._db.lock:
            with self._db.transaction() as connection:
                if reserved:
                    connection.execute("INSERT INTO meta (name, value) VALUES (?, '')", (_PREFIX + pool,))
                else:
                    connection.execute("DELETE FROM meta WHERE name = ?", (_PREFIX + pool,))
            (self._pools.add if reserved else self._pools.discard)(pool)
