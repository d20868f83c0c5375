"""What became of the disks and files under a live pool: cut off, emptied, or without writes. The pool itself does not tell."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.dm_tables import PoolStatus, PoolTable, read_table
from reconciler.model.live import LiveBacking, LivePool, PathKind
from reconciler.model.units import SECTOR, Bytes, format_size, in_bytes

METADATA_BLOCK = 4096


def cut_off(live: LivePool) -> str:
    """How much less there is of data or metadata than the pool uses; empty if all is there."""
    table = read_table(live.device.table) if live.device is not None else None
    if not isinstance(table, PoolTable):
        return ""
    status = live.status if isinstance(live.status, PoolStatus) else None
    metadata_used = Bytes(status.metadata_total * METADATA_BLOCK) if status is not None else Bytes(0)
    for word, backing, used in (
        ("data", live.data, in_bytes(table.length)),
        ("metadata", live.metadata, metadata_used),
    ):
        there = backing.size if backing.file_size is None else min(backing.size, backing.file_size)
        if backing.kind in {PathKind.FILE, PathKind.BLOCK} and there < used:
            return f"its {word} was cut off: {format_size(there)} are left of the {format_size(used)} that it uses"
    start = live.data.start  # read after the status, in the same look
    is_empty = live.data.kind is PathKind.FILE and not live.data.allocated and start is not None and start.is_zero
    if is_empty and status is not None and status.data_used:
        return f"its data was emptied: the file has no room allocated, and {status.data_used} blocks are in use"
    return ""


def read_only(live: LivePool) -> Iterator[tuple[str, LiveBacking]]:
    """Which of data and metadata takes no writes."""
    for word, backing in (("data", live.data), ("metadata", live.metadata)):
        if backing.read_only:
            yield word, backing


def how_to_write(path: str, backing: LiveBacking) -> str:
    """The command that makes a read-only device take writes."""
    loop = backing.loops[0] if backing.loops else None
    if loop is not None and loop.read_only:
        return f"`losetup -d {loop.path}` once nothing uses it: it is attached for writing then"
    if backing.file_size is not None:
        return f"`blockdev --setrw {path}`, or attach its file anew, without `--read-only`"
    return f"`blockdev --setrw {loop.path if loop is not None else path}`"


def off_grid(size: int, sector: int) -> bool:
    """Whether no table on a disk with such sectors can have this length, in sectors of 512 bytes."""
    return size * SECTOR % sector != 0
