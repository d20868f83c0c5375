"""What was found and done, newest last. Repeats are counted, and the oldest make room."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2s
from json import dumps
from typing import Any, Final

from reconciler.model.conditions import Event
from reconciler.model.names import Key
from reconciler.store.codec import encode
from reconciler.store.database import Database

REPEAT_SECONDS: Final = 600.0
KEPT: Final = 10_000


class EventLog:
    """The table of events. Told after the fact, so nothing waits for the disk."""

    def __init__(self, db: Database, *, kept: int = KEPT) -> None:
        self._db = db
        self._kept = kept

    def add(self, event: Event) -> None:
        """A repeat takes the place of the one before, counted, under a new revision: so followers see it too."""
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
        """Oldest first: the first `limit` after a revision, or the last `limit` of all."""
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
            # A clock that was put back a little makes no new event; one that was put back far does.
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
