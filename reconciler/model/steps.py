"""The steps that a plan is made of. Each is data; it can be shown, sent to a worker, and done twice.

Steps on the host are carried out by `kernel.steps.table`, which has an entry for each kind of them, steps on the store
by `controller.execute`. After each the world is looked at again.
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
"""Seconds: calls of the kernel, with time for udev's rules on a busy host."""
MESSAGE = 10.0
"""Seconds: a message whose time grows with nothing. One that takes longer waits for a device below the pool."""
LONG = 3600.0
"""Seconds: steps whose time grows with the data (mkfs, fsck, thin_check, fallocate, discard)."""


@dataclass(frozen=True, slots=True)
class HostStep:
    """Done by the pool's worker. `subject` is the dm name or path that it is about."""

    subject: str
    action: ClassVar[str] = ""
    deadline: ClassVar[float] = QUICK


@dataclass(frozen=True, slots=True)
class Activate(HostStep):
    """Create, load, resume. A shell left by a failed load is removed."""

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
    """Clear the block layer's own flag (BLKROSET); where it is the table's, load one that is writable."""

    table: Target | None
    """None: a pool, whose table never is read-only."""
    action: ClassVar[str] = "make_writable"


@dataclass(frozen=True, slots=True)
class Resume(HostStep):
    action: ClassVar[str] = "resume"


@dataclass(frozen=True, slots=True)
class Clear(HostStep):
    """Drop the table in the inactive slot."""

    action: ClassVar[str] = "clear"


@dataclass(frozen=True, slots=True)
class Remove(HostStep):
    """Never forced, never deferred."""

    uuid: str
    """Looked at again in the moment before: a device that has become somebody else's stays."""
    action: ClassVar[str] = "remove"


@dataclass(frozen=True, slots=True)
class CancelDeferredRemove(HostStep):
    action: ClassVar[str] = "cancel_deferred_remove"


@dataclass(frozen=True, slots=True)
class RefreshNodes(HostStep):
    """Have udev look at the device again; then make what is still missing."""

    devno: Devno
    action: ClassVar[str] = "refresh_nodes"


@dataclass(frozen=True, slots=True)
class CreateThin(HostStep):
    """Subject: the pool."""

    thin_id: int
    action: ClassVar[str] = "create_thin"
    deadline: ClassVar[float] = MESSAGE


@dataclass(frozen=True, slots=True)
class CreateSnapshot(HostStep):
    """Subject: the pool. A live origin is suspended around the message, and resumed whatever happens."""

    thin_id: int
    origin_id: int
    suspend: str = ""
    action: ClassVar[str] = "create_snap"


@dataclass(frozen=True, slots=True)
class DeleteThin(HostStep):
    """Subject: the pool. A thin that is gone already is deleted."""

    thin_id: int
    transaction_id: int
    """The pool's, looked at again in the moment before."""
    action: ClassVar[str] = "delete_thin"


@dataclass(frozen=True, slots=True)
class SetTransactionId(HostStep):
    """Subject: the pool. From `old` to `old` + 1."""

    old: int
    action: ClassVar[str] = "set_transaction_id"
    deadline: ClassVar[float] = MESSAGE


@dataclass(frozen=True, slots=True)
class MakeFilesystem(HostStep):
    """Subject: the private device, which is there only while this step runs."""

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
    """Subject: the private device, which is there only while this step runs."""

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
    """The file, and the loop that is on it."""

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
    """thin_check; damage stops the plan."""

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
    """A pool's table before its devices have numbers: loops may still have to be attached."""

    metadata: str
    data: str
    block: Sectors
    low_water_percent: int
    zero_new_blocks: bool
    discards: str
    error_if_full: bool

    def features(self) -> str:
        """The feature words of the table, with their count before them."""
        return self.table(Sectors(self.block), Devno(0, 0), Devno(0, 0)).target().params.split(" ", 4)[4]

    def low_water(self, length: Sectors) -> int:
        """Blocks, of a data device of that length."""
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
    """Create, load, resume; the table takes the whole of its data device."""

    uuid: str
    shape: PoolShape
    transaction_id: int
    """What the metadata must say in the moment before."""
    fresh: bool = False
    """The metadata may be zeros: the kernel then formats it. Never so for a pool that was there before."""
    noted: Noted | None = None
    """What it must lie on, asked again in the moment before."""
    largest: Bytes = Bytes(0)
    """Of the devices that are known in it."""
    action: ClassVar[str] = "activate_pool"


@dataclass(frozen=True, slots=True)
class LoadPool(HostStep):
    """Load a table of the same or a greater length, and swap it in. Never a shorter one."""

    shape: PoolShape
    action: ClassVar[str] = "load_pool"


@dataclass(frozen=True, slots=True)
class ConfirmEmpty(HostStep):
    """Subject: a live pool. Fails while any thin id is in it: the last look before it is deleted."""

    ours: bool = False
    """As in a ScanRequest. Said by who carries it out, who knows it then."""
    action: ClassVar[str] = "confirm_empty"
    deadline: ClassVar[float] = LONG


@dataclass(frozen=True, slots=True)
class RemovePool(HostStep):
    uuid: str
    action: ClassVar[str] = "remove_pool"


@dataclass(frozen=True, slots=True)
class StoreStep:
    """Flushed to disk before the next step begins."""

    key: Key


@dataclass(frozen=True, slots=True)
class BeginIntent(StoreStep):
    """Write the intent, and with it reserve its id."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class MarkCreated(StoreStep):
    """The intent's create was seen to have succeeded, and what was suspended for it to run again."""


@dataclass(frozen=True, slots=True)
class CompleteIntent(StoreStep):
    """The intent has come true: its device is known, or gone; the pool's transaction id is one more."""

    device: StoredDevice | None


@dataclass(frozen=True, slots=True)
class AbortIntent(StoreStep):
    """The intent is undone, its id free again."""

    transaction_id: int
    """The pool's, as it was seen after the undo."""


@dataclass(frozen=True, slots=True)
class MarkThinIdTaken(StoreStep):
    """This id is somebody's: never handed out."""

    thin_id: int


@dataclass(frozen=True, slots=True)
class SaveDevice(StoreStep):
    device: StoredDevice


@dataclass(frozen=True, slots=True)
class SavePool(StoreStep):
    pool: StoredPool
    empty: bool = False
    """No thin was in it when it was looked at: so there is none that this store has not made itself."""


@dataclass(frozen=True, slots=True)
class ForgetRecord(StoreStep):
    """Drop what is known of the record. A device's id stays reserved: its thin may still be in the pool."""


Step = HostStep | StoreStep


@dataclass(frozen=True, slots=True)
class StepResult:
    """What became of a host step."""

    note: str = ""
    """Why there was nothing to do, where what the step is for was so already: `gone already`. A step that did nothing
    while what it is for is not so raises NothingDoneError.
    """
