"""The records that manifests declare: ThinPool and ThinDevice, checked one by one.

What can only be seen by looking at several records together (duplicates, cycles, pools without a record) is
checked in `recordset`; what contradicts the store or the host is for the planner.
"""

from __future__ import annotations

import fnmatch
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from reconciler.model.names import DM_NAME_PATTERN, NAME_PATTERN, Key, device_dm_name
from reconciler.model.units import Bytes, format_size, parse_size, percent_of

API_VERSION = "dm-reconciler/v1"
_GIB = 1024**3
_BLOCK_GRID = 64 * 1024
MAX_THIN_ID = 2**24 - 1
"""Thin ids are 24-bit numbers (kernel documentation of thin provisioning)."""


class PoolState(StrEnum):
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    ABSENT = "Absent"


class DeviceState(StrEnum):
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    COMMITTED = "Committed"
    ABSENT = "Absent"


class Prune(StrEnum):
    RETAIN = "Retain"
    DEACTIVATE = "Deactivate"
    DELETE = "Delete"


def _size(value: Any) -> Bytes:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("not a size: write 10GiB, 64MiB, 65536 (bytes) or 2048s (sectors)")
    return parse_size(value)


def _percent(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("not a percentage: write a whole number from 1% to 100%")
    return percent_of(value)


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or value == "/":
        raise ValueError("not an absolute path: write it from /")
    if any(part in {".", ".."} for part in value.split("/")) or "//" in value or value.endswith("/"):
        raise ValueError("not a plain path: write it without . and .. and doubled slashes")
    if not value.isprintable() or len(value) > 4000:
        raise ValueError("a path has at most 4000 characters, and no control characters")
    return value


def _show_size(size: int) -> str | int:
    text = format_size(size)
    return text if "." not in text and not text.endswith("0B") else size


Size = Annotated[
    Bytes,
    BeforeValidator(_size),
    PlainSerializer(_show_size, return_type=str | int, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]{1,19}([KMGTPE]iB?|s|B?)$"},
                {"type": "integer", "minimum": 512, "multipleOf": 512},
            ],
            "description": "10GiB, 64Mi, 65536 (bytes) or 2048s (sectors); whole sectors",
        },
    ),
]
Percent = Annotated[
    int,
    BeforeValidator(_percent),
    PlainSerializer(lambda value: f"{value}%", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^([1-9][0-9]?|100)%$"}),
]
Path = Annotated[str, BeforeValidator(_path), WithJsonSchema({"type": "string", "pattern": "^/."})]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        serialize_by_alias=True,
    )


class Metadata(_Model):
    name: Name


class Backing(_Model):
    """What a pool's data or metadata lies on: a block device, or a file on a loop device."""

    device: Path | None = None
    file: Path | None = None
    size: Size | None = None
    preallocate: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.device is None) == (self.file is None):
            raise ValueError("give either `device: /dev/...` or `file: /...` with a size")
        if self.file is not None and self.size is None:
            raise ValueError("a file needs a size, such as 20GiB")
        if self.device is not None and (self.size is not None or self.preallocate):
            raise ValueError("size and preallocate are for files; a device is used whole")
        return self

    @property
    def path(self) -> str:
        path = self.file or self.device
        assert path is not None, "checked when it was built"  # noqa: S101
        return path


class Extend(_Model):
    """When, by how much and up to where a file-backed pool grows by itself."""

    threshold: Percent
    step: Percent
    max: Size


class PoolSpec(_Model):
    state: Annotated[PoolState, Field(strict=False)] = PoolState.ACTIVE
    data: Backing
    metadata: Backing
    block_size: Size = Bytes(_BLOCK_GRID)
    low_water_mark: Percent = 10
    when_full: Literal["queue", "error"] = "queue"
    discards: Literal["passdown", "nopassdown", "ignore"] = "passdown"
    zero_new_blocks: bool = True
    extend: Extend | None = None
    prune: Annotated[Prune, Field(strict=False)] = Prune.RETAIN
    external: bool = False
    adopt: bool = False
    paused: bool = False
    nodes: tuple[str, ...] = ()
    local_disk: bool = False

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.block_size % _BLOCK_GRID or self.block_size > _GIB:
            raise ValueError("blockSize: must be a multiple of 64KiB, at most 1GiB")
        if self.data.path == self.metadata.path:
            raise ValueError("data and metadata must not be the same path")
        if self.metadata.preallocate:
            raise ValueError("metadata.preallocate: leave it out, metadata is always allocated in full")
        if self.extend is not None and (self.data.file is None or self.metadata.file is None):
            raise ValueError("extend: only a pool whose data and metadata are files can grow by itself")
        if self.external and (self.adopt or self.extend is not None):
            raise ValueError("external: a pool of somebody else's is neither adopted nor extended")
        return self


class Adopt(_Model):
    """An existing thin that a record takes over, under the dm name that it has."""

    device_id: Annotated[int, Field(ge=0, le=MAX_THIN_ID)]
    dm_name: Annotated[str, Field(pattern=DM_NAME_PATTERN)]


class Filesystem(_Model):
    type: Literal["ext4", "xfs"]
    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$", max_length=16)] = ""
    block_size: Size = Bytes(4096)
    discard: bool = False

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.block_size not in {1024, 2048, 4096}:
            raise ValueError("blockSize: must be 1KiB, 2KiB or 4KiB")
        if self.type == "xfs" and len(self.label) > 12:
            raise ValueError("label: xfs takes at most 12 characters")
        return self


class DeviceSpec(_Model):
    pool: Name
    state: Annotated[DeviceState, Field(strict=False)] = DeviceState.ACTIVE
    size: Size | None = None
    snapshot_of: Name | None = None
    filesystem: Filesystem | None = None
    read_only: bool = False
    discard_on_delete: bool = False
    paused: bool = False
    adopt: Adopt | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.size is None and self.snapshot_of is None and self.adopt is None and self.state != DeviceState.ABSENT:
            raise ValueError("size: missing; only a snapshot and an adopted device take theirs from what exists")
        if self.adopt is not None and self.snapshot_of is not None:
            raise ValueError("adopt: an adopted device exists already, leave snapshotOf out")
        return self


class ThinPool(_Model):
    api_version: Literal["dm-reconciler/v1"]
    kind: Literal["ThinPool"]
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


class ThinDevice(_Model):
    api_version: Literal["dm-reconciler/v1"]
    kind: Literal["ThinDevice"]
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
