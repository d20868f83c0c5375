"""Looking at what a pool lies on, or is to lie on."""

from __future__ import annotations

from dataclasses import replace

from reconciler.kernel.protocol import Disks
from reconciler.kernel.superblock import SIZE, data_blocks_used, needs_check, read_superblock
from reconciler.model.live import LiveBacking, PathKind, Place
from reconciler.model.table import Devno


def look_at_backing(disks: Disks, place: Place, *, live_pool: str, fresh: bool, is_metadata: bool) -> LiveBacking:
    """What is on it, and mounts of it, are looked at only while no `live_pool` lies on it; signatures only if `fresh`.
    Other devices on it always: two pools can share one, and destroy each other.
    """
    kind, size, devno = disks.kind(place.path)
    found = LiveBacking(kind=kind, size=size, devno=devno)
    if place.is_file:
        found = _file(disks, place, found)
    if kind in {PathKind.MISSING, PathKind.OTHER}:
        return found
    if live_pool:
        return replace(found, used_by=_others_on(disks, found, live_pool))
    found = replace(found, used_by=_used_by(disks, found))
    if is_metadata and size >= SIZE:
        block = disks.read(place.path, SIZE)
        what, transaction_id = read_superblock(block)
        found = replace(
            found,
            superblock=what,
            transaction_id=transaction_id,
            needs_check=needs_check(block),
            data_blocks_used=data_blocks_used(block),
        )
    if fresh and size:
        found = replace(found, signature=disks.signature(place.path))
    return found


def _file(disks: Disks, place: Place, found: LiveBacking) -> LiveBacking:
    if found.kind is PathKind.MISSING and not disks.folder_exists(place.path):
        return replace(found, folder_exists=False)
    allocated, free_space = disks.file_facts(place.path)
    loops = tuple(disks.loops_on(place.path)) if found.kind is PathKind.FILE else ()
    devno = loops[0].devno if len(loops) == 1 else found.devno
    return replace(found, allocated=allocated, free_space=free_space, loops=loops, devno=devno)


def _others_on(disks: Disks, found: LiveBacking, pool: str) -> tuple[str, ...]:
    return tuple(f"device {name}" for devno in _devnos(found) for name in disks.above(devno) if name != pool)


def _devnos(found: LiveBacking) -> list[Devno]:
    return [loop.devno for loop in found.loops] or ([found.devno] if found.devno is not None else [])


def _used_by(disks: Disks, found: LiveBacking) -> tuple[str, ...]:
    users: list[str] = []
    for devno in _devnos(found):
        users += [f"a mount at {place}" if place != "swap" else "swap" for place in disks.mounts(devno)]
        users += [f"device {name}" for name in disks.above(devno)]
    return tuple(users)
