"""Builds facts in one line: a healthy pool `tank` and its device `tank-a`, except for what a test changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from reconciler.model.dm_tables import (
    Devno,
    PoolFailure,
    PoolMode,
    PoolStatus,
    PoolTable,
    Table,
    Target,
    ThinFailure,
    ThinStatus,
    ThinTable,
)
from reconciler.model.live import (
    DeviceInfo,
    LiveBacking,
    LiveDevice,
    LivePool,
    Loop,
    PathKind,
    Superblock,
    ThinEntry,
    ThinIds,
)
from reconciler.model.names import Key
from reconciler.model.records import API_VERSION, ThinDevice, ThinPool
from reconciler.model.steps import ActivatePool, CheckMetadata, PoolShape, Step
from reconciler.model.stored import Intent, IntentKind, StoredDevice, StoredPool
from reconciler.model.units import Bytes, Sectors
from reconciler.planner.device import plan_device
from reconciler.planner.facts import DeviceFacts, Grace, Origin, PoolAccess, PoolFacts, PruneVerdict
from reconciler.planner.ownership import access_to
from reconciler.planner.plan import Plan, Sign
from reconciler.planner.pool import plan_pool
from reconciler.planner.pool_shape import shape_of

STORE: Final = "5" * 32
UUID: Final = f"DMR-{STORE}-{'a' * 32}"
NEW_UUID: Final = f"DMR-{STORE}-{'b' * 32}"
POOL_UUID: Final = f"DMR-{STORE}-{'c' * 32}"
FOREIGN_UUID: Final = f"DMR-{'6' * 32}-{'a' * 32}"
KEY: Final = Key("tank", "a")
NAME: Final = "tank-a"
PRIVATE: Final = "tank-a.private"
ID: Final = 7
NEW_ID: Final = 8
TRANSACTION: Final = 4
SIZE: Final = Sectors(20480)
DATA_SIZE: Final = Bytes(1024**3)
METADATA_SIZE: Final = Bytes(64 * 1024**2)
BLOCK: Final = Sectors(128)
LENGTH: Final = Sectors(DATA_SIZE // 512)
POOL_DEVNO: Final = Devno(253, 0)
DATA_DEVNO: Final = Devno(7, 0)
METADATA_DEVNO: Final = Devno(7, 1)
GRACE: Final = 5.0
NOW: Final = 1000.0
LONG_AGO: Final = 60.0
"""Seconds that are longer than any grace."""

T = TypeVar("T", bound=Callable[..., None])
T_ = TypeVar("T_")


def row(*ids: str) -> Callable[[T], T]:
    """Marks the rows of docs/reference/healing.md that the test covers; `test_rows` counts them."""
    assert ids
    return lambda test: test


# What is live


def table_of(thin_id: int = ID, size: int = SIZE, pool: Devno = POOL_DEVNO) -> Target:
    return ThinTable(Sectors(size), pool, thin_id).target()


def error_table(size: int = SIZE) -> Table:
    return (Target(Sectors(0), Sectors(size), "error", ""),)


def other_table(size: int = SIZE) -> Table:
    return (Target(Sectors(0), Sectors(size), "linear", "8:0 0"),)


def info(name: str = NAME, uuid: str = UUID, *, minor: int = 1, opened: int = 0, **flags: bool) -> DeviceInfo:
    usual = {
        "suspended": False,
        "live_table": True,
        "inactive_table": False,
        "read_only": False,
        "deferred_remove": False,
    }
    return DeviceInfo(name, uuid, Devno(253, minor), opened, 0, **{**usual, **flags})


def thin(
    thin_id: int = ID,
    size: int = SIZE,
    *,
    name: str = NAME,
    uuid: str = UUID,
    table: Table | None = None,
    waiting: Table = (),
    holders: tuple[str, ...] = (),
    missing: tuple[str, ...] = (),
    status: ThinStatus | ThinFailure | None = None,
    opened: int = 0,
    **flags: bool,
) -> LiveDevice:
    """A live thin. `waiting` is the inactive table."""
    return LiveDevice(
        info=info(name, uuid, opened=opened, inactive_table=bool(waiting), **flags),
        table=(table_of(thin_id, size),) if table is None else table,
        inactive=waiting,
        status=status or ThinStatus(0),
        missing_nodes=missing,
        holders=holders,
    )


def shell(name: str = NAME, uuid: str = UUID, *, opened: int = 0, suspended: bool = False) -> LiveDevice:
    """A device that was created and has no table."""
    return LiveDevice(info(name, uuid, opened=opened, live_table=False, suspended=suspended))


def status(
    mode: PoolMode = PoolMode.RW, transaction: int = TRANSACTION, *, errors_when_full: bool = False, **numbers: int
) -> PoolStatus:
    usual = {"metadata_used": 100, "metadata_total": 16384, "data_used": 10, "data_total": 16384}
    return PoolStatus(
        transaction,
        **{**usual, **numbers},
        held_root=False,
        mode=mode,
        needs_check=mode is PoolMode.NEEDS_CHECK,
        errors_when_full=errors_when_full,
    )


def pool_table(length: int = LENGTH, **changes: Any) -> PoolTable:
    usual = PoolTable(Sectors(length), METADATA_DEVNO, DATA_DEVNO, BLOCK, Sectors(length) // BLOCK * 10 // 100)
    return replace(usual, **changes)


def pool_device(
    table: PoolTable | Table | None = None,
    uuid: str = POOL_UUID,
    *,
    opened: int = 0,
    waiting: Table = (),
    **flags: bool,
) -> LiveDevice:
    found = pool_table() if table is None else table
    lines = (found.target(),) if isinstance(found, PoolTable) else found
    about = info("tank", uuid, minor=0, opened=opened, inactive_table=bool(waiting), **flags)
    return LiveDevice(about, lines if about.live_table else (), waiting)


def loop(devno: Devno, size: int, offset: int = 0, **changes: Any) -> Loop:
    return replace(Loop(devno, f"/dev/loop{devno.minor}", size=Bytes(size), offset=Bytes(offset)), **changes)


def data(size: int = DATA_SIZE, **changes: Any) -> LiveBacking:
    """The data file, with its loop."""
    usual = LiveBacking(
        PathKind.FILE, Bytes(size), DATA_DEVNO, (loop(DATA_DEVNO, size),), free_space=Bytes(10**12), allocated=Bytes(1)
    )
    return replace(usual, **changes)


def metadata(size: int = METADATA_SIZE, **changes: Any) -> LiveBacking:
    usual = LiveBacking(
        PathKind.FILE,
        Bytes(size),
        METADATA_DEVNO,
        (loop(METADATA_DEVNO, size),),
        free_space=Bytes(10**12),
        allocated=Bytes(size),
    )
    return replace(usual, **changes)


def missing(**changes: Any) -> LiveBacking:
    return replace(LiveBacking(free_space=Bytes(10**12)), **changes)


def at_rest(transaction: int = TRANSACTION, **changes: Any) -> LiveBacking:
    """The metadata of a pool that is not live."""
    return metadata(**{"superblock": Superblock.POOL, "transaction_id": transaction, **changes})


def live_pool(device: LiveDevice | None = None, *, of: PoolStatus | PoolFailure | None = None, **rest: Any) -> LivePool:
    usual: dict[str, Any] = {"data": data(), "metadata": metadata()}
    return LivePool(device or pool_device(), of or status(), **{**usual, **rest})


def down(**rest: Any) -> LivePool:
    """A pool without a device, whose files and loops exist."""
    usual: dict[str, Any] = {"data": data(), "metadata": at_rest()}
    return LivePool(None, None, **{**usual, **rest})


# What is recorded and stored


def pool_record(**spec: Any) -> ThinPool:
    usual: dict[str, Any] = {
        "data": {"file": "/srv/tank.data", "size": "1GiB"},
        "metadata": {"file": "/srv/tank.meta", "size": "64MiB"},
    }
    if spec.get("external"):
        usual = {}
    return ThinPool.model_validate(
        {"apiVersion": API_VERSION, "kind": "ThinPool", "metadata": {"name": "tank"}, "spec": {**usual, **spec}}
    )


def record(desired: str = "Active", **spec: Any) -> ThinDevice:
    usual: dict[str, Any] = {"pool": "tank", "state": desired, "size": f"{SIZE}s"}
    merged = {name: value for name, value in {**usual, **spec}.items() if value is not None}
    return ThinDevice.model_validate(
        {"apiVersion": API_VERSION, "kind": "ThinDevice", "metadata": {"name": "a"}, "spec": merged}
    )


def known_pool(**changes: Any) -> StoredPool:
    usual = StoredPool(
        name="tank",
        uuid=POOL_UUID,
        created=True,
        data="/srv/tank.data",
        metadata="/srv/tank.meta",
        block=BLOCK,
        discards="passdown",
        transaction_id=TRANSACTION,
        data_size=DATA_SIZE,
        metadata_size=METADATA_SIZE,
        made_files=("/srv/tank.data", "/srv/tank.meta"),
    )
    return replace(usual, **changes)


def known(**changes: Any) -> StoredDevice:
    usual = StoredDevice(
        key=KEY,
        uuid=UUID,
        dm_name=NAME,
        thin_id=ID,
        size=SIZE,
        created_at=TRANSACTION - 1,
        active=True,
        filesystem_size=SIZE,
    )
    return replace(usual, **changes)


def intent(kind: IntentKind = IntentKind.CREATE, thin_id: int = NEW_ID, **changes: Any) -> Intent:
    usual = Intent(KEY, kind, thin_id, TRANSACTION, NEW_UUID, NAME, SIZE)
    return replace(usual, **changes)


def origin(live: LiveDevice | None = None, known_as: StoredDevice | None = None, **changes: Any) -> Origin:
    """The origin `tank-golden`, with thin id 3."""
    return Origin("golden", "tank-golden", known_as or known_golden(), live, **changes)


def known_golden(**changes: Any) -> StoredDevice:
    return known(
        **{"key": Key("tank", "golden"), "uuid": GOLDEN_UUID, "dm_name": "tank-golden", "thin_id": 3, **changes}
    )


GOLDEN_UUID: Final = f"DMR-{STORE}-{'d' * 32}"


def golden(**changes: Any) -> LiveDevice:
    return thin(3, **{"name": "tank-golden", "uuid": GOLDEN_UUID, **changes})


def ids(*numbers: int, **entries: ThinEntry) -> ThinIds:
    """Thin ids that the store's own operations made; others are given as `_9=ThinEntry(...)`."""
    given = {int(name[1:]): entry for name, entry in entries.items()}
    return {**{number: ThinEntry(0, TRANSACTION - 1) for number in numbers}, **given}


# Facts


def grace_of(seen: Mapping[Sign, float]) -> Grace:
    """The grace of signs that have been seen for the given seconds."""
    return Grace(NOW, GRACE, {sign: NOW - seconds for sign, seconds in seen.items()})


class _Same:
    """Stands for what a test does not change."""


SAME: Final = _Same()


def given(value: T_ | _Same, usual: T_) -> T_:
    return usual if isinstance(value, _Same) else value


def pool_facts(
    *,
    recorded: ThinPool | _Same | None = SAME,
    knowing: StoredPool | _Same | None = SAME,
    live: LivePool | None = None,
    seen: Mapping[Sign, float] | None = None,
    **rest: Any,
) -> PoolFacts:
    return PoolFacts(
        name="tank",
        record=given(recorded, pool_record()),
        known=given(knowing, known_pool()),
        live=live or live_pool(),
        grace=grace_of(seen or {}),
        new_uuid=NEW_UUID,
        **rest,
    )


def facts(
    desired: str | None = "Active",
    *,
    live: LiveDevice | None = None,
    knowing: StoredDevice | _Same | None = SAME,
    pool: PoolFacts | None = None,
    seen: Mapping[Sign, float] | None = None,
    spec: Mapping[str, Any] | None = None,
    **rest: Any,
) -> DeviceFacts:
    """A stored device in a pool whose access follows from its facts. `desired=None` makes it an orphan."""
    under_way: Intent | None = rest.get("intent")
    of = pool or pool_facts()
    if under_way is not None:
        of = replace(of, intents=(under_way,))
    access: PoolAccess = rest.pop("access", None) or access_to(of)
    return DeviceFacts(
        key=KEY,
        record=None if desired is None else record(desired, **dict(spec or {})),
        pool_record=rest.pop("pool_record", of.record),
        pool=of.live,
        pool_known=of.known,
        access=access,
        known=given(knowing, known()),
        live=live,
        grace=grace_of(seen or {}),
        new_id=NEW_ID,
        new_uuid=NEW_UUID,
        **rest,
    )


def orphan(prune: PruneVerdict, **rest: Any) -> DeviceFacts:
    return facts(None, prune=prune, **rest)


def plan(this: DeviceFacts | PoolFacts) -> Plan:
    return plan_pool(this) if isinstance(this, PoolFacts) else plan_device(this)


def steps(this: DeviceFacts | PoolFacts) -> tuple[Step, ...]:
    return plan(this).steps


def kinds(this: DeviceFacts | PoolFacts) -> list[str]:
    """The names of the steps, in order."""
    return [type(step).__name__ for step in plan(this).steps]


def shape(**spec: Any) -> PoolShape:
    return shape_of(pool_record(**spec))


BACK = (CheckMetadata("/srv/tank.meta"), ActivatePool("tank", POOL_UUID, shape(), TRANSACTION))
"""The steps that bring back a known and undamaged pool that is down."""
ADOPT = {"deviceId": ID, "dmName": NAME}


def private(**changes: Any) -> LiveDevice:
    return thin(**{"name": PRIVATE, "uuid": f"{UUID}-private", **changes})
