"""Device-mapper tables and status lines, typed. Their forms: kernel documentation of thin provisioning, `dmsetup
table`.

The parsers are total: `Fail`, `Error` and unknown forms are cases of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from reconciler.model.units import Sectors, whole_number

_FLAGS: Final = {
    *("discard_passdown", "no_discard_passdown", "ignore_discard"),
    *("error_if_no_space", "queue_if_no_space", "needs_check", "-"),
}


class PoolMode(StrEnum):
    RW = "rw"
    RO = "ro"
    OUT_OF_DATA_SPACE = "out_of_data_space"
    NEEDS_CHECK = "needs_check"
    FAIL = "fail"
    ERROR = "error"
    MISSING = "missing"
    """There is no pool device, or it has no live table."""


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """The status of a pool with numbers in blocks: metadata blocks are 4 KiB, data blocks have the pool's own size."""

    transaction_id: int
    metadata_used: int
    metadata_total: int
    data_used: int
    data_total: int
    held_root: bool
    """Whether a metadata snapshot is held: somebody reads the ids, or crashed while reading them."""
    mode: PoolMode
    """The mode. needs_check replaces the mode that comes with it, because it needs another response."""
    needs_check: bool
    errors_when_full: bool = False
    """Whether writes without space fail: as the table asks, or since the kernel's no_space_timeout has passed."""


@dataclass(frozen=True, slots=True)
class PoolFailure:
    """The status of a pool that reports `Fail` (its metadata cannot be trusted), `Error`, or something unknown."""

    mode: PoolMode
    text: str


@dataclass(frozen=True, slots=True)
class ThinStatus:
    """The status of a thin: its mapped sectors."""

    mapped: int


@dataclass(frozen=True, slots=True)
class ThinFailure:
    """The status of a thin that reports `Fail`, `Error`, `-` (not read yet) or something unknown."""

    text: str


def read_pool_status(text: str) -> PoolStatus | PoolFailure:
    words = text.split()
    if words[:1] == ["Fail"]:
        return PoolFailure(PoolMode.FAIL, text)
    try:
        return _numbers(words)
    except (ValueError, IndexError):
        return PoolFailure(PoolMode.ERROR, text)


def _numbers(words: list[str]) -> PoolStatus:
    """Parses the numbers. An unknown word may mean an unknown state of the pool, so such a status is not accepted."""
    transaction = _number(words[0])
    metadata_used, metadata_total = (_number(part) for part in words[1].split("/"))
    data_used, data_total = (_number(part) for part in words[2].split("/"))
    held_root = words[3] != "-" and _number(words[3]) >= 0
    mode = PoolMode(words[4])
    if mode not in {PoolMode.RW, PoolMode.RO, PoolMode.OUT_OF_DATA_SPACE}:
        raise ValueError(words[4])
    flags = words[5:-1] if len(words) > 8 and whole_number(words[-1]) is not None else words[5:]
    for word in flags:
        if word not in _FLAGS:
            raise ValueError(word)
    needs_check = "needs_check" in flags
    return PoolStatus(
        transaction_id=transaction,
        metadata_used=metadata_used,
        metadata_total=metadata_total,
        data_used=data_used,
        data_total=data_total,
        held_root=held_root,
        mode=PoolMode.NEEDS_CHECK if needs_check else mode,
        needs_check=needs_check,
        errors_when_full="error_if_no_space" in flags,
    )


def _number(text: str) -> int:
    number = whole_number(text)
    if number is None:
        raise ValueError(text)
    return number


def read_thin_status(text: str) -> ThinStatus | ThinFailure:
    words = text.split()
    mapped = whole_number(words[0]) if len(words) == 2 else None
    if mapped is None or (words[1] != "-" and whole_number(words[1]) is None):
        return ThinFailure(text)
    return ThinStatus(mapped)


_MAJORS: Final = 2**12 - 1
_MINORS: Final = 2**20 - 1
"""The kernel's own limit (include/linux/kdev_t.h)."""
_DISCARD_FEATURES: Final = {"passdown": (), "nopassdown": ("no_discard_passdown",), "ignore": ("ignore_discard",)}


@dataclass(frozen=True, slots=True, order=True)
class Devno:
    """The number of a device, as tables have it."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}:{self.minor}"


def parse_devno(text: str) -> Devno | None:
    first, _, second = text.partition(":")
    major, minor = whole_number(first), whole_number(second)
    if major is None or minor is None or major > _MAJORS or minor > _MINORS:
        return None
    return Devno(major, minor)


@dataclass(frozen=True, slots=True)
class Target:
    """One line of a table, as the kernel takes and returns it."""

    start: Sectors
    length: Sectors
    type: str
    params: str

    def __str__(self) -> str:
        return f"{self.start} {self.length} {self.type} {self.params}".rstrip()


Table = tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class ThinTable:
    """A table that is a single thin of a pool."""

    length: Sectors
    pool: Devno
    thin_id: int
    external: Devno | None = None
    """The external origin, which is read where nothing was written."""

    def target(self) -> Target:
        words = (self.pool, self.thin_id) if self.external is None else (self.pool, self.thin_id, self.external)
        return Target(Sectors(0), self.length, "thin", " ".join(map(str, words)))


@dataclass(frozen=True, slots=True)
class PoolTable:
    """A table that is a single thin pool."""

    length: Sectors
    metadata: Devno
    data: Devno
    block: Sectors
    low_water: int
    """The number of free blocks below which the kernel announces low water."""
    zero_new_blocks: bool = True
    discards: str = "passdown"
    error_if_full: bool = False
    read_only: bool = False
    """Whether the table asks for a pool that is not written to."""

    def target(self) -> Target:
        features = [
            *([] if self.zero_new_blocks else ["skip_block_zeroing"]),
            *_DISCARD_FEATURES[self.discards],
            *(["read_only"] if self.read_only else []),
            *(["error_if_no_space"] if self.error_if_full else []),
        ]
        params = [str(self.metadata), str(self.data), str(self.block), str(self.low_water), str(len(features))]
        return Target(Sectors(0), self.length, "thin-pool", " ".join([*params, *features]))


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """A table that fails all I/O, as `dmsetup remove --force` leaves it."""

    length: Sectors


@dataclass(frozen=True, slots=True)
class OtherTable:
    """Any other table, also with several targets or unknown forms."""

    length: Sectors
    types: tuple[str, ...]


TypedTable = ThinTable | PoolTable | ErrorTable | OtherTable


@lru_cache(maxsize=4096)  # each scan asks about the same few tables several times
def read_table(table: Table) -> TypedTable:
    """The type of a table. Total: a table that is not understood is an OtherTable, never a guess."""
    length = Sectors(sum(target.length for target in table))
    other = OtherTable(length, tuple(target.type for target in table))
    if len(table) != 1 or table[0].start != 0:
        return other
    target = table[0]
    if target.type == "thin":
        return _thin(target) or other
    if target.type == "thin-pool":
        return _pool(target) or other
    if target.type == "error":
        return ErrorTable(length)
    return other


def _thin(target: Target) -> ThinTable | None:
    words = target.params.split()
    if len(words) not in {2, 3}:
        return None
    pool, thin_id = parse_devno(words[0]), whole_number(words[1])
    external = parse_devno(words[2]) if len(words) == 3 else None
    if pool is None or thin_id is None or (external is None and len(words) == 3):
        return None
    return ThinTable(target.length, pool, thin_id, external)


def _pool(target: Target) -> PoolTable | None:
    words = target.params.split()
    if len(words) < 4:
        return None
    metadata, data = parse_devno(words[0]), parse_devno(words[1])
    block, low_water = whole_number(words[2]), whole_number(words[3])
    if metadata is None or data is None or block is None or low_water is None:
        return None
    features = set(words[5:])
    known = {"skip_block_zeroing", "ignore_discard", "no_discard_passdown", "error_if_no_space", "read_only"}
    if not features <= known:
        return None
    discards = "passdown"
    if "ignore_discard" in features:
        discards = "ignore"
    elif "no_discard_passdown" in features:
        discards = "nopassdown"
    return PoolTable(
        length=target.length,
        metadata=metadata,
        data=data,
        block=Sectors(block),
        low_water=low_water,
        zero_new_blocks="skip_block_zeroing" not in features,
        discards=discards,
        error_if_full="error_if_no_space" in features,
        read_only="read_only" in features,
    )
