"""What was seen when looking: device-mapper devices, pools, and what lies under them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.model.dm_tables import Devno, PoolFailure, PoolStatus, Table, ThinFailure, ThinStatus
from reconciler.model.identity import Marks, Start
from reconciler.model.units import Bytes, Sectors


class LiveState(StrEnum):
    """The one word that `get` shows."""

    ACTIVE = "Active"
    INACTIVE = "Inactive"
    """The thin id (or the pool's metadata) is there, no device is."""
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
    """What INFO says of a device that exists."""

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
    """One dm device. Tables are empty where there are none; `inactive` is read only when INFO says that one waits."""

    info: DeviceInfo
    table: Table = ()
    inactive: Table = ()
    status: ThinStatus | ThinFailure | None = None
    """None: not asked, as asking could block (a suspension below it)."""
    missing_nodes: tuple[str, ...] = ()
    """Paths in /dev that should lead to the device and do not. Looked at only while it has a live table."""
    holders: tuple[str, ...] = ()
    """Who has it open, in words for people: mounts, dm devices above, processes. Asked for only where it is open
    and should not be."""

    @property
    def length(self) -> Sectors:
        return Sectors(sum(target.length for target in self.table))


class PathKind(StrEnum):
    MISSING = "missing"
    FILE = "file"
    BLOCK = "block"
    OTHER = "other"


class Superblock(StrEnum):
    """What the first block of a metadata device holds."""

    ZERO = "zero"
    POOL = "pool"
    OTHER = "other"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop device and the file behind it, as LOOP_GET_STATUS64 tells it."""

    devno: Devno
    path: str
    """The loop's own node, such as /dev/loop3."""
    deleted: bool = False
    size: Bytes = Bytes(0)
    """What the loop shows, which lags behind its file until it is told to look."""
    offset: Bytes = Bytes(0)
    size_limit: Bytes = Bytes(0)
    """It shows no more of the file than this, however long that is; 0 is no limit."""
    read_only: bool = False
    """It fails every write, also of those who opened it for writing."""


@dataclass(frozen=True, slots=True)
class LiveBacking:
    """What a pool's data or metadata lies on."""

    kind: PathKind = PathKind.MISSING
    size: Bytes = Bytes(0)
    devno: Devno | None = None
    """Of the block device, or of the one loop on the file."""
    loops: tuple[Loop, ...] = ()
    """All loops on the file. More than one is two views of one disk, and corrupts both."""
    free_space: Bytes = Bytes(0)
    """Of the filesystem that the file is on."""
    allocated: Bytes = Bytes(0)
    folder_exists: bool = True
    superblock: Superblock = Superblock.UNREAD
    transaction_id: int | None = None
    """What a pool's superblock on it says. Read, with the superblock, only while no pool lies on it."""
    needs_check: bool = False
    """It says that the metadata must be checked: such a pool comes up read-only."""
    data_blocks_used: int = 0
    """How many blocks of the pool's data it says are in use."""
    signature: str = ""
    """What libblkid finds on it, in a word, if anything. Read only while no pool lies on it."""
    used_by: tuple[str, ...] = ()
    """Devices above it but for the pool itself, and other loops on the file behind it; mounts and swap only while no
    pool lies on it."""
    read_only: bool = False
    """The block device, or its loop, takes no writes."""
    sector: int = 512
    """Bytes of the smallest piece that it takes: no table on it may have a length off this grid."""
    file_size: Bytes | None = None
    """Of the file behind a loop that is itself named as the device: the loop goes on showing what was there."""
    marks: Marks = ()
    """What it is known by, whichever path leads to it."""
    elsewhere: str | None = None
    """Where the disk with the marks that were noted is, if this is not it."""
    is_known_place: bool = False
    """The path that the store knows is another one, and leads to the very same device or file."""
    start: Start | None = None
    """Of the data: what stands at its beginning. Of a live pool only while that is healthy."""
    superblock_digest: str = ""
    """Of the metadata's first block, but for what a repair changes in it. Read with the superblock."""


@dataclass(frozen=True, slots=True)
class Below:
    """A suspended device below a pool."""

    name: str
    uuid: str


@dataclass(frozen=True, slots=True)
class LivePool:
    device: LiveDevice | None = None
    status: PoolStatus | PoolFailure | None = None
    """None: no live table, or not asked because it could block."""
    data: LiveBacking = field(default_factory=LiveBacking)
    metadata: LiveBacking = field(default_factory=LiveBacking)
    suspended_below: tuple[Below, ...] = ()
    renamed: str | None = None
    """Of a pool whose name is not there, or another device's: the name of the one that carries its UUID."""


@dataclass(frozen=True, slots=True)
class ThinEntry:
    """One line of thin_ls."""

    mapped_blocks: int
    created_at: int
    """The pool's transaction id when it was created."""


ThinIds = Mapping[int, ThinEntry]


@dataclass(frozen=True, slots=True)
class BackingPath:
    """Where a pool's data or metadata is: a block device, or a plain file that takes a loop."""

    path: str
    is_file: bool
    known: str | None = None
    """The path that the store knows, where that is another one."""
    noted: Marks = ()
    """The marks of what was there when the pool was last well."""


@dataclass(frozen=True, slots=True)
class ScanScope:
    """What a worker looks at: one pool and the names of its devices."""

    pool: str
    data: BackingPath | None
    """None for a pool of somebody else's."""
    metadata: BackingPath | None
    names: frozenset[str]
    """dm names of the pool's devices, private ones included, whether or not they exist."""
    fresh: bool = False
    """The store has not created the pool: look also for what could be in the way of creating it."""
    uuid: str = ""
    """The pool's own, where the store knows it: it stays when somebody renames the device."""


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """How to look. Without names: at all of the pool's devices, thoroughly at a part of them in turn."""

    names: frozenset[str] | None = None
    thorough: bool = False
    """At everything, tables and nodes included, whether or not something seems to have changed."""
    ids: bool = False
    holders: bool = False
    """Also who has those names open."""
    ours: bool = False
    """With `ids`: a metadata snapshot that the pool still holds was reserved by this store, and is released first."""


@dataclass(frozen=True, slots=True)
class PoolScan:
    """One look at a pool and its devices, everything in one answer."""

    pool: LivePool
    devices: Mapping[str, LiveDevice] = field(default_factory=dict)
    """By dm name: those that are not as they were at this worker's last look. Private devices, and devices of
    others that lie on the pool, are among them."""
    gone: frozenset[str] = frozenset()
    """dm names that were there at this worker's last look."""
    first: bool = False
    """The worker's first: what is not in `devices` is not there."""
    ids: ThinIds | None = None
    """None: not asked for, or the pool could not tell."""
    ids_trouble: str | None = None
    """Why the ids could not be read, where that is known."""
    reserved: bool = False
    """The metadata snapshot through which they were read may still be held."""
    protected: frozenset[Devno] = frozenset()
    """Devices that the daemon itself stands on (root, swap, its state): never suspended."""
