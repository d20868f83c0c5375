"""Files, block devices and loops: where bytes are, as far as anybody here asks for them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from reconciler.kernel.simulated.metadata import PoolImage
from reconciler.kernel.superblock import SIZE
from reconciler.model.table import Devno

_MAGIC = 27022010


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

    @property
    def is_zero(self) -> bool:
        return self.image is None and not any(self.head)

    def first(self, length: int) -> bytes:
        begin = self.head if self.image is None else _superblock(self.image)
        return begin.ljust(SIZE, b"\0")[: min(length, self.size)].ljust(min(length, self.size), b"\0")

    def zero(self) -> None:
        self.image, self.head, self.signature, self.damage, self.leaks = None, b"", "", "", ""


def _superblock(image: PoolImage) -> bytes:
    """Where the flags, the magic number and the transaction id stand: drivers/md/dm-thin-metadata.c, struct thin_disk_superblock.

    It says that no data block is in use, as no file here takes room when it is written to.
    """
    flags = struct.pack("<II", 0, int(image.needs_check))
    return flags.ljust(32, b"\0") + struct.pack("<QIIQ", _MAGIC, 2, 0, image.transaction_id)


@dataclass(eq=False)
class LoopDevice:
    devno: Devno
    disk: Disk
    path: str
    size: int
    """What it shows: it does not follow its file by itself."""
    deleted: bool = False
    offset: int = 0

    @property
    def node(self) -> str:
        return f"/dev/loop{self.devno.minor}"


@dataclass(eq=False)
class BlockDevice:
    """A disk that is simply there."""

    devno: Devno
    disk: Disk
    node: str
