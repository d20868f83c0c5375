"""Things that a page may have to show, one of each kind."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from reconciler.model.conditions import EventType, Reason, Status
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.records import Record
from reconciler.model.units import Bytes
from tests.simulation.simulated_daemon import device_record, pool_record
from tests.unit.telemetry.page.environments import GIB, Environment, device_status, pool_status

EXTEND = {"threshold": "80%", "step": "20%", "max": "100GiB"}


def everything(environment: Environment) -> None:
    """Three pools, a tree three levels deep, and every way of not being as desired."""
    tank, vault = pool_record("tank", extend=EXTEND), pool_record("vault")
    specs: dict[str, dict[str, Any]] = {
        "base": {"state": "Committed", "filesystem": {"type": "ext4", "label": "base"}},
        "base-2026-11": {"state": "Committed", "snapshotOf": "base"},
        "app": {"snapshotOf": "base-2026-11"},
        "app-test": {"snapshotOf": "app"},
        "web": {"snapshotOf": "base-2026-11"},
        "archive": {"state": "Inactive", "snapshotOf": "base"},
        "scratch": {"paused": True},
        "new": {},
    }
    devices = {name: device_record(name, **spec) for name, spec in specs.items()}
    ledger = device_record("ledger", "vault")
    declared: list[Record] = [tank, vault, *devices.values(), ledger]
    environment.declare(*declared)
    environment.found(tank, pool_status("tank", leaked_ids=(17, 41), leaked=Bytes(3 << 28)))
    low = "pool vault has used 93% of its data and 61% of its metadata: raise `data.size` or `metadata.size` in its record, or add `extend`"
    environment.found(
        vault,
        pool_status("vault", Reason.POOL_LOW, low, data_used=Bytes(int(18.7 * GIB)), metadata_used=Bytes(39 << 20)),
    )
    environment.found(
        None,
        pool_status(
            "attic",
            Reason.POOL_UNHEALTHY,
            "pool attic has lost its metadata: the kernel says Fail",
            mode=PoolMode.FAIL,
            data_used=None,
            data_size=None,
            metadata_used=None,
            metadata_size=None,
        ),
    )
    _devices(environment, devices)
    environment.found(ledger, device_status(ledger.key, since=time.time() - 400000, device_id=1))
    _events(environment)


def _devices(environment: Environment, devices: Mapping[str, Record]) -> None:
    def found(name: str, *args: Any, **fields: Any) -> None:
        fields = {"device_id": len(name), **fields}
        environment.found(devices[name], device_status(devices[name].key, *args, **fields))

    resting = {"live": LiveState.INACTIVE, "mapped": None}
    found("base", **resting)
    found("base-2026-11", origin="base", **resting)
    found(
        "app",
        Reason.SUSPENDED,
        "tank-app is suspended, and nobody has resumed it for 3 s: it is resumed after 5 s",
        live=LiveState.SUSPENDED,
        origin="base-2026-11",
        since=time.time() - 3,
    )
    found("app-test", origin="app", mapped=Bytes(700 << 20))
    found(
        "web",
        Reason.BUSY,
        "tank-web has another table and is open: it is swapped once nobody has it open",
        origin="base-2026-11",
        holders=("nginx (pid 4711)", "mount /srv/www"),
        since=time.time() - 700,
    )
    found("archive", origin="base", **resting)
    found("scratch", Reason.PAUSED, "paused: it is suspended")
    orphan = device_status(Key("tank", "old"), Reason.ORPHANED, "no record names it any more; it is kept", good=True)
    environment.found(None, orphan, retained=True)


def _events(environment: Environment) -> None:
    def event(device: str, kind: EventType, reason: str, message: str, seconds: float | None = None) -> None:
        environment.recorder.event(Key("tank", device), kind, reason, message, seconds)

    event("base", EventType.HEALED, "CommittedButActive", "tank/base is no longer CommittedButActive", 0.082)
    event("web", EventType.FAILED, "EBUSY", "load tank-web: Device or resource busy")
    event(
        "web",
        EventType.BLOCKED,
        "Busy",
        "tank-web has another table and is open: it is swapped once nobody has it open",
    )
    event("app", EventType.FOUND, "NodeMissing", "/dev/mapper/tank-app is missing")
    event("app", EventType.HEALED, "NodeMissing", "tank/app is no longer NodeMissing", 1.204)


def many(environment: Environment, number: int) -> list[Record]:
    """A thousand devices and more, in ten families of snapshots, with a few among them that are not as desired."""
    pool = pool_record("farm", data={"device": "/dev/sdb"}, metadata={"device": "/dev/sdc"})
    records: list[Record] = []
    for count in range(number):
        golden = count % 100 == 0
        spec: dict[str, Any] = {"state": "Committed"} if golden else {"snapshotOf": f"vm-{count - count % 100}"}
        records.append(device_record(f"vm-{count}", "farm", **spec))
    environment.declare(pool, *records)
    environment.found(pool, pool_status("farm"))
    for count, record in enumerate(records):
        environment.found(record, one_of_many(record, count))
    return records


def one_of_many(record: Record, count: int) -> Status:
    golden = count % 100 == 0
    fields: dict[str, Any] = {
        "device_id": count,
        "mapped": Bytes(((count * 7919) % 4096) << 20),
        "origin": "" if golden else f"vm-{count - count % 100}",
    }
    if count % 250 == 7:
        return device_status(record.key, Reason.SUSPENDED, "it is suspended", live=LiveState.SUSPENDED, **fields)
    return device_status(record.key, **fields)
