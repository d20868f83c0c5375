"""A store with content, and ways to damage its file."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from reconciler.model.conditions import DeviceStatus, Event, EventType, Reason
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.steps import BeginIntent, CompleteIntent, SavePool
from reconciler.model.stored import Intent, IntentKind, StoredDevice, StoredPool
from reconciler.model.units import Sectors
from reconciler.store.store import Store
from reconciler.store.tables import LastGoodRecord

PAGE = 4096
DEVICES = 40


@dataclass(frozen=True)
class Known:
    """Everything that a store returns."""

    pools: dict[str, StoredPool]
    devices: dict[str, dict[str, StoredDevice]]
    rest: tuple[object, ...]


def fill(directory: Path) -> None:
    """Fills a store with two pools of forty devices each, statuses and events: several pages of each table."""
    with Store.open(directory, wall_clock=lambda: 1000.0) as store:
        for pool in ("tank", "rest"):
            store.apply(SavePool(Key(pool), StoredPool(pool, "DMR-1", True, "/d", "/m", Sectors(128), "passdown")))
            for number in range(DEVICES):
                _make(store, Key(pool, f"dev{number}"), number)
        records = [
            LastGoodRecord(Key("tank", f"dev{number}"), "ThinDevice", '{"pool":"tank"}', "", 0)
            for number in range(DEVICES)
        ]
        store.save_records(records, "digest")


def _make(store: Store, key: Key, number: int) -> None:
    thin_id = store.free_thin_id(key.pool)
    dm_name, size = f"{key.pool}-{key.device}", Sectors(32768)
    store.apply(BeginIntent(key, Intent(key, IntentKind.CREATE, thin_id, number, "DMR-2", dm_name, size)))
    store.apply(CompleteIntent(key, StoredDevice(key, "DMR-2", dm_name, thin_id, size, created_at=number)))
    store.put_statuses(
        [DeviceStatus(key, LiveState.ACTIVE, Reason.CONVERGED, "as desired", 1.0, True, dm_name, "DMR-2")]
    )
    store.add_event(Event(key, EventType.FOUND, f"R{number}", "something " * 20, time=float(number)))


def told(store: Store) -> Known:
    pools = dict(store.known_pools())
    devices = {pool: dict(store.known_devices(pool)) for pool in pools}
    return Known(pools, devices, (store.load_records(), store.statuses(), store.events()))


def copied(source: Path, target: Path) -> Path:
    """A copy of the whole directory, as it is on disk."""
    if target.exists():
        shutil.rmtree(target)
    return Path(shutil.copytree(source, target))


def edited(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


Spoiling = Callable[[bytes], bytes]
