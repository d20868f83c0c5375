"""A host without its dm devices: disks, files and loops, mounts, and udev's nodes.

Of a disk's content, only what is asked for is modelled: its first bytes, and the metadata of the pool on it.

The rules of sharing, and its times: kernel, drivers/md/dm-thin-metadata.c (`__create_snap`, `__snapshotted_since`).
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import struct
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from reconciler.kernel.block.files import SUPERBLOCK_SIZE
from reconciler.kernel.simulated.device import Nodes
from reconciler.model.dm_tables import Devno
from reconciler.model.units import Bytes, Sectors, sectors

MAX_THIN_ID: Final = 2**24 - 1
EMPTY_USED: Final = 10
"""The number of metadata blocks that an empty pool uses, approximately."""
_MAGIC = 27022010
_BEFORE_USED = 16
"""Bytes between the transaction id and the number of used data blocks: the held root, and the number of all blocks."""
_numbers = itertools.count(2)
_LOOP_MAJOR = 7
_BLOCK_MAJOR = 8


class MetadataError(Exception):
    """An operation that the metadata refuses, with the kernel's errno."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapped block. `token` stands for its content."""

    block: int
    """The number of the data block, which is equal in two thins that share it."""
    time: int
    token: str


@dataclass(frozen=True, slots=True)
class ThinImage:
    created_at: int
    snapshotted: int = 0
    """The time of the last snapshot of or from the thin: blocks that were mapped before are shared."""
    blocks: dict[int, Mapping] = field(default_factory=dict)

    @property
    def content(self) -> dict[int, str]:
        return {number: mapping.token for number, mapping in self.blocks.items()}


@dataclass(slots=True)
class PoolImage:
    """The whole metadata. Thin images are never changed in place, so that a copy is cheap."""

    block: Sectors
    metadata_blocks: int
    data_blocks: int = 0
    transaction_id: int = 0
    time: int = 0
    thins: dict[int, ThinImage] = field(default_factory=dict)
    held: dict[int, ThinImage] | None = None
    """What a reserved metadata snapshot shows; None if there is none."""
    needs_check: bool = False
    spent: int = 0
    """Metadata blocks that are used beyond what is calculated here, for example by trees that have grown apart."""
    next_block: int = 0

    def copy(self) -> PoolImage:
        return replace(self, thins=dict(self.thins), held=None if self.held is None else dict(self.held))

    def used_blocks(self) -> set[int]:
        images = [*self.thins.values(), *(self.held or {}).values()]
        return {mapping.block for image in images for mapping in image.blocks.values()}

    def metadata_used(self) -> int:
        """The number of used metadata blocks, approximately; the exact number depends on how the trees have grown."""
        mappings = sum(len(image.blocks) for image in self.thins.values())
        used = EMPTY_USED + len(self.thins) + mappings // 126 + (2 if self.held is not None else 0) + self.spent
        return min(self.metadata_blocks, used + self.metadata_reserve())

    def metadata_reserve(self) -> int:
        """The blocks that the kernel reserves for its own commits (dm-thin-metadata.c, `__set_metadata_reserve`)."""
        return min(self.metadata_blocks // 10, 4096)

    # What messages do

    def create_thin(self, thin_id: int) -> None:
        if thin_id in self.thins:
            raise MetadataError(errno.EEXIST)
        self.thins[thin_id] = ThinImage(self.transaction_id)

    def create_snap(self, thin_id: int, origin: int) -> None:
        if thin_id in self.thins:
            raise MetadataError(errno.EEXIST)
        image = self.of(origin)
        self.time += 1
        self.thins[origin] = replace(image, snapshotted=self.time)
        self.thins[thin_id] = ThinImage(self.transaction_id, self.time, dict(image.blocks))

    def delete(self, thin_id: int) -> None:
        self.of(thin_id)
        del self.thins[thin_id]

    def set_transaction_id(self, old: int, new: int) -> None:
        if old != self.transaction_id:
            raise MetadataError(errno.EINVAL)
        self.transaction_id = new

    def reserve_snap(self) -> None:
        if self.held is not None:
            raise MetadataError(errno.EBUSY)
        self.held = dict(self.thins)

    def release_snap(self) -> None:
        if self.held is None:
            raise MetadataError(errno.EINVAL)
        self.held = None

    def of(self, thin_id: int) -> ThinImage:
        if thin_id not in self.thins:
            raise MetadataError(errno.ENODATA)
        return self.thins[thin_id]

    # What I/O does

    def needs_new_block(self, thin_id: int, number: int) -> bool:
        image = self.of(thin_id)
        mapping = image.blocks.get(number)
        return mapping is None or image.snapshotted > mapping.time

    def write(self, thin_id: int, number: int, token: str) -> None:
        image = self.of(thin_id)
        block, time = self.next_block, self.time
        if self.needs_new_block(thin_id, number):
            self.next_block += 1
        else:
            block, time = image.blocks[number].block, image.blocks[number].time
        blocks = {**image.blocks, number: Mapping(block, time, token)}
        self.thins[thin_id] = replace(image, blocks=blocks)

    def discard(self, thin_id: int) -> None:
        self.thins[thin_id] = replace(self.of(thin_id), blocks={})


@dataclass(eq=False)
class Disk:
    """The content of a file or a block device. Two disks with the same content are not equal."""

    size: int
    allocated: int = 0
    image: PoolImage | None = None
    """The durable part of a pool's metadata; None if there is no pool."""
    damage: str = ""
    """The damage that thin_check finds, with which a pool must not be activated; empty if none."""
    leaks: str = ""
    """The harmless findings of thin_check; empty if none."""
    signature: str = ""
    head: bytes = b""
    """The first bytes, if they are no pool's superblock."""
    serial: str = ""
    """The serial number of a block device; empty if it has none to be recognised by."""
    inode: int = field(default_factory=lambda: next(_numbers))

    @property
    def is_zero(self) -> bool:
        return self.image is None and not any(self.head)

    def first(self, length: int) -> bytes:
        begin = self.head if self.image is None else _superblock(self.image)
        return begin.ljust(SUPERBLOCK_SIZE, b"\0")[: min(length, self.size)].ljust(min(length, self.size), b"\0")

    def written(self, block: int, token: str) -> None:
        """Notes a write to a pool's data: the first used block takes space in a file, and block 0 begins the data."""
        self.allocated = self.allocated or SUPERBLOCK_SIZE
        if block == 0:
            self.head = token.encode()

    def zero(self) -> None:
        self.image, self.head, self.signature, self.damage, self.leaks = None, b"", "", "", ""


def _superblock(image: PoolImage) -> bytes:
    """A superblock with flags, magic number, transaction id and used data blocks in their places
    (drivers/md/dm-thin-metadata.c, struct thin_disk_superblock). What stands for its roots differs after each change.
    """
    flags = struct.pack("<II", 0, int(image.needs_check))
    begin = flags.ljust(32, b"\0") + struct.pack("<QIIQ", _MAGIC, 2, image.time, image.transaction_id)
    used = struct.pack("<QQ", image.data_blocks, len(image.used_blocks()))
    roots = hashlib.sha256(repr(sorted(image.thins.items())).encode()).digest()
    return begin + bytes(_BEFORE_USED - 8) + used + roots


@dataclass(eq=False)
class LoopDevice:
    devno: Devno
    disk: Disk
    path: str
    size: int
    """The size that the loop shows; it does not follow its file by itself."""
    deleted: bool = False
    offset: int = 0
    read_only: bool = False

    @property
    def node(self) -> str:
        return f"/dev/loop{self.devno.minor}"


@dataclass(eq=False)
class BlockDevice:
    """A disk of the host itself."""

    devno: Devno
    disk: Disk
    node: str
    read_only: bool = False


class Release(IntEnum):
    """The observed kernels, named by where their behaviour differs; in all else they are the same
    (tests/testing/conformance). tests/kernel finds out which one a real kernel is.
    """

    V6_1 = 601
    """A message to a device without a live table returns OK and is dropped. A table may name its own device."""
    V6_1_LATE = 602
    """6.1.192, as in Debian: that message is EINVAL."""
    V6_12 = 612
    """That table is refused as well."""


class Machine:
    def __init__(self, *, dm_major: int = 253, free_space: int = 1 << 40, release: Release = Release.V6_12) -> None:
        self.release = release
        self.dm_major = dm_major
        self.free_space = free_space
        self.files: dict[str, Disk] = {}
        self.folders: set[str] = {"/", "/srv", "/var/lib"}
        self.blocks: dict[Devno, BlockDevice] = {}
        self.loops: dict[Devno, LoopDevice] = {}
        self.protected: set[str] = set()
        """The dm names under the root filesystem, the state directory, or swap."""
        self.boot()

    def boot(self) -> None:
        """Resets everything that is not on a disk to its state at a boot."""
        self.loops.clear()
        self.mounts: dict[Devno, list[str]] = {}
        self.nodes = Nodes()

    def add_disk(self, name: str, size: int, serial: str = "") -> Devno:
        """Adds a block device `/dev/NAME` of this size in bytes."""
        devno = Devno(_BLOCK_MAJOR, len(self.blocks))
        self.blocks[devno] = BlockDevice(devno, Disk(size, size, serial=serial), f"/dev/{name}")
        return devno

    def size_of(self, devno: Devno) -> Sectors | None:
        """The size of a block device that is no dm device; None if there is none."""
        if devno in self.loops:
            return sectors(Bytes(self.loops[devno].size))
        block = self.blocks.get(devno)
        return None if block is None else sectors(Bytes(block.disk.size))

    def disk_of(self, devno: Devno) -> Disk:
        if devno in self.loops:
            return self.loops[devno].disk
        return self.blocks[devno].disk

    def resolve(self, path: str) -> Devno | None:
        """The block device that a path leads to; None if it leads to none."""
        nodes = {loop.node: devno for devno, loop in self.loops.items()}
        nodes |= {block.node: devno for devno, block in self.blocks.items()}
        nodes |= {f"/dev/block/{devno}": devno for devno in (*self.loops, *self.blocks)}
        return nodes.get(path) or self.nodes.paths.get(path)

    def free_loop(self) -> Devno:
        taken = {devno.minor for devno in self.loops}
        return Devno(_LOOP_MAJOR, next(minor for minor in range(len(taken) + 1) if minor not in taken))
