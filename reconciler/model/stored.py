"""What the store knows: the half of the truth that neither the records nor the kernel hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from reconciler.model.identity import Noted
from reconciler.model.names import Key
from reconciler.model.units import Bytes, Sectors


@dataclass(frozen=True, slots=True)
class StoredPool:
    """A pool that this store created, or has begun to create, or took over."""

    name: str
    uuid: str
    created: bool
    """False: its creation has begun (files may be made, the kernel may have written a superblock), not ended."""
    data: str
    """Path of the data device or file that it was created with."""
    metadata: str
    block: Sectors
    discards: str
    transaction_id: int = 0
    data_size: Bytes = Bytes(0)
    """What the data was last created with or extended to. Never below the record's at that time."""
    metadata_size: Bytes = Bytes(0)
    made_files: tuple[str, ...] = ()
    """Files that the reconciler made, and so may delete with the pool."""
    external: bool = False
    taken_over_at: int | None = None
    """The pool's transaction id when this store took its word for what is in it, without having made all of that: thins
    that were there by then may be the data of records that the store has no device for. None: it made them all."""
    noted: Noted | None = None
    """What it lay on when it was last seen well. None: not seen yet since this is noted."""


@dataclass(frozen=True, slots=True)
class StoredDevice:
    """A thin that this store created or adopted. One that is still being made is an Intent."""

    key: Key
    uuid: str
    """Empty: adopted, it keeps the UUID (or none) that it has."""
    dm_name: str
    thin_id: int
    size: Sectors
    """The size that its table was last given."""
    created_at: int | None = None
    """The pool's transaction id when it was created; None for an adopted one."""
    active: bool = False
    """It was last seen, or made, active as its record says."""
    committed: bool = False
    """It has reached Committed: its content is final."""
    read_only: bool = False
    filesystem: str = ""
    """The type that its record asks for, so that it grows with the device also after a restart."""
    filesystem_size: Sectors = Sectors(0)
    """What the filesystem was last grown to; less than `size`: the growing is still to be done."""
    adopted: bool = False
    origin: str = ""
    """The device that it was made a snapshot of."""
    frozen: bool = False
    """The reconciler itself suspended it and could not resume it yet: it is resumed without a grace."""
    external: str = ""
    """The external origin that its table was last seen with (`253:7`): without it, what was never written reads as zeros."""
    gone_since: float | None = None
    """Wall-clock seconds since when no record names it; None while one does."""


class IntentKind(StrEnum):
    CREATE = "create"
    SNAPSHOT = "snapshot"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Intent:
    """An operation on the pool's metadata that has been flushed to the store before its first effect."""

    key: Key
    kind: IntentKind
    thin_id: int
    transaction_id: int
    """The pool's when the operation began; it ends with this plus one."""
    uuid: str
    dm_name: str
    size: Sectors
    origin: str = ""
    """The device whose snapshot is taken."""
    suspended: str = ""
    """The dm name that this operation suspends: after a crash it is resumed at once, unless `made`."""
    made: bool = False
    """Its own create was seen to have succeeded, and what it suspended to run again (flushed before the next step)."""
    filesystem: str = ""
    """The type that its record asks for. Only a new thin gets one made: a snapshot brings its origin's."""

    @property
    def filesystem_to_make(self) -> bool:
        return self.kind is IntentKind.CREATE and bool(self.filesystem)


@dataclass(frozen=True, slots=True)
class ForgottenThin:
    """A thin that this store made and then forgot: its id is never handed out again, and its data may still be there."""

    thin_id: int
    device: str
    """Whose it was."""
    created_at: int
    """The pool's transaction id when it was created: it is still that thin if thin_ls tells the same."""


@dataclass(frozen=True, slots=True)
class SalvagedPool:
    """What a store that was set aside as damaged still says of a pool: evidence, to be held against the pool itself."""

    file: str
    pool: StoredPool | None
    devices: Mapping[str, StoredDevice]
