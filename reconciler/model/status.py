"""Status lines of pools and thins, typed and total: `Fail`, `Error` and the unknown are cases of their own.

Forms: kernel documentation of thin provisioning, "Status".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PoolMode(StrEnum):
    RW = "rw"
    RO = "ro"
    OUT_OF_DATA_SPACE = "out_of_data_space"
    NEEDS_CHECK = "needs_check"
    FAIL = "fail"
    ERROR = "error"
    MISSING = "missing"
    """No pool device, or one without a live table."""


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool that answers with numbers. Blocks: metadata blocks are 4 KiB, data blocks the pool's own size."""

    transaction_id: int
    metadata_used: int
    metadata_total: int
    data_used: int
    data_total: int
    held_root: bool
    """A metadata snapshot is held: somebody reads the ids, or crashed while reading them."""
    mode: PoolMode
    """needs_check wins over the mode that comes with it, as it needs other words."""
    needs_check: bool
    metadata_low_water: int | None = None


@dataclass(frozen=True, slots=True)
class PoolFailure:
    """A pool that answers with `Fail` (its metadata cannot be trusted), `Error`, or something unknown."""

    mode: PoolMode
    text: str


@dataclass(frozen=True, slots=True)
class ThinStatus:
    """A thin that answers: its mapped sectors."""

    mapped: int


@dataclass(frozen=True, slots=True)
class ThinFailure:
    """A thin that answers with `Fail`, `Error`, `-` (not read yet) or something unknown."""

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
    transaction = int(words[0])
    metadata_used, metadata_total = (int(part) for part in words[1].split("/"))
    data_used, data_total = (int(part) for part in words[2].split("/"))
    mode = PoolMode(words[4])
    if mode not in {PoolMode.RW, PoolMode.RO, PoolMode.OUT_OF_DATA_SPACE}:
        raise ValueError(words[4])
    needs_check = "needs_check" in words[5:]
    last = words[-1]
    return PoolStatus(
        transaction_id=transaction,
        metadata_used=metadata_used,
        metadata_total=metadata_total,
        data_used=data_used,
        data_total=data_total,
        held_root=words[3] != "-",
        mode=PoolMode.NEEDS_CHECK if needs_check else mode,
        needs_check=needs_check,
        metadata_low_water=int(last) if last.isdecimal() and len(words) > 8 else None,
    )


def read_thin_status(text: str) -> ThinStatus | ThinFailure:
    words = text.split()
    if len(words) == 2 and words[0].isdecimal() and (words[1] == "-" or words[1].isdecimal()):
        return ThinStatus(int(words[0]))
    return ThinFailure(text)
