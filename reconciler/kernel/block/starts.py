"""What stands at the start of a pool's data: a digest of it, which filesystem it is, and how large that says it is."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from typing import Final

from reconciler.kernel.protocol import Disks
from reconciler.model.errors import HostFault
from reconciler.model.identity import ZEROS, Start
from reconciler.model.units import SECTOR, Bytes

LENGTH: Final = 128 * 1024
"""Bytes that are looked at: two blocks of the smallest size, and what most filesystems are known by."""
_EXT: Final = 1024
"""Where the superblock of ext4 begins (kernel: fs/ext4/ext4.h, struct ext4_super_block)."""
_EXT_MAGIC: Final = 0xEF53
_BTRFS: Final = 64 * 1024
"""The same of btrfs (include/uapi/linux/btrfs_tree.h, struct btrfs_super_block)."""


def look_at_start(disks: Disks, path: str) -> Start | None:
    """None: it cannot be read, which is for others to tell."""
    with contextlib.suppress(HostFault):
        block = disks.read(path, LENGTH)
        digest = hashlib.sha256(block).hexdigest()[:32] if any(block) else ZEROS
        return Start(digest, disks.contents(path), filesystem_size(block))
    return None


def filesystem_size(block: bytes) -> Bytes:
    """What the filesystem, or the partition table, that begins here says is its length; 0 where none is known."""
    block = block.ljust(LENGTH, b"\0")
    if struct.unpack_from("<H", block, _EXT + 56)[0] == _EXT_MAGIC:
        (count,) = struct.unpack_from("<I", block, _EXT + 4)
        (shift,) = struct.unpack_from("<I", block, _EXT + 24)
        return Bytes(count << (10 + min(shift, 6)))
    if block[:4] == b"XFSB":  # struct xfs_dsb in fs/xfs/libxfs/xfs_format.h
        size, count = struct.unpack_from(">IQ", block, 4)
        return Bytes(size * count)
    if block[_BTRFS + 64 : _BTRFS + 72] == b"_BHRfS_M":
        return Bytes(struct.unpack_from("<Q", block, _BTRFS + 112)[0])
    if block[SECTOR : SECTOR + 8] == b"EFI PART":  # the other copy of a GPT is in the disk's last sector
        return Bytes((struct.unpack_from("<Q", block, SECTOR + 32)[0] + 1) * SECTOR)
    return Bytes(0)
