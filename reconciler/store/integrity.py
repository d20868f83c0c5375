"""Checks that a file is a store, undamaged, and owned by this user alone, and that its content is consistent."""

from __future__ import annotations

import re
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Final

from reconciler.model.names import DM_NAME_PATTERN, NAME_PATTERN, Key
from reconciler.model.stored import Intent, StoredDevice, StoredPool
from reconciler.store.errors import StoreError, damaged
from reconciler.store.migrations import APPLICATION_ID, MIGRATIONS, migrate, version_of
from reconciler.store.transitions import THIN_IDS, IdOwner, IdUse, StoredPoolState
from reconciler.trusted_files import kind_of, untrusted

_NAME: Final = re.compile(NAME_PATTERN[1:-1])
_DM_NAME: Final = re.compile(DM_NAME_PATTERN[1:-1])
_LONGEST_UUID: Final = 128


def problem_of(name: str, known: StoredPoolState) -> str | None:
    """Why this cannot be the state of a pool of that name; None if it can."""
    return next(_problems(name, known), None)


def pool_problem(name: str, pool: StoredPool) -> str:
    if pool.name != name or not _NAME.fullmatch(name):
        return f"what is known of pool {name!r} is of {pool.name!r}"
    if min(pool.transaction_id, pool.block, pool.data_size, pool.metadata_size, pool.taken_over_at or 0) < 0:
        return f"pool {name} has a number below 0"
    if not set(pool.made_files) <= {pool.data, pool.metadata}:
        return f"pool {name} has made files that it does not lie on"
    return ""


def device_problem(key: Key, device: StoredDevice) -> str:
    if device.key != key or not _NAME.fullmatch(key.pool) or not _NAME.fullmatch(key.device):
        return f"what is known of device {str(key)!r} is of {str(device.key)!r}"
    if not _DM_NAME.fullmatch(device.dm_name) or len(device.uuid) > _LONGEST_UUID:
        return f"device {key} has a name that no device can have"
    if not 0 <= device.thin_id < THIN_IDS:
        return f"device {key} has thin id {device.thin_id}, which is none"
    if min(device.size, device.filesystem_size, device.created_at or 0) < 0:
        return f"device {key} has a number below 0"
    return ""


def _problems(name: str, known: StoredPoolState) -> Iterator[str]:
    if known.pool is not None and (problem := pool_problem(name, known.pool)):
        yield problem
    if not -1 <= known.last_thin_id < THIN_IDS:
        yield f"pool {name} has handed out thin id {known.last_thin_id}, which is none"
    for device_name, device in known.devices.items():
        if problem := device_problem(Key(name, device_name), device):
            yield problem
        if known.ids.get(device.thin_id) != IdOwner(IdUse.DEVICE, device_name):
            yield f"thin id {device.thin_id} of device {name}/{device_name} is not held for it"
    for thin_id, holder in known.ids.items():
        if problem := _holder_problem(known, thin_id, holder):
            yield f"pool {name}: {problem}"
    if known.intent is not None and (problem := _intent_problem(name, known, known.intent)):
        yield problem


def _holder_problem(known: StoredPoolState, thin_id: int, holder: IdOwner) -> str:
    if not 0 <= thin_id < THIN_IDS:
        return f"{thin_id} is no thin id"
    if holder.created_at is not None and holder.created_at < 0:
        return f"thin id {thin_id} was made at {holder.created_at}"
    device = known.devices.get(holder.device)
    if holder.held_as is IdUse.DEVICE and (device is None or device.thin_id != thin_id):
        return f"thin id {thin_id} is held for device {holder.device!r}, which has another or is not known"
    if holder.held_as is IdUse.INTENT and (known.intent is None or known.intent.thin_id != thin_id):
        return f"thin id {thin_id} is held for an operation that is not under way"
    return ""


def _intent_problem(name: str, known: StoredPoolState, intent: Intent) -> str:
    if intent.key.pool != name:
        return f"an operation in pool {name} is of {str(intent.key)!r}"
    if intent.thin_id not in known.ids:
        return f"the {intent.kind} of {intent.key} is of thin id {intent.thin_id}, which is not held for it"
    if intent.dm_name and not _DM_NAME.fullmatch(intent.dm_name):
        return f"the {intent.kind} of {intent.key} has a name that no device can have"
    if min(intent.transaction_id, intent.size) < 0:
        return f"the {intent.kind} of {intent.key} has a number below 0"
    return ""


BESIDE: Final = ("", "-wal", "-shm")
"""The suffixes of SQLite's files: the empty one is the database itself, then the WAL and its index."""
_SMALLEST: Final = 512


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def size_of(path: Path) -> int | None:
    """The size of the file in bytes; None if it is missing. Raises StoreError unless it is a plain file of this user,
    as opening a fifo would block for ever.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is {kind_of(found)}, not a plain file: move it away, and put the store there")
    doubt = untrusted(path, info=found, ours=True)
    if doubt is not None:
        raise StoreError(f"{path}: {doubt}")
    return found.st_size


def check_kind(path: Path, connection: sqlite3.Connection) -> int:
    """Checks that the file is a store of this project, and returns the version of its tables."""
    # SQLite takes a file that is this short for an empty database.
    if (size_of(path) or 0) < _SMALLEST:
        raise damaged(path, "it is cut off")
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path} is not a store of dm-reconciler: give another directory with --state-dir")
    version = version_of(connection)
    if version > len(MIGRATIONS):
        raise StoreError(
            f"store {path} was written by a later version (its tables are version {version}, this one knows "
            f"{len(MIGRATIONS)}): install the later version again, or restore a copy from before"
        )
    if version < 1:
        raise damaged(path, f"its tables are version {version}")
    return version


def check_whole(path: Path, connection: sqlite3.Connection) -> None:
    """Checks every page, and that the tables are those of the version and refer only to existing rows."""
    version = check_kind(path, connection)
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise damaged(path, str(found))
    if _columns(connection) != _expected(version):
        raise damaged(path, f"its tables are not those of version {version}")
    if connection.execute("SELECT 1 FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone():
        raise damaged(path, "it holds triggers or views, which no version has")
    lost = connection.execute("PRAGMA foreign_key_check").fetchone()
    if lost is not None:
        raise damaged(path, f"a row of {lost[0]} refers to one of {lost[2]} that is not there")


@cache
def _expected(version: int) -> Mapping[str, tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, MIGRATIONS[:version])
        return _columns(connection)


def _columns(connection: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    """The columns of each table, except for SQLite's own tables (those of ANALYZE, for example)."""
    rows = connection.execute(
        "SELECT tables.name, columns.name FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns "
        "WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY tables.name, columns.cid"
    ).fetchall()
    found: dict[str, tuple[str, ...]] = {}
    for table, column in rows:
        found[table] = (*found.get(table, ()), column)
    return found
