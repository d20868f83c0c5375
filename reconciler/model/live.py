"""What a scan sees: device-mapper devices, pools, and what is under them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.model.dm_tables import Devno, PoolFailure, PoolStatus, Table, ThinFailure, ThinStatus
from reconciler.model.identity import Marks, Start
from reconciler.model.units import Bytes, Sectors


class LiveState(StrEnum):
    """The word for the live state in `get`."""

    ACTIVE = "Active"
    INACTIVE = "Inactive"
    """The thin id (or the pool's metadata) exists, but no device does."""
    SUSPENDED = "Suspended"
    ABSENT = "Absent"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of LIST."""

    name: str
    devno: Devno
    event_nr: int


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What INFO reports of an existing device."""

    name: str
    uuid: str
    devno: Devno
    open_count: int
    event_nr: int
    suspended: bool
    live_table: bool
    inactive_table: bool
    read_only: bool
    deferred_remove: bool
    internal_suspend: bool = False


@dataclass(frozen=True, slots=True)
class LiveDevice:
    """One dm device. A table that does not exist is empty; `inactive` is read only if INFO reports one."""

    info: DeviceInfo
    table: Table = ()
    inactive: Table = ()
    status: ThinStatus | ThinFailure | None = None
    """The status of a thin. None if it was not asked for, because a suspension below could block the call."""
    missing_nodes: tuple[str, ...] = ()
    """Paths in /dev that should lead to the device and do not. They are checked only while it has a live table."""
    holders: tuple[str, ...] = ()
    """Who has the device open, in words: mounts, dm devices above, processes. Only looked up if it
    should not be open.
    """

    @property
    def length(self) -> Sectors:
        return Sectors(sum(target.length for target in self.table))


class PathKind(StrEnum):
    MISSING = "missing"
    FILE = "file"
    BLOCK = "block"
    OTHER = "other"


class Superblock(StrEnum):
    """The content of the first block of a metadata device."""

    ZERO = "zero"
    POOL = "pool"
    OTHER = "other"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop device and the file behind it, as LOOP_GET_STATUS64 reports it."""

    devno: Devno
    path: str
    """The node of the loop, such as /dev/loop3."""
    deleted: bool = False
    size: Bytes = Bytes(0)
    """The size that the loop shows. It does not follow its file until it is told to."""
    offset: Bytes = Bytes(0)
    size_limit: Bytes = Bytes(0)
    """The most of the file that the loop shows, however long that is; 0 for no limit."""
    read_only: bool = False
    """Whether every write fails, also of those who opened the loop for writing."""


@dataclass(frozen=True, slots=True)
class LiveBacking:
    """What a pool's data or metadata is on."""

    kind: PathKind = PathKind.MISSING
    size: Bytes = Bytes(0)
    devno: Devno | None = None
    """The number of the block device, or of the only loop on the file."""
    loops: tuple[Loop, ...] = ()
    """All loops on the file. Several are views of one disk, which corrupts all of them."""
    free_space: Bytes = Bytes(0)
    """The free space of the filesystem that the file is on."""
    allocated: Bytes = Bytes(0)
    folder_exists: bool = True
    superblock: Superblock = Superblock.UNREAD
    transaction_id: int | None = None
    """The transaction id in a pool's superblock. Both are read only while no pool is on the device."""
    needs_check: bool = False
    """Whether the superblock says that the metadata must be checked; such a pool is activated read-only."""
    data_blocks_used: int = 0
    """How many blocks of the pool's data are in use by the superblock."""
    signature: str = ""
    """What libblkid finds, as one word, if anything. It is read only while no pool is on the device."""
    used_by: tuple[str, ...] = ()
    """The devices above it except for the pool itself, and other loops on the file behind it; mounts and swap only
    while no pool is on it.
    """
    read_only: bool = False
    """Whether the block device, or its loop, takes no writes."""
    sector: int = 512
    """The sector size in bytes: a table on the device must be a multiple of it in length."""
    file_size: Bytes | None = None
    """The size of the file behind a loop that is named as the device itself: the loop still shows the old size."""
    marks: Marks = ()
    """The marks by which it is recognised, whatever path leads to it."""
    elsewhere: str | None = None
    """The place of the disk with the noted marks, if it is not this one."""
    is_known_place: bool = False
    """Whether the store knows another path, which leads to the same device or file."""
    start: Start | None = None
    """The start of the data; of a live pool it is read only while that is healthy."""
    superblock_digest: str = ""
    """The digest of the first block of the metadata, without what a repair changes in it. Read with the superblock."""


@dataclass(frozen=True, slots=True)
class Below:
    """A suspended device below a pool."""

    name: str
    uuid: str


@dataclass(frozen=True, slots=True)
class LivePool:
    device: LiveDevice | None = None
    status: PoolStatus | PoolFailure | None = None
    """The status of the pool. None if it has no live table, or was not asked because that could block."""
    data: LiveBacking = field(default_factory=LiveBacking)
    metadata: LiveBacking = field(default_factory=LiveBacking)
    suspended_below: tuple[Below, ...] = ()
    renamed: str | None = None
    """The dm name of the device with the pool's UUID, if the pool's name is missing or belongs to another device."""


@dataclass(frozen=True, slots=True)
class ThinEntry:
    """One line of thin_ls."""

    mapped_blocks: int
    created_at: int
    """The pool's transaction id when the thin was created."""


ThinIds = Mapping[int, ThinEntry]


@dataclass(frozen=True, slots=True)
class BackingPath:
    """The place of a pool's data or metadata: a block device, or a plain file that needs a loop."""

    path: str
    is_file: bool
    known: str | None = None
    """The path that the store knows, if it differs."""
    noted: Marks = ()
    """The marks of what was there when the pool was last healthy."""


@dataclass(frozen=True, slots=True)
class ScanScope:
    """What a worker scans: one pool, and the names of its devices."""

    pool: str
    data: BackingPath | None
    """None for an external pool."""
    metadata: BackingPath | None
    names: frozenset[str]
    """The dm names of the pool's devices, including private ones, whether or not they exist."""
    fresh: bool = False
    """Whether the store has not created the pool, so that obstacles to its creation are looked for too."""
    uuid: str = ""
    """The UUID of the pool as the store knows it; it stays the same if somebody renames the device."""


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """How to scan. Without names, all of the pool's devices are scanned, a part of them thoroughly, in turn."""

    names: frozenset[str] | None = None
    thorough: bool = False
    """Whether to scan everything, tables and nodes included, whether or not it seems changed."""
    ids: bool = False
    holders: bool = False
    """Whether to look up who has these devices open, too."""
    ours: bool = False
    """With `ids`: a metadata snapshot that the pool still holds was reserved by this store, and is released first."""


@dataclass(frozen=True, slots=True)
class PoolScan:
    """The result of one scan of a pool and its devices, in one answer."""

    pool: LivePool
    devices: Mapping[str, LiveDevice] = field(default_factory=dict)
    """The devices by dm name that changed since this worker's last scan, including private devices and other owners'
    devices on the pool.
    """
    gone: frozenset[str] = frozenset()
    """The dm names that existed at this worker's last scan and are gone."""
    first: bool = False
    """Whether this is the worker's first scan, so that a device that is not in `devices` does not exist."""
    ids: ThinIds | None = None
    """The thin ids. None if they were not asked for, or the pool could not report them."""
    ids_trouble: str | None = None
    """Why the ids could not be read, if that is known."""
    reserved: bool = False
    """Whether the metadata snapshot through which they were read may still be held."""
    protected: frozenset[Devno] = frozenset()
    """Devices that the daemon itself uses (root, swap, its state): they are never suspended."""
