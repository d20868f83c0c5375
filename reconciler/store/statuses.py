"""The last status of each record. Written often and found anew after a restart, so nothing waits for the disk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from reconciler.model.conditions import DeviceStatus, PoolStatusReport, Status
from reconciler.model.names import Key
from reconciler.store.codec import encode
from reconciler.store.database import Database
from reconciler.store.errors import damaged

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
