"""The first block of a thin pool's metadata (kernel: drivers/md/dm-thin-metadata.c, struct thin_disk_superblock)."""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from reconciler.model.live import Superblock

SUPERBLOCK_SIZE: Final = 4096
_FLAGS_AT: Final = 4
_NEEDS_CHECK: Final = 1 << 0
"""THIN_METADATA_NEEDS_CHECK_FLAG in dm-thin-metadata.h."""
_MAGIC_AT: Final = 32
_TRANSACTION_AT: Final = 48
_DATA_USED_AT: Final = 72
"""In data_space_map_root, a struct disk_sm_root (persistent-data/dm-space-map-common.h): after nr_blocks, nr_allocated."""
_MAGIC: Final = 27022010


def read_superblock(block: bytes) -> tuple[Superblock, int | None]:
    """(what it is, the transaction id that it names)."""
    if len(block) < SUPERBLOCK_SIZE:
        return Superblock.UNREAD, None
    if not any(block):
        return Superblock.ZERO, None
    (magic,) = struct.unpack_from("<Q", block, _MAGIC_AT)
    if magic != _MAGIC:
        return Superblock.OTHER, None
    (transaction_id,) = struct.unpack_from("<Q", block, _TRANSACTION_AT)
    return Superblock.POOL, transaction_id


def superblock_needs_check(block: bytes) -> bool:
    """Whether a pool's superblock says that its metadata must be checked: the kernel brings it up read-only."""
    if read_superblock(block)[0] is not Superblock.POOL:
        return False
    (flags,) = struct.unpack_from("<I", block, _FLAGS_AT)
    return bool(flags & _NEEDS_CHECK)


def superblock_digest(block: bytes) -> str:
    """The same for as long as no transaction is committed; empty where it is no pool's superblock.

    Without the flags, and the checksum over them: `thin_check --clear-needs-check-flag` changes those.
    """
    if read_superblock(block)[0] is not Superblock.POOL:
        return ""
    return hashlib.sha256(block[_FLAGS_AT + 4 : SUPERBLOCK_SIZE]).hexdigest()[:32]


def data_blocks_used(block: bytes) -> int:
    """How many blocks of its data a pool's superblock says are in use; 0 where it is no pool's."""
    if read_superblock(block)[0] is not Superblock.POOL:
        return 0
    (used,) = struct.unpack_from("<Q", block, _DATA_USED_AT)
    return int(used)
