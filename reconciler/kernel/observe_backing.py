"""Looking at what a pool lies on, or is to lie on."""

from __future__ import annotations

from dataclasses import replace

from reconciler.kernel.protocol import Disks
from reconciler.kernel.superblock import SIZE, needs_check, read_superblock
from reconciler.model.live import LiveBacking, PathKind, Place
from reconciler.model.table import Devno


def look_at_backing(disks: Disks, place: Place, *, pool_is_live: bool, fresh: bool, is_metadata: bool) -> LiveBacking:
    """Who uses it, and what is on it, is looked at only while no pool lies on it; signatures only if `fresh`."""
    kind, size, devno = disks.kind(place.path)
    found = LiveBacking(kind=kind, size=size, devno=devno)
    if place.is_file:
        found = _file(disks, place, found)
    if kind in {PathKind.MISSING, PathKind.OTHER} or pool_is_live:
        return found
    found = replace(found, used_by=_used_by(disks, found))
    if is_metadata and size >= SIZE:
        block = disks.read(place.path, SIZE)
        what, transaction_id = read_superblock(block)
        found = replace(found, superblock=what, transaction_id=transaction_id, needs_check=needs_check(block))
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


def _used_by(disks: Disks, found: LiveBacking) -> tuple[str, ...]:
    devnos: list[Devno] = [loop.devno for loop in found.loops] or ([found.devno] if found.devno is not None else [])
    users: list[str] = []
    for devno in devnos:
        users += [f"a mount at {place}" if place != "swap" else "swap" for place in disks.mounts(devno)]
        users += [f"device {name}" for name in disks.above(devno)]
    return tuple(users)
