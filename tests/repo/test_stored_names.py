"""What a store holds, word by word: a name that changes here makes stores that are there already unreadable.

A field that is added has a default and is added here. Any other change needs a migration of the stores.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import MISSING, fields
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

import pytest

from reconciler.model.conditions import DeviceStatus, Event, EventType, PoolStatusReport, Status
from reconciler.model.identity import Noted, Start
from reconciler.model.names import Key
from reconciler.model.stored import Intent, IntentKind, StoredDevice, StoredPool
from reconciler.model.units import Sectors
from reconciler.store import tables
from reconciler.store.codec import Data, encode
from reconciler.store.store import Store
from reconciler.store.transitions import IdUse

STATUS = """
    key: Key, live: LiveState, reason: Reason, message: str, since: float, good: bool,
    dm_name: str = , uuid: str = , beneath: Reason? = """
STORED: dict[type[Data], str] = {
    Status: STATUS,
    DeviceStatus: f"""{STATUS},
        device_id: int? = , size: int? = , mapped: int? = , origin: str = , holders: [str] = """,
    PoolStatusReport: f"""{STATUS},
        mode: PoolMode = , data_used: int? = , data_size: int? = , data_limit: int? = , metadata_used: int? = ,
        metadata_size: int? = , metadata_limit: int? = , transaction_id: int? = , leaked_ids: [int]? = ,
        leaked: int? = """,
    Event: """
        key: Key, type: EventType, reason: str, message: str, time: float, first: float = , count: int = ,
        seconds: float? = """,
    StoredPool: """
        name: str, uuid: str, created: bool, data: str, metadata: str, block: int, discards: str,
        transaction_id: int = , data_size: int = , metadata_size: int = , made_files: [str] = , external: bool = ,
        taken_over_at: int? = , noted: Noted? = """,
    Noted: """
        data: [str] = , metadata: [str] = , start: Start? = , transaction_id: int = , superblock: str = ,
        in_repair: bool = """,
    Start: "digest: str, holds: str = , size: int = ",
    StoredDevice: """
        key: Key, uuid: str, dm_name: str, thin_id: int, size: int, created_at: int? = , active: bool = ,
        committed: bool = , read_only: bool = , filesystem: str = , filesystem_size: int = , adopted: bool = ,
        origin: str = , frozen: bool = , external: str = , gone_since: float? = """,
    Intent: """
        key: Key, kind: IntentKind, thin_id: int, transaction_id: int, uuid: str, dm_name: str, size: int,
        origin: str = , suspended: str = , made: bool = , filesystem: str = """,
    tables.LastGoodRecord: "key: Key, kind: str, spec_json: str, file: str, line: int",
    tables._Set: "digest: str, loaded_at: float",
}
"""Name and kind of each field; `?` where it may be null, `=` where it may be missing, as older stores lack it."""


def kind_of(hint: Any) -> str:
    if isinstance(hint, NewType):
        return kind_of(hint.__supertype__)
    if get_origin(hint) in {Union, UnionType}:
        (inner,) = (part for part in get_args(hint) if part is not NoneType)
        return f"{kind_of(inner)}?"
    if get_origin(hint) is tuple:
        return f"[{kind_of(get_args(hint)[0])}]"
    return str(hint.__name__)


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored.__name__)
def test_what_is_stored_has_these_fields(stored: type[Data]) -> None:
    hints = get_type_hints(stored)
    told = {
        f"{field.name}: {kind_of(hints[field.name])}{'' if field.default is MISSING else ' ='}"
        for field in fields(stored)
    }
    assert told == {part.strip() for part in STORED[stored].split(",")}


def test_a_status_is_stored_under_the_name_of_its_kind() -> None:
    assert {"Status": Status, "DeviceStatus": DeviceStatus, "PoolStatusReport": PoolStatusReport} == tables._KINDS


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (IntentKind, ["create", "snapshot", "delete"]),
        (IdUse, ["device", "intent", "taken"]),
        (EventType, ["Found", "Healed", "Failed", "Blocked", "Info"]),
    ],
)
def test_the_words_are_stored_as_these(words: type[Enum], expected: list[str]) -> None:
    assert [word.value for word in words] == expected


def test_a_key_is_a_list_and_a_number_stays_one() -> None:
    intent = Intent(Key("tank", "a"), IntentKind.CREATE, 7, 2, "DMR-1", "tank-a", Sectors(8))
    assert encode(intent) == (
        '{"key":["tank","a"],"kind":"create","thin_id":7,"transaction_id":2,"uuid":"DMR-1","dm_name":"tank-a","size":8,'
        '"origin":"","suspended":"","made":false,"filesystem":""}'
    )


TABLES = {
    "meta": "name value",
    "manifests": "position pool device body",
    "pools": "pool last_thin_id body",
    "thin_ids": "pool thin_id held_as device created_at",
    "devices": "pool device thin_id body",
    "intents": "pool thin_id body",
    "statuses": "pool device kind body",
    "events": "revision pool device fingerprint body",
}


def test_the_file_has_these_tables_and_notes(tmp_path: Path) -> None:
    with Store.open(tmp_path / "state", wall_clock=lambda: 0.0) as store:
        tables.save_last_good(store._db, [], "0f", 0.0)
        tables.Reserved(store._db).note("tank", reserved=True)
    with closing(sqlite3.connect(tmp_path / "state" / "state.db")) as file:
        names = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        told = {
            name: [row[1] for row in file.execute("SELECT * FROM pragma_table_info(?)", (name,))]
            for name in names
            if not name.startswith("sqlite_")
        }
        notes = {name for (name,) in file.execute("SELECT name FROM meta")}
    assert told == {name: columns.split() for name, columns in TABLES.items()}
    assert notes - {"room"} == {"store_id", "created_at", "manifests", "metadata_snapshot_of:tank"}
