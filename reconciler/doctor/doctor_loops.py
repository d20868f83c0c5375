"""Loops of the whole host that look wrong: on deleted files, or two on one file. They may be anybody's: only told."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Final

from reconciler.doctor.checks import Check, Mark
from reconciler.kernel.block import loops
from reconciler.model.errors import HostFault
from reconciler.model.live import Loop

_DELETED: Final = " (deleted)"


def check_loops(ours: frozenset[str]) -> list[Check]:
    """`ours` are the files of pools that the store or the records name."""
    try:
        found = [(loop, _file(loop)) for loop in loops.loops()]
        twice = _several(found)
    except (HostFault, OSError) as error:
        return [Check("loops", Mark.UNKNOWN, f"cannot be looked at: {getattr(error, 'strerror', None) or error}")]
    deleted = [_deleted(loop, file, ours) for loop, file in found if loop.deleted]
    # Those of pools are told with their pool.
    several = [_twice(nodes, file) for nodes, file in twice if file not in ours]
    return [*deleted, *several] or [Check("loops", Mark.OK, f"{len(found)} in use, none of them stale")]


def _file(loop: Loop) -> str:
    """As /sys tells it, for people only: a path of some mount namespace."""
    folder = Path("/sys/block", Path(loop.path).name, "loop")
    try:
        return (folder / "backing_file").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"


def _several(found: list[tuple[Loop, str]]) -> list[tuple[list[str], str]]:
    """By device, inode and place: parts of one file are no two views of the same."""
    groups: defaultdict[tuple[int, int, int], list[tuple[Loop, str]]] = defaultdict(list)
    for loop, file in found:
        seen = loops.behind(loop.devno)
        if seen is not None and not seen.block_device:
            groups[seen.device, seen.inode, seen.offset].append((loop, file))
    return [([loop.path for loop, _ in group], group[0][1]) for group in groups.values() if len(group) > 1]


def _deleted(loop: Loop, file: str, ours: frozenset[str]) -> Check:
    path = file.removesuffix(_DELETED)
    if path not in ours:
        text = f"on a deleted file ({path}); it may be somebody's: `losetup --detach {loop.path}` if it is nobody's"
        return Check(loop.path, Mark.LEFT, text)
    text = f"on {path}, a pool's file, which was deleted: what is written there is gone with the loop"
    return Check(
        loop.path, Mark.WRONG, text, f"copy what you need from {loop.path}, then `losetup --detach {loop.path}`"
    )


def _twice(nodes: list[str], file: str) -> Check:
    text = (
        f"all on {file}: two views of one disk, which corrupt it if both are written to; left, as they may be meant so"
    )
    return Check(", ".join(nodes), Mark.LEFT, text)
