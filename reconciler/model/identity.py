"""What a pool's data and metadata lie on, whichever path leads there, and whether that is what was there before.

Paths such as /dev/sdb and /dev/loop0 go to other disks at another boot. So the marks that a disk keeps are noted, and
what stood at its start; a file is known by its path and its content, as one that was restored has another inode.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from reconciler.model.units import Bytes

ZEROS: Final = "zeros"
"""The digest of a start that is nothing but zeros."""
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
"""Kinds that many disks share: that they are equal proves nothing, that they are not does."""
_OF_A_FILE: Final = frozenset({"path", "file"})
_SHOWN: Final = ("wwn", "serial", "partuuid", "dm", "path")
"""Kinds that a person knows a disk by, in the order in which they are told."""

Marks = tuple[str, ...]
"""`KIND:VALUE` each, sorted. Empty: it has nothing to be known by."""


@dataclass(frozen=True, slots=True)
class Start:
    """What stands at the beginning of a pool's data."""

    digest: str
    """Of the first bytes; `zeros` where there is nothing else."""
    holds: str = ""
    """What libblkid finds, with its UUID: `ext4 6e1c...`."""
    size: Bytes = Bytes(0)
    """What that filesystem says is its length; 0 where it is not known."""

    @property
    def is_zero(self) -> bool:
        return self.digest == ZEROS and not self.holds


@dataclass(frozen=True, slots=True)
class Noted:
    """What a pool lay on when it was last seen well."""

    data: Marks = ()
    metadata: Marks = ()
    start: Start | None = None
    """Of the data. None: it could not be read."""
    transaction_id: int = 0
    """The pool's at that moment. Later ones may have changed the start of its data."""
    superblock: str = ""
    """The digest of the metadata's first block, seen while the pool was down. Empty: it has been up since, or may have
    been, and nobody can tell how far it has moved on."""

    in_repair: bool = False
    """It was not healthy when it was taken down: its metadata is about to be repaired, and will be another."""

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
    """Whether that is provably another disk or file. What has no marks cannot be told apart by them."""
    then, now = by_kind(noted), by_kind(found)
    if not then:
        return False
    if now and ("part" in then) != ("part" in now):
        return True  # a partition has its disk's marks beside its own
    both = then.keys() & now.keys()
    if any(then[kind] != now[kind] for kind in both - _OF_A_FILE):
        return True
    if both & _OF_A_FILE and not both - _OF_A_FILE - _ALIKE:
        return all(then[kind] != now[kind] for kind in both & _OF_A_FILE)
    # Its driver always tells what it told then: a disk without that mark is another one.
    return not both - _ALIKE and bool(then.keys() - _ALIKE)


def is_same(noted: Marks, found: Marks) -> bool:
    """Whether that is provably the same disk or file."""
    then, now = by_kind(noted), by_kind(found)
    return bool((then.keys() & now.keys()) - _ALIKE) and not is_other(noted, found)


def in_words(marks: Marks) -> str:
    """`WWN naa.5000..., PARTUUID 1f2e...`: as a person finds it."""
    found = by_kind(marks)
    told = [f"{_WORDS[kind]} {', '.join(sorted(found[kind]))}" for kind in _SHOWN if kind in found]
    return ", ".join(told) or "no WWN, serial or UUID"


@dataclass(frozen=True, slots=True)
class Moment:
    """What else is known when a start is compared."""

    transaction_id: int | None
    """Of the metadata as it is there now."""
    blocks_used: int
    """Of the data, by the same."""
    largest: Bytes
    """Of the devices that are known in the pool; 0 where none is."""


def start_is_other(noted: Noted, start: Start | None, marks: Marks, now: Moment) -> bool:
    """Whether what stands at the start of the data proves that it is not what was there.

    While a pool is up, its first block is a thin's, and changes. So it is compared byte by byte where the pool was seen at
    rest, or where the file is another one by its inode, which no crash brings about. Else it is what libblkid finds that
    is compared, and only where no thin was made or deleted since.
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
        # A thin that was there has taken its first block since: what is there is no larger than that.
        return start.size > now.largest > 0
    if replaced and before.digest:
        return before.digest != start.digest
    return before.holds != start.holds or start.is_zero != before.is_zero


def _is_replaced(noted: Marks, found: Marks) -> bool:
    """Whether another file is where one was."""
    then, now = by_kind(noted).get("file"), by_kind(found).get("file")
    return then is not None and now is not None and then != now
