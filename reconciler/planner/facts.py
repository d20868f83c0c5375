"""The planner's input: all facts that bear on one record, gathered by the controller."""

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
    """How long each sign has been seen without a break, and how long it is tolerated, in seconds of one clock."""

    now: float
    length: float
    since: Mapping[Sign, float] = field(default_factory=dict)

    def left(self, sign: Sign, length: float | None = None) -> float:
        """Seconds until the sign counts as drift; 0 or less once it does."""
        return self.since.get(sign, self.now) + (self.length if length is None else length) - self.now


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """The facts about one pool. `record` is None for a pool that only the store knows."""

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
    """The dm names of the live devices on the pool, whoever owns them."""
    known_devices: tuple[str, ...] = ()
    """The devices that the store has in this pool."""
    needed: bool = False
    """Whether a device is still to be deleted from the pool, which takes an active pool."""
    largest: Bytes = Bytes(0)
    """The size of the largest device that the store has in the pool."""
    stuck: str | None = None
    """Why the pool's worker does not answer; None if it does."""


class Access(StrEnum):
    """What may be done to the devices of a pool in its present state."""

    FULL = "full"
    RELEASE = "release"
    """As `MAINTAIN`, and thins may be deleted; for a pool whose data is full, because that frees space."""
    MAINTAIN = "maintain"
    """Resume and deactivate, but nothing that writes metadata or loads a table."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class PoolAccess:
    access: Access
    reason: Reason = Reason.CONVERGED
    message: str = ""
    no_room: str | None = None
    """Why nothing new can be made in the pool, though everything else may be done; None if there is room."""

    @property
    def may_delete(self) -> bool:
        return self.access in {Access.FULL, Access.RELEASE}


@dataclass(frozen=True, slots=True)
class Origin:
    """The facts about the origin of a snapshot."""

    name: str
    dm_name: str
    known: StoredDevice | None
    live: LiveDevice | None = None
    elsewhere: tuple[str, ...] = ()
    protected: bool = False
    """Whether the daemon itself uses the device, so that suspending it would freeze the daemon."""
    paused: bool = False
    """Whether the origin's record is paused; it is then not suspended either."""


class PruneVerdict(StrEnum):
    """What is to become of a device whose record is gone."""

    WAIT = "wait"
    """The record has not been gone for long enough, or the directory is still changing."""
    RETAIN = "retain"
    HELD_BACK = "held back"
    """Too many records vanished at once, so nothing is pruned until the operator allows it."""
    DEACTIVATE = "deactivate"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """The facts about one device. `record` is None for an orphan."""

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
    """The thin id that the device gets if it is made now."""
    new_uuid: str
    private: LiveDevice | None = None
    elsewhere: tuple[str, ...] = ()
    """The dm names of other live devices that show the same thin."""
    renamed: str | None = None
    """The one of them that carries this device's UUID."""
    intent: Intent | None = None
    id_taken: bool = False
    """Whether the intent's id is noted as somebody else's, because its create found a thin. It is not deleted."""
    other_intent: str | None = None
    """Another device of the pool that has an open intent."""
    adopted_by: str | None = None
    """Another device of this store that has the thin which this record is to adopt."""
    origin: Origin | None = None
    ids: ThinIds | None = None
    suspects: ThinIds | None = field(default_factory=dict)
    """Thin ids that nobody names and that may be this device's data, if the store does not know it.
    None: unknown yet.
    """
    prune: PruneVerdict = PruneVerdict.RETAIN

    @property
    def dm_name(self) -> str:
        """The dm name that the device has; the name in the record counts only if it has none yet."""
        if self.known is not None:
            return self.known.dm_name
        return self.record.dm_name if self.record is not None else ""
