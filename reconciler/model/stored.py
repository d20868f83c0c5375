"""What the store holds: all that neither the records nor the kernel can tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from reconciler.model.identity import Noted
from reconciler.model.names import Key
from reconciler.model.units import Bytes, Sectors


@dataclass(frozen=True, slots=True)
class StoredPool:
    """A pool that this store created, began to create, or took over."""

    name: str
    uuid: str
    created: bool
    """False from the begin to the end of its creation: files may exist, and the kernel may have
    written a superblock.
    """
    data: str
    """The path of the data device or file that it was created with."""
    metadata: str
    block: Sectors
    discards: str
    transaction_id: int = 0
    data_size: Bytes = Bytes(0)
    """The size with which the data was created or to which it was extended; never below the record's of that time."""
    metadata_size: Bytes = Bytes(0)
    made_files: tuple[str, ...] = ()
    """The files that the reconciler made, and may therefore delete with the pool."""
    external: bool = False
    taken_over_at: int | None = None
    """The pool's transaction id when this store took over thins in it that it had not made. Thins of that time may be
    the data of records that have no stored device. None if this store made all of them.
    """
    noted: Noted | None = None
    """What the pool was on when it was last seen healthy. None if it was not seen healthy yet."""


@dataclass(frozen=True, slots=True)
class StoredDevice:
    """A thin that this store created or adopted. One that is still being made is an Intent."""

    key: Key
    uuid: str
    """The UUID of the device; empty if it was adopted, and keeps the UUID (or none) that it has."""
    dm_name: str
    thin_id: int
    size: Sectors
    """The size that its table was last given."""
    created_at: int | None = None
    """The pool's transaction id when it was created; None for an adopted device."""
    active: bool = False
    """Whether it was last seen, or made, active as its record says."""
    committed: bool = False
    """Whether it has reached Committed, so that its content is final."""
    read_only: bool = False
    filesystem: str = ""
    """The type of filesystem in its record, by which it grows with the device also after a restart."""
    filesystem_size: Sectors = Sectors(0)
    """The size to which the filesystem was last grown; if less than `size`, it is still to be grown."""
    adopted: bool = False
    origin: str = ""
    """The device that it was made a snapshot of."""
    frozen: bool = False
    """Whether the reconciler itself suspended it and could not resume it yet; it is resumed without a grace."""
    external: str = ""
    """The external origin in its last table (`253:7`). Without it, what was never written reads as zeros."""
    gone_since: float | None = None
    """Since when no record names it, in wall-clock seconds; None if one does."""


class IntentKind(StrEnum):
    CREATE = "create"
    SNAPSHOT = "snapshot"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Intent:
    """An operation on the pool's metadata that was flushed to the store before its first effect."""

    key: Key
    kind: IntentKind
    thin_id: int
    transaction_id: int
    """The pool's transaction id when the operation began; it is one higher when the operation ends."""
    uuid: str
    dm_name: str
    size: Sectors
    origin: str = ""
    """The device of which a snapshot is taken."""
    suspended: str = ""
    """The dm name that this operation suspends: after a crash it is resumed at once, unless `made` is set."""
    made: bool = False
    """Whether its create was seen to succeed, and what it suspended to be resumed (flushed before the next step)."""
    filesystem: str = ""
    """The type of filesystem in the record. It is made only in a new thin: a snapshot has that of its origin."""

    @property
    def filesystem_to_make(self) -> bool:
        return self.kind is IntentKind.CREATE and bool(self.filesystem)


@dataclass(frozen=True, slots=True)
class ForgottenThin:
    """A thin that this store made and then forgot. Its id is never handed out again, as its data may still exist."""

    thin_id: int
    device: str
    """The device that had the thin."""
    created_at: int
    """The pool's transaction id when the thin was created. If thin_ls reports the same, it is still that thin."""


@dataclass(frozen=True, slots=True)
class SalvagedPool:
    """What a quarantined store still says of a pool: evidence, to be compared with the pool itself."""

    file: str
    pool: StoredPool | None
    devices: Mapping[str, StoredDevice]
