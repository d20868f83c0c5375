"""Status lines of pools and thins, typed and total: `Fail`, `Error` and the unknown are cases of their own.

Forms: kernel documentation of thin provisioning, "Status".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reconciler.model.units import whole_number

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
    errors_when_full: bool = False
    """Writes that find no space fail: as the table asks for, or since the kernel's no_space_timeout has passed."""


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
    """A word that is not known may be why the pool is not what it seems: then this is no status that is understood."""
    transaction = _number(words[0])
    metadata_used, metadata_total = (_number(part) for part in words[1].split("/"))
    data_used, data_total = (_number(part) for part in words[2].split("/"))
    held_root = words[3] != "-" and _number(words[3]) >= 0
    mode = PoolMode(words[4])
    if mode not in {PoolMode.RW, PoolMode.RO, PoolMode.OUT_OF_DATA_SPACE}:
        raise ValueError(words[4])
    low_water = whole_number(words[-1]) if len(words) > 8 else None
    for word in words[5:] if low_water is None else words[5:-1]:
        if word not in _FLAGS:
            raise ValueError(word)
    needs_check = "needs_check" in words[5:]
    return PoolStatus(
        transaction_id=transaction,
        metadata_used=metadata_used,
        metadata_total=metadata_total,
        data_used=data_used,
        data_total=data_total,
        held_root=held_root,
        mode=PoolMode.NEEDS_CHECK if needs_check else mode,
        needs_check=needs_check,
        metadata_low_water=low_water,
        errors_when_full="error_if_no_space" in words[5:],
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
