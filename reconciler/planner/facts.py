"""What a planner is asked: everything that bears on one record, gathered by the controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.model.conditions import Reason
from reconciler.model.live import LiveDevice, LivePool, ThinIds
from reconciler.model.names import Key
from reconciler.model.records import ThinDevice, ThinPool
from reconciler.model.stored import Intent, StoredDevice, StoredPool
from reconciler.model.units import Bytes
from reconciler.planner.plan import Sign


@dataclass(frozen=True, slots=True)
class Grace:
    """Since when each sign has been seen without a break, and how long it is let be. Seconds of one clock."""

    now: float
    length: float
    since: Mapping[Sign, float] = field(default_factory=dict)

    def left(self, sign: Sign, length: float | None = None) -> float:
        """Seconds until the sign counts; 0 or less once it does."""
        return self.since.get(sign, self.now) + (self.length if length is None else length) - self.now


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """One pool. `record` is None when the pool is only known from the store."""

    name: str
    record: ThinPool | None
    known: StoredPool | None
    live: LivePool
    grace: Grace
    new_uuid: str
    """The UUID that the pool gets if it is created now."""
    intents: tuple[Intent, ...] = ()
    ids: ThinIds | None = None
    devices_live: tuple[str, ...] = ()
    """dm names of live devices on the pool, whosever they are."""
    known_devices: tuple[str, ...] = ()
    """Devices that the store has in this pool."""
    needed: bool = False
    """A device still has to be deleted from it, which takes an active pool."""
    largest: Bytes = Bytes(0)
    """The size of the largest device that the store has in it."""
    stuck: str | None = None
    """Why its worker does not answer."""


class Access(StrEnum):
    """What may be done to the devices of a pool as it is."""

    FULL = "full"
    RELEASE = "release"
    """As `MAINTAIN`, and thins may be deleted: of a pool whose data is full, which only gains by it."""
    MAINTAIN = "maintain"
    """Resume and deactivate; nothing that writes metadata or loads a table."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class PoolAccess:
    access: Access
    reason: Reason = Reason.CONVERGED
    message: str = ""
    no_room: str | None = None
    """Why nothing new is made in it, though all else may be done. None: there is room."""

    @property
    def may_delete(self) -> bool:
        return self.access in {Access.FULL, Access.RELEASE}


@dataclass(frozen=True, slots=True)
class Origin:
    """What bears on taking a snapshot of a device."""

    name: str
    dm_name: str
    known: StoredDevice | None
    live: LiveDevice | None = None
    elsewhere: tuple[str, ...] = ()
    protected: bool = False
    """The daemon stands on it: suspending it would freeze the daemon."""
    paused: bool = False
    """Its record asks for hands off: it is not suspended either."""


class PruneVerdict(StrEnum):
    """What is to become of a device whose record is gone."""

    WAIT = "wait"
    """The record has not been gone long enough, or the directory is still changing."""
    RETAIN = "retain"
    HELD_BACK = "held back"
    """Too many records vanished at once: nothing is pruned until somebody means it."""
    DEACTIVATE = "deactivate"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """One device. `record` is None for an orphan."""

    key: Key
    record: ThinDevice | None
    pool_record: ThinPool | None
    pool: LivePool
    pool_known: StoredPool | None
    access: PoolAccess
    known: StoredDevice | None
    live: LiveDevice | None
    grace: Grace
    new_id: int
    """The thin id that it gets if it is made now."""
    new_uuid: str
    private: LiveDevice | None = None
    elsewhere: tuple[str, ...] = ()
    """dm names of other live devices that show the same thin."""
    renamed: str | None = None
    """The one of them that carries this device's UUID."""
    intent: Intent | None = None
    id_taken: bool = False
    """The store has noted the intent's id as somebody else's: its create found a thin there. Nothing is deleted."""
    other_intent: str | None = None
    """Another device of the pool that has an operation under way."""
    adopted_by: str | None = None
    """Another device here that has the thin which this record wants to adopt."""
    origin: Origin | None = None
    ids: ThinIds | None = None
    suspects: ThinIds | None = field(default_factory=dict)
    """Thin ids that nobody names and that may be the data of this device, which the store does not know. None: nobody
    can tell yet."""
    prune: PruneVerdict = PruneVerdict.RETAIN

    @property
    def dm_name(self) -> str:
        """The name that it has; what the record says counts only as long as it has none."""
        if self.known is not None:
            return self.known.dm_name
        return self.record.dm_name if self.record is not None else ""
