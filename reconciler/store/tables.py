"""What is known of the pools, in its tables: all is loaded at once, and of each change only the difference is written."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from typing import TypeVar

from reconciler.model.stored import Intent, KnownDevice, KnownPool
from reconciler.store.codec import encode
from reconciler.store.database import Database
from reconciler.store.errors import damaged
from reconciler.store.soundness import problem_of
from reconciler.store.transitions import HeldAs, Holder, PoolKnowledge

K = TypeVar("K")
V = TypeVar("V")


def load_ledger(db: Database) -> dict[str, PoolKnowledge]:
    devices: defaultdict[str, dict[str, KnownDevice]] = defaultdict(dict)
    ids: defaultdict[str, dict[int, Holder]] = defaultdict(dict)
    with db.snapshot():
        for pool, device, thin_id, body in db.read("SELECT pool, device, thin_id, body FROM devices"):
            devices[pool][device] = known = db.decoded(KnownDevice, body)
            if known.thin_id != thin_id:
                raise damaged(db.path, f"device {pool}/{device} has thin id {thin_id}, and {known.thin_id}")
        for pool, thin_id, held_as, device, created_at in db.read(
            "SELECT pool, thin_id, held_as, device, created_at FROM thin_ids"
        ):
            ids[pool][thin_id] = _holder(db, held_as, device, created_at)
        intents = {pool: db.decoded(Intent, body) for pool, body in db.read("SELECT pool, body FROM intents")}
        pools = {
            pool: PoolKnowledge(db.decoded(KnownPool, body), devices[pool], intents.get(pool), ids[pool], last)
            for pool, last, body in db.read("SELECT pool, last_thin_id, body FROM pools")
        }
    for pool, known_pool in pools.items():
        if problem := problem_of(pool, known_pool):
            raise damaged(db.path, problem)
    return pools


def _holder(db: Database, held_as: str, device: str, created_at: int | None) -> Holder:
    try:
        return Holder(HeldAs(held_as), device, created_at)
    except ValueError as error:
        raise damaged(db.path, str(error)) from error


def write_ledger(connection: sqlite3.Connection, pool: str, before: PoolKnowledge, now: PoolKnowledge) -> None:
    """Within a transaction; the foreign keys are looked at when it ends, so that the order here does not matter."""
    _write_pool(connection, pool, before, now)
    _write_ids(connection, pool, before.ids, now.ids)
    _write_devices(connection, pool, before.devices, now.devices)
    _write_intent(connection, pool, before.intent, now.intent)


def _write_pool(connection: sqlite3.Connection, pool: str, before: PoolKnowledge, now: PoolKnowledge) -> None:
    if now.pool is None:
        connection.execute("DELETE FROM pools WHERE pool = ?", (pool,))
    elif (now.pool, now.last_thin_id) != (before.pool, before.last_thin_id):
        connection.execute(
            "INSERT INTO pools (pool, last_thin_id, body) VALUES (?, ?, ?) "
            "ON CONFLICT (pool) DO UPDATE SET last_thin_id = excluded.last_thin_id, body = excluded.body",
            (pool, now.last_thin_id, encode(now.pool)),
        )


def _write_ids(
    connection: sqlite3.Connection, pool: str, before: Mapping[int, Holder], now: Mapping[int, Holder]
) -> None:
    """An id that was free is inserted, never replaced: were it not free after all, the schema refuses it."""
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
    connection: sqlite3.Connection, pool: str, before: Mapping[str, KnownDevice], now: Mapping[str, KnownDevice]
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
    """What is the same object has not changed: a step makes one new value, and a pool may have thousands."""
    return [(key, value) for key, value in now.items() if (old := before.get(key)) is not value and old != value]
