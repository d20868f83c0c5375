"""The steps that a plan is made of. Each is data; it can be shown, sent to a worker, and done twice.

Steps on the host are carried out by `kernel.steps.table`, which has an entry for each kind, and steps on the store by
`controller.execute`. After each step, the host is scanned again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reconciler.model.dm_tables import Devno, PoolTable, Target
from reconciler.model.identity import Noted
from reconciler.model.names import Key
from reconciler.model.stored import Intent, StoredDevice, StoredPool
from reconciler.model.units import Bytes, Sectors

QUICK = 40.0
"""Seconds for calls of the kernel, including udev's rules on a busy host."""
MESSAGE = 10.0
"""Seconds for a message, which takes constant time. One that takes longer waits for a device below the pool."""
LONG = 3600.0
"""Seconds for steps whose time grows with the data (mkfs, fsck, thin_check, fallocate, discard)."""


@dataclass(frozen=True, slots=True)
class HostStep:
    """A step that the pool's worker does. `subject` is the dm name or path that it is about."""

    subject: str
    action: ClassVar[str] = ""
    deadline: ClassVar[float] = QUICK


@dataclass(frozen=True, slots=True)
class Activate(HostStep):
    """Create, load and resume a device. A shell that a failed load leaves is removed."""

    uuid: str
    table: Target
    read_only: bool = False
    action: ClassVar[str] = "activate"


@dataclass(frozen=True, slots=True)
class Load(HostStep):
    """Load a table and swap it in."""

    table: Target
    read_only: bool = False
    action: ClassVar[str] = "load"


@dataclass(frozen=True, slots=True)
class MakeWritable(HostStep):
    """Make a device writable: clear the block layer's own flag (BLKROSET), or load a table without the flag."""

    table: Target | None
    """The writable table; None for a pool, whose table is never read-only."""
    action: ClassVar[str] = "make_writable"


@dataclass(frozen=True, slots=True)
class Resume(HostStep):
    action: ClassVar[str] = "resume"


@dataclass(frozen=True, slots=True)
class Clear(HostStep):
    """Drop the inactive table."""

    action: ClassVar[str] = "clear"


@dataclass(frozen=True, slots=True)
class Remove(HostStep):
    """Remove a device, never forced and never deferred."""

    uuid: str
    """Checked again just before the removal: a device that belongs to somebody else by then stays."""
    action: ClassVar[str] = "remove"


@dataclass(frozen=True, slots=True)
class CancelDeferredRemove(HostStep):
    action: ClassVar[str] = "cancel_deferred_remove"


@dataclass(frozen=True, slots=True)
class RefreshNodes(HostStep):
    """Have udev process the device again, and then make the nodes that are still missing."""

    devno: Devno
    action: ClassVar[str] = "refresh_nodes"


@dataclass(frozen=True, slots=True)
class CreateThin(HostStep):
    """Create a thin. The subject is the pool."""

    thin_id: int
    action: ClassVar[str] = "create_thin"
    deadline: ClassVar[float] = MESSAGE


@dataclass(frozen=True, slots=True)
class CreateSnapshot(HostStep):
    """Create a snapshot. The subject is the pool. A live origin is suspended around it, and resumed in any case."""

    thin_id: int
    origin_id: int
    suspend: str = ""
    action: ClassVar[str] = "create_snap"


@dataclass(frozen=True, slots=True)
class DeleteThin(HostStep):
    """Delete a thin. The subject is the pool. If the thin is gone already, the step succeeds."""

    thin_id: int
    transaction_id: int
    """The pool's transaction id, checked again just before the step."""
    action: ClassVar[str] = "delete_thin"


@dataclass(frozen=True, slots=True)
class SetTransactionId(HostStep):
    """Change the pool's transaction id from `old` to `old` + 1. The subject is the pool."""

    old: int
    action: ClassVar[str] = "set_transaction_id"
    deadline: ClassVar[float] = MESSAGE


@dataclass(frozen=True, slots=True)
class MakeFilesystem(HostStep):
    """Make a filesystem. The subject is the private device, which exists only while this step runs."""

    uuid: str
    table: Target
    type: str
    label: str
    block_size: Bytes
    discard: bool
    action: ClassVar[str] = "mkfs"
    deadline: ClassVar[float] = LONG


@dataclass(frozen=True, slots=True)
class DiscardThin(HostStep):
    """Discard a thin. The subject is the private device, which exists only while this step runs."""

    uuid: str
    table: Target
    action: ClassVar[str] = "discard"
    deadline: ClassVar[float] = LONG


@dataclass(frozen=True, slots=True)
class GrowFilesystem(HostStep):
    type: str
    action: ClassVar[str] = "grow_filesystem"
    deadline: ClassVar[float] = LONG


@dataclass(frozen=True, slots=True)
class MakeFile(HostStep):
    size: Bytes
    allocate: bool
    action: ClassVar[str] = "make_file"
    deadline: ClassVar[float] = LONG


@dataclass(frozen=True, slots=True)
class GrowFile(HostStep):
    """Grow a file, and the loop that is on it."""

    size: Bytes
    allocate: bool
    action: ClassVar[str] = "grow_file"
    deadline: ClassVar[float] = LONG


@dataclass(frozen=True, slots=True)
class AttachLoop(HostStep):
    action: ClassVar[str] = "attach_loop"


@dataclass(frozen=True, slots=True)
class DetachLoop(HostStep):
    action: ClassVar[str] = "detach_loop"


@dataclass(frozen=True, slots=True)
class CheckMetadata(HostStep):
    """Run thin_check; damage stops the plan."""

    action: ClassVar[str] = "thin_check"
    deadline: ClassVar[float] = LONG


@dataclass(frozen=True, slots=True)
class ZeroSuperblock(HostStep):
    action: ClassVar[str] = "zero_superblock"


@dataclass(frozen=True, slots=True)
class DeleteFile(HostStep):
    action: ClassVar[str] = "delete_file"


@dataclass(frozen=True, slots=True)
class PoolShape:
    """A pool's table without device numbers, because loops may still have to be attached."""

    metadata: str
    data: str
    block: Sectors
    low_water_percent: int
    zero_new_blocks: bool
    discards: str
    error_if_full: bool

    def features(self) -> str:
        """The feature words of the table, preceded by their count."""
        return self.table(Sectors(self.block), Devno(0, 0), Devno(0, 0)).target().params.split(" ", 4)[4]

    def low_water(self, length: Sectors) -> int:
        """The low water mark in blocks, for a data device of that length."""
        return length // self.block * self.low_water_percent // 100

    def table(self, length: Sectors, metadata: Devno, data: Devno) -> PoolTable:
        return PoolTable(
            length=length,
            metadata=metadata,
            data=data,
            block=self.block,
            low_water=self.low_water(length),
            zero_new_blocks=self.zero_new_blocks,
            discards=self.discards,
            error_if_full=self.error_if_full,
        )


@dataclass(frozen=True, slots=True)
class ActivatePool(HostStep):
    """Create, load and resume a pool; the table uses the whole of its data device."""

    uuid: str
    shape: PoolShape
    transaction_id: int
    """The transaction id that the metadata must have just before the step."""
    fresh: bool = False
    """Whether the metadata may be zeros, which the kernel then formats. Never for a pool that existed before."""
    noted: Noted | None = None
    """What the pool must be on, checked again just before the step."""
    largest: Bytes = Bytes(0)
    """The size of the largest device that is stored for the pool."""
    action: ClassVar[str] = "activate_pool"


@dataclass(frozen=True, slots=True)
class LoadPool(HostStep):
    """Load a table of the same or a greater length, and swap it in. It is never shorter."""

    shape: PoolShape
    action: ClassVar[str] = "load_pool"


@dataclass(frozen=True, slots=True)
class ConfirmEmpty(HostStep):
    """Fail if the pool has any thin id: the last check before it is deleted. The subject is a live pool."""

    ours: bool = False
    """As in `ScanRequest`. It is set when the step is carried out, because it is not known before."""
    action: ClassVar[str] = "confirm_empty"
    deadline: ClassVar[float] = LONG


@dataclass(frozen=True, slots=True)
class RemovePool(HostStep):
    uuid: str
    action: ClassVar[str] = "remove_pool"


@dataclass(frozen=True, slots=True)
class StoreStep:
    """A step on the store, flushed to disk before the next step begins."""

    key: Key


@dataclass(frozen=True, slots=True)
class BeginIntent(StoreStep):
    """Write the intent, which also reserves its id."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class MarkCreated(StoreStep):
    """Note that the intent's create was seen to succeed, and that what it had suspended was resumed."""


@dataclass(frozen=True, slots=True)
class CompleteIntent(StoreStep):
    """Complete the intent: its device is stored, or gone, and the pool's transaction id is one higher."""

    device: StoredDevice | None


@dataclass(frozen=True, slots=True)
class AbortIntent(StoreStep):
    """End an intent that was undone; its id is free again."""

    transaction_id: int
    """The pool's transaction id as it was seen after the undo."""


@dataclass(frozen=True, slots=True)
class MarkThinIdTaken(StoreStep):
    """Note that this id belongs to somebody else, so that it is never handed out."""

    thin_id: int


@dataclass(frozen=True, slots=True)
class SaveDevice(StoreStep):
    device: StoredDevice


@dataclass(frozen=True, slots=True)
class SavePool(StoreStep):
    pool: StoredPool
    empty: bool = False
    """Whether the pool had no thin when it was scanned, so that this store has made all thins in it."""


@dataclass(frozen=True, slots=True)
class ForgetRecord(StoreStep):
    """Drop what is stored of the record. A device's id stays reserved, because its thin may still be in the pool."""


Step = HostStep | StoreStep


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of a host step."""

    note: str = ""
    """Why there was nothing to do, if the purpose of the step was fulfilled already: `gone already`. If it is not
    fulfilled, a step without effect raises NothingDoneError.
    """
