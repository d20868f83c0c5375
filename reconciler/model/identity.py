"""What a pool's data and metadata are on, independent of paths, and whether that is the same as before.

After a boot, paths such as /dev/sdb and /dev/loop0 may lead to other disks. So the permanent marks of a disk are noted,
and what was at its start. A file is recognised by its path and content, because a restored file has another inode.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from reconciler.model.units import Bytes

ZEROS: Final = "zeros"
"""The digest of a start that has nothing but zeros."""
_WORDS: Final = {
    "wwn": "WWN",
    "serial": "serial",
    "partuuid": "PARTUUID",
    "part": "partition",
    "dm": "device-mapper UUID",
    "path": "file",
    "file": "inode",
    "offset": "offset",
}
_ALIKE: Final = frozenset({"part", "offset"})
"""Kinds of marks that many disks share: equality proves nothing, a difference does."""
_OF_A_FILE: Final = frozenset({"path", "file"})
_SHOWN: Final = ("wwn", "serial", "partuuid", "dm", "path")
"""Kinds of marks that people know a disk by, in the order in which they are shown."""

Marks = tuple[str, ...]
"""Marks as `KIND:VALUE`, sorted. Empty for a device that cannot be recognised."""


@dataclass(frozen=True, slots=True)
class Start:
    """The start of a pool's data."""

    digest: str
    """The digest of the first bytes; `zeros` if there is nothing else."""
    holds: str = ""
    """What libblkid finds, with its UUID: `ext4 6e1c...`."""
    size: Bytes = Bytes(0)
    """The length that this filesystem gives itself; 0 if unknown."""

    @property
    def is_zero(self) -> bool:
        return self.digest == ZEROS and not self.holds


@dataclass(frozen=True, slots=True)
class Noted:
    """What a pool was on when it was last seen healthy."""

    data: Marks = ()
    metadata: Marks = ()
    start: Start | None = None
    """The start of the data. None if it could not be read."""
    transaction_id: int = 0
    """The pool's transaction id at that moment. Later transactions may have changed the start of its data."""
    superblock: str = ""
    """The digest of the first block of the metadata, as read while the pool was down. Empty if the pool has been up
    since, or may have been, because then its metadata has changed in an unknown way.
    """

    in_repair: bool = False
    """Whether the pool was not healthy when it was taken down, so that a repair is about to change its metadata."""

    @property
    def at_rest(self) -> bool:
        return bool(self.superblock)


def by_kind(marks: Iterable[str]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for mark in marks:
        kind, _, value = mark.partition(":")
        found.setdefault(kind, set()).add(value)
    return {kind: frozenset(values) for kind, values in found.items()}


def is_other(noted: Marks, found: Marks) -> bool:
    """Whether this is provably another disk or file. A device without marks proves nothing."""
    then, now = by_kind(noted), by_kind(found)
    if not then:
        return False
    if now and ("part" in then) != ("part" in now):
        return True  # a partition has the marks of its disk beside its own
    both = then.keys() & now.keys()
    if any(then[kind] != now[kind] for kind in both - _OF_A_FILE):
        return True
    if both & _OF_A_FILE and not both - _OF_A_FILE - _ALIKE:
        return all(then[kind] != now[kind] for kind in both & _OF_A_FILE)
    # A driver always reports the same kinds of marks, so a disk without one of them is another disk.
    return not both - _ALIKE and bool(then.keys() - _ALIKE)


def is_same(noted: Marks, found: Marks) -> bool:
    """Whether this is provably the same disk or file."""
    then, now = by_kind(noted), by_kind(found)
    return bool((then.keys() & now.keys()) - _ALIKE) and not is_other(noted, found)


def in_words(marks: Marks) -> str:
    """The marks as people know them: `WWN naa.5000..., PARTUUID 1f2e...`."""
    found = by_kind(marks)
    told = [f"{_WORDS[kind]} {', '.join(sorted(found[kind]))}" for kind in _SHOWN if kind in found]
    return ", ".join(told) or "no WWN, serial or UUID"


@dataclass(frozen=True, slots=True)
class Moment:
    """The other facts that count when a start is compared."""

    transaction_id: int | None
    """The transaction id of the present metadata."""
    blocks_used: int
    """The number of used data blocks, by the same metadata."""
    largest: Bytes
    """The size of the largest device that is stored for the pool; 0 if there is none."""


def start_is_other(noted: Noted, start: Start | None, marks: Marks, now: Moment) -> bool:
    """Whether the start of the data proves that the data is not what was there before.

    While a pool is up, its first block belongs to a thin, and changes. So it is compared byte by byte only if the pool
    was seen at rest, or if the inode shows that the file was replaced, which no crash does. In other cases only what
    libblkid finds is compared, and only if no thin was made or deleted since.
    """
    before = noted.start
    if before is None or start is None:
        return False
    if noted.at_rest:
        return before.digest != start.digest
    replaced = _is_replaced(noted.data, marks)
    if replaced and start.is_zero and now.blocks_used:
        return True
    if now.transaction_id != noted.transaction_id:
        return False
    if before.is_zero and now.blocks_used:
        # One of the former thins has allocated the first block since, so what is there is no larger than that thin.
        return start.size > now.largest > 0
    if replaced and before.digest:
        return before.digest != start.digest
    return before.holds != start.holds or start.is_zero != before.is_zero


def _is_replaced(noted: Marks, found: Marks) -> bool:
    """Whether a file was replaced by another one."""
    then, now = by_kind(noted).get("file"), by_kind(found).get("file")
    return then is not None and now is not None and then != now
