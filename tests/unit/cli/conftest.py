"""A store filled through its own API, and the command line as people call it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from reconciler.cli.main import main
from reconciler.model.conditions import DeviceStatus, Event, EventType, PoolStatusReport, Reason
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.steps import SaveDevice, SavePool
from reconciler.model.stored import StoredDevice, StoredPool
from reconciler.model.units import Bytes, Sectors
from reconciler.store.store import Store
from reconciler.store.tables import LastGoodRecord

GIB = 1024**3
NOW = time.time()


class Said(NamedTuple):
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Dm = Callable[..., Said]


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """What commands make of them lasts as long as the process, which is not the command's own here."""
    loggers = [logging.getLogger(name) for name in ("reconciler", "reconciler.kernel")]
    before = [logger.handlers[:] for logger in loggers]
    yield
    for logger, handlers in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(state_dir: Path) -> Iterator[Store]:
    """What a daemon leaves that has two pools, with one of each kind of trouble."""
    with Store.open(state_dir, wall_clock=lambda: NOW - 3600) as opened:
        fill(opened)
        yield opened


@pytest.fixture
def dm(store: Store, state_dir: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Dm:
    """Calls the program within this process, on the filled store."""
    del store
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()

    def call(*args: str) -> Said:
        capfd.readouterr()
        takes_state = args[0] in {"get", "tree", "describe", "events", "wait", "forget"} and "--state-dir" not in args
        code = main([args[0], *(["--state-dir", str(state_dir)] if takes_state else []), *args[1:]])
        captured = capfd.readouterr()
        return Said(code, captured.out, captured.err)

    return call


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Calls the program as a process of its own."""

    def call(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "import sys; from reconciler.cli.main import main; sys.exit(main())", *args],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            timeout=60,
        )

    return call


def fill(store: Store) -> None:
    store.save_records(
        [
            _record(Key("tank"), {"data": {"file": "/srv/tank.data", "size": "20GiB"}}, 1),
            _record(Key("vault"), {"external": True, "paused": True}, 9),
            _record(Key("tank", "base"), {"pool": "tank", "state": "Committed", "size": "10GiB"}, 14),
            _record(Key("tank", "web"), {"pool": "tank", "snapshotOf": "base"}, 20),
            _record(Key("tank", "data"), {"pool": "tank", "size": "4GiB", "filesystem": {"type": "ext4"}}, 27),
            _record(Key("tank", "new"), {"pool": "tank", "size": "1GiB"}, 35),
            _record(Key("vault", "web"), {"pool": "vault", "adopt": {"deviceId": 7, "dmName": "vg-web"}}, 41),
        ],
        "digest",
    )
    _know(store)
    store.put_statuses([*_pools(), *_devices()])
    base, data = Key("tank", "base"), Key("tank", "data")
    for event in (
        Event(
            base, EventType.FOUND, "CommittedButActive", "it is active, and should only serve as an origin", NOW - 900
        ),
        Event(base, EventType.HEALED, "CommittedButActive", "removed tank-base", NOW - 899, seconds=0.25),
        Event(data, EventType.FOUND, "Suspended", "somebody left it suspended", NOW - 60),
        Event(data, EventType.FAILED, "Suspended", "resume tank-data failed (EBUSY)", NOW - 50, count=3),
    ):
        store.add_event(event)


def _record(key: Key, spec: dict[str, object], line: int) -> LastGoodRecord:
    return LastGoodRecord(key, key.kind, json.dumps(spec), "/etc/dm-reconciler/tank.yaml", line)


def _uuid(number: int) -> str:
    return f"DMR-{'0' * 31}1-{number:032x}"


def _know(store: Store) -> None:
    pool = StoredPool(
        "tank", _uuid(1), True, "/srv/tank.data", "/srv/tank.meta", Sectors(128), "passdown", 4, Bytes(20 * GIB)
    )
    store.apply(SavePool(Key("tank"), replace(pool, metadata_size=Bytes(64 * 1024**2), made_files=("/srv/tank.data",))))
    store.apply(SavePool(Key("vault"), replace(pool, name="vault", uuid="LVM-x", external=True, made_files=())))
    for number, name in enumerate(("base", "web", "data", "old"), start=1):
        key = Key("tank", name)
        size = Sectors(4 * GIB // 512)
        device = StoredDevice(key, _uuid(10 + number), f"tank-{name}", number, size, created_at=number, active=True)
        store.apply(SaveDevice(key, replace(device, origin="base" if name == "web" else "")))


def _pools() -> list[PoolStatusReport]:
    return [
        PoolStatusReport(
            Key("tank"), LiveState.ACTIVE, Reason.CONVERGED, "", NOW - 3600, True, "tank", _uuid(1),
            mode=PoolMode.RW, data_used=Bytes(3 * GIB + GIB // 4), data_size=Bytes(20 * GIB),
            metadata_used=Bytes(1024**2), metadata_size=Bytes(64 * 1024**2), transaction_id=4,
        ),
        PoolStatusReport(
            Key("vault"), LiveState.ACTIVE, Reason.PAUSED, "the record says `paused: true`", NOW - 7500, True,
            "vault", "LVM-x", mode=PoolMode.RW, data_used=Bytes(GIB), data_size=Bytes(2 * GIB),
        ),
    ]  # fmt: skip


def _devices() -> list[DeviceStatus]:
    def told(key: Key, live: LiveState, reason: Reason, message: str = "", good: bool = True) -> DeviceStatus:
        return DeviceStatus(key, live, reason, message, NOW - 300, good, f"{key.pool}-{key.device}", _uuid(9))

    web = told(Key("tank", "web"), LiveState.ACTIVE, Reason.CONVERGED)
    data = told(
        Key("tank", "data"), LiveState.SUSPENDED, Reason.BUSY,
        "it cannot be resumed while its table is being changed by somebody else", False,
    )  # fmt: skip
    old = told(Key("tank", "old"), LiveState.INACTIVE, Reason.ORPHANED, "its record is gone; prune: Retain keeps it")
    return [
        replace(
            told(Key("tank", "base"), LiveState.INACTIVE, Reason.CONVERGED), device_id=1, size=Bytes(10 * GIB)
        ),
        replace(web, device_id=2, size=Bytes(10 * GIB), mapped=Bytes(65536), origin="base"),
        replace(
            data, device_id=3, size=Bytes(4 * GIB), mapped=Bytes(GIB), beneath=Reason.SUSPENDED,
            holders=("mounted on /mnt/data", "process 4711 (postgres)"),
        ),
        replace(old, device_id=4, size=Bytes(4 * GIB)),
        replace(told(Key("vault", "web"), LiveState.ACTIVE, Reason.PAUSED), dm_name="vg-web", device_id=7),
    ]  # fmt: skip
