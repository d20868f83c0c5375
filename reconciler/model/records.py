"""The records that manifests declare: ThinPool and ThinDevice, checked one by one.

What can only be seen by looking at several records together (duplicates, cycles, pools without a record) is
checked in `recordset`; what contradicts the store or the host is for the planner.
"""

from __future__ import annotations

import fnmatch
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from reconciler.model.fields import DmName, Label, Model, Name, NodePattern, Path, Percent, Size, check_largest, wrong
from reconciler.model.names import Key, device_dm_name
from reconciler.model.units import Bytes, format_size

_MIB: Final = 1024**2
_GIB: Final = 1024**3
_BLOCK_GRID: Final = 64 * 1024
MIN_POOL_METADATA: Final = Bytes(2 * _MIB)
MAX_POOL_METADATA: Final = Bytes(16 * _GIB)
"""The kernel warns about larger metadata, and never uses the excess."""


class PoolState(StrEnum):
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    ABSENT = "Absent"


class Prune(StrEnum):
    RETAIN = "Retain"
    DEACTIVATE = "Deactivate"
    DELETE = "Delete"


class Backing(Model):
    """What a pool's data or metadata lies on: a block device, or a file on a loop device."""

    device: Annotated[
        Path | None, Field(description="A block device, used whole, such as /dev/disk/by-id/wwn-0x5000c500a0b1c2d3.")
    ] = None
    file: Annotated[
        Path | None, Field(description="A file on a loop device, which is re-attached after a reboot. Needs a size.")
    ] = None
    size: Annotated[Size | None, Field(description="Of the file: 20GiB, 64Mi, 65536 (bytes) or 2048s (sectors).")] = (
        None
    )
    preallocate: Annotated[bool, Field(description="Allocate the data file in full. Default: false, it is sparse.")] = (
        False
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.device is None) == (self.file is None):
            raise ValueError("give either `device: /dev/...` or `file: /...` with a size")
        if self.file is not None and self.size is None:
            raise wrong("size", "missing: a file needs a size, such as 20GiB")
        if self.device is not None and self.size is not None:
            raise wrong("size", "only files have one: leave it out, a device is used whole")
        if self.device is not None and self.preallocate:
            raise wrong("preallocate", "only for files: leave it out, a device is used whole")
        check_largest("size", self.size)
        return self

    @property
    def path(self) -> str:
        path = self.file or self.device
        assert path is not None, "checked when it was built"  # noqa: S101
        return path


class Extend(Model):
    """When, by how much and up to where a file-backed pool grows by itself."""

    threshold: Annotated[Percent, Field(description="Grow when more than this is used, such as 80%.")]
    step: Annotated[Percent, Field(description="Grow by this much of the present size, such as 20%.")]
    max: Annotated[Size, Field(description="Never grow the data beyond this, such as 100GiB.")]


class PoolSpec(Model):
    state: Annotated[
        PoolState,
        Field(
            strict=False,
            description="Active (default): it is there and serves. Inactive: no device, all data kept. "
            "Absent: deleted, once no thin id is left in it.",
        ),
    ] = PoolState.ACTIVE
    data: Annotated[
        Backing | None,
        Field(description="What the data lies on: {device: PATH} or {file: PATH, size: SIZE, preallocate: false}."),
    ] = None
    metadata: Annotated[
        Backing | None,
        Field(description="What the metadata lies on: {device: PATH} or {file: PATH, size: SIZE}, 2MiB to 16GiB."),
    ] = None
    block_size: Annotated[
        Size, Field(description="A multiple of 64KiB, at most 1GiB; fixed once the pool exists. Default: 64KiB.")
    ] = Bytes(_BLOCK_GRID)
    low_water_mark: Annotated[
        Percent,
        Field(description="Of the data device: report when less than this is free. Default: 10%."),
    ] = 10
    when_full: Annotated[
        Literal["queue", "error"], Field(description="What writes do when no space is left. Default: queue.")
    ] = "queue"
    discards: Annotated[
        Literal["passdown", "nopassdown", "ignore"],
        Field(description="How far discards of the devices reach. Default: passdown, to the data device."),
    ] = "passdown"
    zero_new_blocks: Annotated[
        bool, Field(description="Zero blocks before first use, so that nobody reads old data. Default: true.")
    ] = True
    extend: Annotated[
        Extend | None,
        Field(description="A file-backed pool grows by itself, data and metadata. Default: it does not."),
    ] = None
    prune: Annotated[
        Prune,
        Field(
            strict=False,
            description="What becomes of a device whose record is gone. Retain (default), Deactivate, or Delete.",
        ),
    ] = Prune.RETAIN
    external: Annotated[
        bool,
        Field(
            description="true: somebody else's pool (LVM, containerd): its adopted devices are healed, nothing more; "
            "data and metadata may be left out. Default: false."
        ),
    ] = False
    adopt: Annotated[bool, Field(description="true: take over an existing pool for good. Default: false.")] = False
    foreign_thins: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**24)], ...],
        Field(
            strict=False,
            max_length=1000,
            description="Thin ids in the pool that are no record's data, such as [3, 7]: they stay as they are, and hold up "
            "no new device. Default: none.",
        ),
    ] = ()
    paused: Annotated[
        bool, Field(description="true: hands off the pool and its devices, whatever is found. Default: false.")
    ] = False
    nodes: Annotated[
        tuple[NodePattern, ...],
        Field(
            strict=False,
            max_length=1000,
            description='Only on hosts whose name fits one of these patterns, such as ["web-*"]. Default: on all.',
        ),
    ] = ()
    local_disk: Annotated[
        bool,
        Field(description="true: each host has its own disk under the path of `device:`. Default: false."),
    ] = False

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.block_size % _BLOCK_GRID or self.block_size > _GIB:
            raise wrong("blockSize", "must be a multiple of 64KiB, at most 1GiB")
        if self.external and self.adopt:
            raise wrong("adopt", "an external pool stays somebody else's: leave out adopt, or external")
        if self.external and self.extend is not None:
            raise wrong("extend", "an external pool is never extended: leave it out")
        self._check_backings()
        self._check_extend()
        self._check_nodes()
        return self

    def _check_backings(self) -> None:
        if not self.external and self.data is None:
            raise wrong("data", "missing: write {device: /dev/...} or {file: /..., size: 20GiB}")
        if not self.external and self.metadata is None:
            raise wrong("metadata", "missing: write {device: /dev/...} or {file: /..., size: 64MiB}")
        if self.data is not None and self.data.size is not None and self.data.size < self.block_size:
            raise wrong("data.size", f"too small: must be at least one block, {format_size(self.block_size)}")
        if self.metadata is None:
            return
        if self.data is not None and self.data.path == self.metadata.path:
            raise wrong("metadata", "the same path as data: give it a file or device of its own")
        if self.metadata.preallocate:
            raise wrong("metadata.preallocate", "leave it out: metadata is always allocated in full")
        size = self.metadata.size
        if size is not None and not MIN_POOL_METADATA <= size <= MAX_POOL_METADATA:
            raise wrong("metadata.size", "must be from 2MiB to 16GiB, as the kernel uses no more")

    def _check_extend(self) -> None:
        if self.extend is None:
            return
        if any(backing.file is None for backing in self.backings):
            raise wrong("extend", "only a pool whose data and metadata are files can grow by itself: leave it out")
        if self.data is not None and self.data.size is not None and self.extend.max < self.data.size:
            raise wrong("extend.max", f"less than data.size: must be at least {format_size(self.data.size)}")
        check_largest("extend.max", self.extend.max)

    def _check_nodes(self) -> None:
        """Rejects a disk that two hosts could use at the same time, which would destroy the pool on it."""
        on_device = any(backing.device is not None for backing in self.backings)
        one_host = len(self.nodes) == 1 and not is_pattern(self.nodes[0])
        if self.nodes and on_device and not one_host and not self.local_disk and not self.external:
            raise wrong(
                "nodes",
                "a pool on `device:` may fit one host only: name that host, "
                "or say `localDisk: true` if each host has its own disk under that path",
            )

    @property
    def backings(self) -> tuple[Backing, ...]:
        """Data and metadata, as far as given: an external pool may leave them out."""
        return tuple(backing for backing in (self.data, self.metadata) if backing is not None)


def is_pattern(node: str) -> bool:
    """Whether an entry of `nodes` may match several hosts."""
    return any(character in node for character in "*?[")


MAX_THIN_ID: Final = 2**24 - 1
"""The largest thin id: they are 24-bit numbers (kernel documentation of thin provisioning)."""


class DeviceState(StrEnum):
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    COMMITTED = "Committed"
    ABSENT = "Absent"


class Adopt(Model):
    """An existing thin that a record takes over, under the dm name that it has."""

    device_id: Annotated[int, Field(ge=0, le=MAX_THIN_ID, description="Its thin id in the pool.")]
    dm_name: Annotated[DmName, Field(description="The dm name that it has, and keeps.")]


class Filesystem(Model):
    """Made once, when the device is made; grows with the device. A snapshot brings its origin's."""

    type: Annotated[Literal["ext4", "xfs"], Field(description="ext4 or xfs.")]
    label: Annotated[Label, Field(description="At most 16 characters for ext4, 12 for xfs. Default: none.")] = ""
    block_size: Annotated[Size, Field(description="1KiB, 2KiB or 4KiB. Default: 4KiB.")] = Bytes(4096)
    discard: Annotated[
        bool, Field(description="true: discard the whole device while making the filesystem. Default: false.")
    ] = False

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.block_size not in {1024, 2048, 4096}:
            raise wrong("blockSize", "must be 1KiB, 2KiB or 4KiB")
        if self.type == "xfs" and len(self.label) > 12:
            raise wrong("label", "too long: xfs takes at most 12 characters")
        return self


class DeviceSpec(Model):
    pool: Annotated[Name, Field(description="The name of the ThinPool that it is in.")]
    state: Annotated[
        DeviceState,
        Field(
            strict=False,
            description="Active (default): the device is there and live. Inactive: its data is kept, no device. "
            "Committed: like Inactive, and final: it only serves as an origin. Absent: deleted with its data.",
        ),
    ] = DeviceState.ACTIVE
    size: Annotated[
        Size | None,
        Field(
            description="10GiB, 64Mi, 65536 (bytes) or 2048s (sectors). May grow, never shrink. "
            "A snapshot takes its origin's of that moment where it is not given."
        ),
    ] = None
    snapshot_of: Annotated[
        Name | None, Field(description="Another device of the same pool; read once, when this one is made.")
    ] = None
    filesystem: Annotated[
        Filesystem | None, Field(description="Made once, grows with the device; on a snapshot, only grows.")
    ] = None
    read_only: Annotated[bool, Field(description="true: the device cannot be written. Default: false.")] = False
    discard_on_delete: Annotated[
        bool, Field(description="true: give the blocks back to the data device before deleting. Default: false.")
    ] = False
    paused: Annotated[bool, Field(description="true: hands off, whatever is found. Default: false.")] = False
    adopt: Annotated[Adopt | None, Field(description="Take over a thin that exists, under its own dm name.")] = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.size is None and self.snapshot_of is None and self.adopt is None and self.state != DeviceState.ABSENT:
            raise wrong("size", "missing: only a snapshot and an adopted device take theirs from what exists")
        if self.adopt is not None and self.snapshot_of is not None:
            raise wrong("adopt", "an adopted device exists already: leave snapshotOf out")
        check_largest("size", self.size)
        return self


__all__ = [
    "API_VERSION",
    "MAX_THIN_ID",
    "Adopt",
    "Backing",
    "DeviceSpec",
    "DeviceState",
    "Extend",
    "Filesystem",
    "Metadata",
    "PoolSpec",
    "PoolState",
    "Prune",
    "Record",
    "ThinDevice",
    "ThinPool",
]

API_VERSION: Final = "dm-reconciler/v1"


class Metadata(Model):
    name: Annotated[
        Name,
        Field(
            description="A pool's dm name; a device's dm name is POOL-NAME. A letter or digit, then letters, "
            "digits, '.', '_' and '-', at most 63 characters."
        ),
    ]


class ThinPool(Model):
    """A thin pool: what it lies on, and how it behaves."""

    api_version: Annotated[Literal["dm-reconciler/v1"], Field(description="Always dm-reconciler/v1.")]
    kind: Annotated[Literal["ThinPool"], Field(description="ThinPool or ThinDevice.")]
    metadata: Metadata
    spec: PoolSpec

    @property
    def key(self) -> Key:
        return Key(self.metadata.name)

    @property
    def dm_name(self) -> str:
        return self.metadata.name

    def fits(self, node: str) -> bool:
        """Whether this record is for the host of that name."""
        return not self.spec.nodes or any(fnmatch.fnmatchcase(node, pattern) for pattern in self.spec.nodes)


class ThinDevice(Model):
    """A thin device in a pool: empty, a snapshot of another one, or adopted."""

    api_version: Annotated[Literal["dm-reconciler/v1"], Field(description="Always dm-reconciler/v1.")]
    kind: Annotated[Literal["ThinDevice"], Field(description="ThinPool or ThinDevice.")]
    metadata: Metadata
    spec: DeviceSpec

    @property
    def key(self) -> Key:
        return Key(self.spec.pool, self.metadata.name)

    @property
    def dm_name(self) -> str:
        if self.spec.adopt is not None:
            return self.spec.adopt.dm_name
        return device_dm_name(self.spec.pool, self.metadata.name)


Record = ThinPool | ThinDevice
