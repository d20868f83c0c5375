"""What a record says of a thin device."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from reconciler.model.fields import DmName, Label, Model, Name, Size, check_largest, wrong
from reconciler.model.units import Bytes

MAX_THIN_ID: Final = 2**24 - 1
"""Thin ids are 24-bit numbers (kernel documentation of thin provisioning)."""


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
