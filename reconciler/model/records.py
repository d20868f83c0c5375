"""The records that manifests declare: ThinPool and ThinDevice, checked one by one.

What can only be seen by looking at several records together (duplicates, cycles, pools without a record) is
checked in `recordset`; what contradicts the store or the host is for the planner.
"""

from __future__ import annotations

import fnmatch
from typing import Annotated, Final, Literal

from pydantic import Field

from reconciler.model.device import MAX_THIN_ID, Adopt, DeviceSpec, DeviceState, Filesystem
from reconciler.model.fields import Model, Name
from reconciler.model.names import Key, device_dm_name
from reconciler.model.pool import Backing, Extend, PoolSpec, PoolState, Prune

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
