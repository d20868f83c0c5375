"""Files, block devices and loops: where bytes are, as far as anybody here asks for them."""

from __future__ import annotations

import hashlib
import itertools
import struct
from dataclasses import dataclass, field

from reconciler.kernel.block.superblock import SUPERBLOCK_SIZE
from reconciler.kernel.simulated.metadata import PoolImage
from reconciler.model.dm_tables import Devno

_MAGIC = 27022010
_BEFORE_USED = 16
"""Bytes between the transaction id and how many data blocks are in use: the held root, and how many blocks there are."""
_numbers = itertools.count(2)


@dataclass(eq=False)
class Disk:
    """The content of a file or of a block device. Two of the same content are still two."""

    size: int
    allocated: int = 0
    image: PoolImage | None = None
    """A pool's metadata: what is durable of it."""
    damage: str = ""
    """What thin_check finds, and a pool must not come up on."""
    leaks: str = ""
    """What thin_check finds and is harmless."""
    signature: str = ""
    head: bytes = b""
    """What stands at its beginning, where that is no pool's superblock."""
    serial: str = ""
    """Of a block device: empty for one that has nothing to be known by."""
    inode: int = field(default_factory=lambda: next(_numbers))

    @property
    def is_zero(self) -> bool:
        return self.image is None and not any(self.head)

    def first(self, length: int) -> bytes:
        begin = self.head if self.image is None else _superblock(self.image)
        return begin.ljust(SUPERBLOCK_SIZE, b"\0")[: min(length, self.size)].ljust(min(length, self.size), b"\0")

    def written(self, block: int, token: str) -> None:
        """A pool's data: the first block in use takes room in a file, and block 0 is what it begins with."""
        self.allocated = self.allocated or SUPERBLOCK_SIZE
        if block == 0:
            self.head = token.encode()

    def zero(self) -> None:
        self.image, self.head, self.signature, self.damage, self.leaks = None, b"", "", "", ""


def _superblock(image: PoolImage) -> bytes:
    """Where the flags, the magic number, the transaction id, and how many data blocks are in use stand:
    drivers/md/dm-thin-metadata.c, struct thin_disk_superblock. What stands for its roots is another with each change.
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
    """What it shows: it does not follow its file by itself."""
    deleted: bool = False
    offset: int = 0
    read_only: bool = False

    @property
    def node(self) -> str:
        return f"/dev/loop{self.devno.minor}"


@dataclass(eq=False)
class BlockDevice:
    """A disk that is simply there."""

    devno: Devno
    disk: Disk
    node: str
    read_only: bool = False
