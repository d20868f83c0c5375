"""Observes the backing devices of a pool, and the start of its data.

The start is described by a digest, by its filesystem, and by the size that the filesystem gives itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from dataclasses import replace
from typing import Final

from reconciler.kernel.block.files import (
    SUPERBLOCK_SIZE,
    data_blocks_used,
    read_superblock,
    superblock_digest,
    superblock_needs_check,
)
from reconciler.kernel.protocol import Disks
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError
from reconciler.model.identity import ZEROS, Start, is_other, is_same
from reconciler.model.live import BackingPath, LiveBacking, PathKind
from reconciler.model.units import SECTOR, Bytes

LENGTH: Final = 128 * 1024
"""How many bytes are read: two blocks of the smallest size, which is enough to identify most filesystems."""
_EXT: Final = 1024
"""Where the superblock of ext4 begins, in bytes (kernel: fs/ext4/ext4.h, struct ext4_super_block)."""
_EXT_MAGIC: Final = 0xEF53
_BTRFS: Final = 64 * 1024
"""Where the superblock of btrfs begins, in bytes (include/uapi/linux/btrfs_tree.h, struct btrfs_super_block)."""


def look_at_start(disks: Disks, path: str) -> Start | None:
    """Reads the start of the data of a live pool. None if it cannot be read, which others report."""
    with contextlib.suppress(HostError):
        return _start_of(disks, path)
    return None


def _start_of(disks: Disks, path: str) -> Start:
    """Raises HostError: of a pool that is down nobody can tell what the data is then, so it is not brought up on it."""
    block = disks.read(path, LENGTH)
    digest = hashlib.sha256(block).hexdigest()[:32] if any(block) else ZEROS
    return Start(digest, disks.contents(path), filesystem_size(block))


def filesystem_size(block: bytes) -> Bytes:
    """The length that the filesystem or partition table at this start gives itself, in bytes; 0 if unknown."""
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
    if block[SECTOR : SECTOR + 8] == b"EFI PART":  # the second copy of a GPT is in the last sector of the disk
        return Bytes((struct.unpack_from("<Q", block, SECTOR + 32)[0] + 1) * SECTOR)
    return Bytes(0)


def look_at_backing(
    disks: Disks, place: BackingPath, *, live_pool: str, fresh: bool, is_metadata: bool, quiet: bool
) -> LiveBacking:
    """Observes a backing device.

    Its content and its mounts are read only while no `live_pool` is on it, and signatures only if `fresh`. Other
    devices on it are always reported, because two pools can share it and destroy each other. With `quiet`, nothing is
    read that could block.
    """
    kind, size, devno = disks.kind(place.path)
    found = LiveBacking(kind=kind, size=size, devno=devno)
    if place.is_file:
        found = _file(disks, place, found)
    found = found if quiet else _identified(disks, place, found)
    if kind in {PathKind.MISSING, PathKind.OTHER}:
        return found
    found = _as_disk(disks, found)
    if live_pool:
        return replace(found, used_by=_others_on(disks, found, live_pool))
    found = replace(found, used_by=_used_by(disks, found))
    if is_metadata and size >= SUPERBLOCK_SIZE:
        found = _with_superblock(found, disks.read(place.path, SUPERBLOCK_SIZE))
    if not is_metadata and not fresh:
        found = replace(found, start=_start_of(disks, place.path))
    if fresh and size:
        found = replace(found, signature=disks.signature(place.path))
    return found


def _with_superblock(found: LiveBacking, block: bytes) -> LiveBacking:
    what, transaction_id = read_superblock(block)
    return replace(
        found,
        superblock=what,
        transaction_id=transaction_id,
        needs_check=superblock_needs_check(block),
        data_blocks_used=data_blocks_used(block),
        superblock_digest=superblock_digest(block),
    )


def _file(disks: Disks, place: BackingPath, found: LiveBacking) -> LiveBacking:
    if found.kind is PathKind.MISSING and not disks.folder_exists(place.path):
        return replace(found, folder_exists=False)
    allocated, free_space = disks.file_facts(place.path)
    loops = tuple(disks.loops_on(place.path)) if found.kind is PathKind.FILE else ()
    devno = loops[0].devno if len(loops) == 1 else found.devno
    return replace(found, allocated=allocated, free_space=free_space, loops=loops, devno=devno)


def _identified(disks: Disks, place: BackingPath, found: LiveBacking) -> LiveBacking:
    marks = () if found.kind in {PathKind.MISSING, PathKind.OTHER} else disks.marks(place.path)
    is_gone = found.kind is PathKind.MISSING or is_other(place.noted, marks)
    elsewhere = disks.whereabouts(place.noted) if place.noted and is_gone else None
    return replace(found, marks=marks, elsewhere=elsewhere, is_known_place=_is_known(disks, place, found, marks))


def _is_known(disks: Disks, place: BackingPath, found: LiveBacking, marks: tuple[str, ...]) -> bool:
    """Whether the path that the store knows leads to the same device or file. A loop on a file counts as that file."""
    if not place.known or found.kind in {PathKind.MISSING, PathKind.OTHER}:
        return False
    _, _, devno = disks.kind(place.known)
    if devno is not None and devno == found.devno:
        return True
    return found.kind is PathKind.FILE and is_same(disks.marks(place.known), marks)


def _as_disk(disks: Disks, found: LiveBacking) -> LiveBacking:
    """Adds how the block device, or the single loop on the file, takes writes."""
    if found.devno is None:
        return found
    behind = disks.behind(found.devno) if found.kind is PathKind.BLOCK else None
    return replace(
        found,
        read_only=disks.read_only(found.devno),
        sector=disks.sector(found.devno),
        file_size=None if behind is None else behind[1],
    )


def _others_on(disks: Disks, found: LiveBacking, pool: str) -> tuple[str, ...]:
    return (
        *(f"device {name}" for devno in _devnos(found) for name in disks.above(devno) if name != pool),
        *_other_loops(disks, found),
    )


def _devnos(found: LiveBacking) -> list[Devno]:
    return [loop.devno for loop in found.loops] or ([found.devno] if found.devno is not None else [])


def _used_by(disks: Disks, found: LiveBacking) -> tuple[str, ...]:
    users: list[str] = []
    for devno in _devnos(found):
        users += [f"a mount at {place}" if place != "swap" else "swap" for place in disks.mounts(devno)]
        users += [f"device {name}" for name in disks.above(devno)]
    return (*users, *_other_loops(disks, found))


def _other_loops(disks: Disks, found: LiveBacking) -> tuple[str, ...]:
    """Other loops on the same file, if the backing is itself a loop: they show the same bytes."""
    behind = disks.behind(found.devno) if found.kind is PathKind.BLOCK and found.devno is not None else None
    if behind is None:
        return ()
    path = behind[0]
    return tuple(
        f"{loop.path}, a loop on the same file {path}" for loop in disks.loops_on(path) if loop.devno != found.devno
    )
