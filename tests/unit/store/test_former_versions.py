"""A store that 0.1.0 wrote, with each kind of row, can always be opened, and its content means the same."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.model.conditions import DeviceStatus, EventType, PoolStatusReport, Reason
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.stored import ForgottenThin, Intent, IntentKind, StoredDevice, StoredPool
from reconciler.model.units import Bytes, Sectors
from reconciler.store.store import Store

WRITTEN_BY_0_1_0 = Path(__file__).parent / "stores" / "0.1.0.db"
STORE_ID = "0123456789abcdef0123456789abcdef"
TEN_GIB = Sectors(20971520)


def uuid(number: int) -> str:
    return f"DMR-{STORE_ID}-{number:032x}"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Store]:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    shutil.copyfile(WRITTEN_BY_0_1_0, directory / "state.db")
    (directory / "state.db").chmod(0o600)
    with Store.open(directory, wall_clock=lambda: 0.0) as store:
        yield store


def test_its_identity_is_kept(opened: Store) -> None:
    assert opened.store_id == STORE_ID


def test_its_pools_are_known_as_they_were(opened: Store) -> None:
    pools = opened.known_pools()
    assert set(pools) == {"begun", "deep", "old", "tank", "vg-thin"}
    assert pools["tank"] == StoredPool(
        "tank",
        uuid(1),
        created=True,
        data="/srv/tank.data",
        metadata="/srv/tank.meta",
        block=Sectors(128),
        discards="passdown",
        transaction_id=5,
        data_size=Bytes(20 << 30),
        metadata_size=Bytes(64 << 20),
        made_files=("/srv/tank.data", "/srv/tank.meta"),
    )
    assert not pools["begun"].created
    assert pools["vg-thin"].external
    assert (pools["deep"].data, pools["deep"].discards) == ("/dev/disk/by-id/wwn-0x1", "nopassdown")


def test_its_devices_are_known_as_they_were(opened: Store) -> None:
    devices = opened.known_devices("tank")
    assert set(devices) == {"base", "app", "log", "gone", "theirs"}
    assert devices["app"] == StoredDevice(
        Key("tank", "app"),
        uuid(3),
        "tank-app",
        1,
        TEN_GIB,
        created_at=1,
        active=True,
        filesystem="ext4",
        filesystem_size=TEN_GIB,
        origin="base",
    )
    assert devices["base"].committed
    assert (devices["log"].read_only, devices["log"].frozen) == (True, True)
    assert devices["gone"].gone_since == 1764201000.25
    assert (devices["theirs"].adopted, devices["theirs"].uuid, devices["theirs"].thin_id) == (True, "", 40)


def test_its_operations_under_way_go_on(opened: Store) -> None:
    (snapshot,) = opened.intents("tank")
    (create,) = opened.intents("deep")
    (delete,) = opened.intents("old")
    assert snapshot == Intent(
        Key("tank", "next"),
        IntentKind.SNAPSHOT,
        5,
        5,
        uuid(7),
        "tank-next",
        TEN_GIB,
        origin="app",
        suspended="tank-app",
        filesystem="ext4",
    )
    assert (create.kind, create.made, create.filesystem) == (IntentKind.CREATE, True, "xfs")
    assert (delete.kind, delete.thin_id, delete.transaction_id) == (IntentKind.DELETE, 0, 1)


def test_its_thin_ids_stay_reserved(opened: Store) -> None:
    assert opened.taken("tank") == {4, 41}
    assert opened.former("tank") == {4: ForgottenThin(4, "former", 4)}
    assert opened.free_thin_id("tank") == 6


def test_its_last_good_records_are_in_force(opened: Store) -> None:
    loaded = opened.load_records()
    assert loaded is not None
    assert loaded.digest == "0f" * 32
    assert [(one.key, one.kind, one.file, one.line) for one in loaded.records] == [
        (Key("tank"), "ThinPool", "10-tank.yaml", 1),
        (Key("tank", "app"), "ThinDevice", "20-app.yaml", 7),
    ]


def test_its_statuses_are_shown(opened: Store) -> None:
    pool, device = opened.statuses().values()
    assert pool == PoolStatusReport(
        Key("tank"),
        LiveState.ACTIVE,
        Reason.CONVERGED,
        "as desired",
        1764201590.0,
        good=True,
        dm_name="tank",
        uuid=uuid(1),
        mode=PoolMode.RW,
        data_used=Bytes(1 << 30),
        data_size=Bytes(20 << 30),
        data_limit=Bytes(40 << 30),
        metadata_used=Bytes(1 << 20),
        metadata_size=Bytes(64 << 20),
        metadata_limit=Bytes(64 << 20),
        transaction_id=5,
        leaked_ids=(41,),
        leaked=Bytes(65536),
    )
    assert isinstance(device, DeviceStatus)
    assert (device.live, device.reason, device.beneath) == (LiveState.SUSPENDED, Reason.PAUSED, Reason.SUSPENDED)
    assert (device.device_id, device.mapped, device.origin) == (1, Bytes(65536), "base")
    assert device.holders == ("mounted at /srv/app",)


def test_its_events_are_told_with_their_counts(opened: Store) -> None:
    events = [event for _, event in opened.events()]
    assert [event.type for event in events] == [
        EventType.HEALED,
        EventType.FAILED,
        EventType.BLOCKED,
        EventType.INFO,
        EventType.FOUND,
    ]
    assert (events[-1].count, events[-1].first, events[-1].time) == (2, 1764201500.0, 1764201560.0)
    assert events[0].seconds == 0.25


@pytest.mark.usefixtures("opened")
def test_a_copy_is_kept_for_the_way_back(tmp_path: Path) -> None:
    """0.1.0 takes an unknown field for damage, so it must find a later version, or its own copy."""
    copy = tmp_path / "state" / "state.db.version-2"
    with closing(sqlite3.connect(copy)) as former, closing(sqlite3.connect(WRITTEN_BY_0_1_0)) as written:
        assert list(former.iterdump()) == list(written.iterdump())
    with closing(sqlite3.connect(tmp_path / "state" / "state.db")) as now:
        assert now.execute("PRAGMA user_version").fetchone()[0] > 2
