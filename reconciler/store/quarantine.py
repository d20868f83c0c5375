"""Keeps a damaged store aside, with its WAL, and reads what is still readable in it, as evidence."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from reconciler.model.names import Key, is_store_id
from reconciler.model.stored import SalvagedPool, StoredDevice, StoredPool
from reconciler.store.codec import decode
from reconciler.store.database import NAME, connect, flush_directory, translated
from reconciler.store.integrity import BESIDE, beside, device_problem, pool_problem, size_of

_MARK: Final = ".damaged-"
D = TypeVar("D", StoredPool, StoredDevice)


def name_for_aside(directory: Path, now: float) -> Path:
    """A name that is not in use yet: `state.db.damaged-20260102T030405Z`."""
    first = directory / f"{NAME}{_MARK}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}"
    names = [first, *(beside(first, f".{number}") for number in range(2, 1000))]
    return next(name for name in names if not any(beside(name, suffix).exists() for suffix in BESIDE))


def set_aside(directory: Path, target: Path) -> None:
    """Renames the database before its WAL: a database alone would pass for a valid, older store."""
    path = directory / NAME
    with translated(path):
        for suffix in BESIDE:
            if size_of(beside(path, suffix)) is not None:
                beside(path, suffix).rename(beside(target, suffix))
        flush_directory(directory)


def recall(path: Path | None) -> Mapping[str, SalvagedPool]:
    """What the quarantined store says of each pool, as far as it is readable."""
    if path is None or size_of(path) is None:
        return {}
    with _copied(path) as connection:
        pools = dict(_pools(connection))
        devices: dict[str, dict[str, StoredDevice]] = {}
        for device in _devices(connection):
            devices.setdefault(device.key.pool, {})[device.key.device] = device
    return {name: SalvagedPool(path.name, pools.get(name), devices.get(name, {})) for name in pools.keys() | devices}


def recall_id(path: Path) -> str | None:
    """The id of the quarantined store, which is part of the UUIDs of the devices that it made."""
    with _copied(path) as connection:
        rows = dict(_rows(connection, "meta", "name, value", "name"))
    found = str(rows.get("store_id", ""))
    return found if is_store_id(found) else None


@contextmanager
def _copied(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a copy of the database, because even reading writes to the index of the WAL."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, NAME)
        for suffix in ("", "-wal"):
            if beside(path, suffix).exists():
                shutil.copyfile(beside(path, suffix), beside(copy, suffix))
        with closing(connect(copy, "rw")) as connection:
            connection.text_factory = lambda raw: raw.decode(errors="replace")
            yield connection


def _pools(connection: sqlite3.Connection) -> Iterator[tuple[str, StoredPool]]:
    for name, body in _rows(connection, "pools", "pool, body", "pool"):
        pool = _decoded(StoredPool, body)
        if pool is not None and not pool_problem(str(name), pool):
            yield pool.name, pool


def _devices(connection: sqlite3.Connection) -> Iterator[StoredDevice]:
    for pool, name, thin_id, body in _rows(connection, "devices", "pool, device, thin_id, body", "pool, device"):
        device = _decoded(StoredDevice, body)
        if device is None or device.thin_id != thin_id:
            continue
        if not device_problem(Key(str(pool), str(name)), device):
            yield device


def _rows(connection: sqlite3.Connection, table: str, columns: str, key: str) -> set[tuple[Any, ...]]:
    """Reads the rows from both ends of the table, up to the damage."""
    found: set[tuple[Any, ...]] = set()
    for order in ("ASC", "DESC"):
        by = ", ".join(f"{column} {order}" for column in key.split(", "))
        with suppress(sqlite3.Error):  # the rows behind the damage cannot be read
            for row in connection.execute(f"SELECT {columns} FROM {table} ORDER BY {by}"):  # noqa: S608  # of constants
                found.add(row)  # keeps the rows that came before the error
    return found


def _decoded(kind: type[D], body: object) -> D | None:
    try:
        return decode(kind, str(body))
    except ValueError:
        return None
