"""Sizes. The kernel counts sectors, people and files count bytes; the two types do not mix."""

from __future__ import annotations

import re
from typing import Final, NewType

Sectors = NewType("Sectors", int)
Bytes = NewType("Bytes", int)

SECTOR: Final = 512
"""Bytes of a sector: the unit of every device-mapper table, whatever the disk's own sector size."""

_FACTORS: Final = {
    "": 1,
    "s": SECTOR,
    **{prefix + "i": 1024**power for power, prefix in enumerate("KMGTPE", start=1)},
}
_FORM: Final = re.compile(r"(?P<count>[0-9]{1,19})(?P<unit>[KMGTPE]i|s|)B?")
LARGEST: Final = Bytes(2**63 - SECTOR)
"""The largest size in bytes that both off_t and the kernel's sector_t can express."""


def sectors(size: Bytes) -> Sectors:
    """The same size in sectors. `size` must lie on the sector grid, as every parsed size does."""
    return Sectors(size // SECTOR)


def in_bytes(size: Sectors) -> Bytes:
    """The same size in bytes."""
    return Bytes(size * SECTOR)


def parse_size(text: str | int) -> Bytes:
    """Bytes of `10GiB`, `10Gi`, `64MiB`, `65536` (bytes) or `2048s` (sectors).

    Raises ValueError, with what would be right, for anything else, for nothing, and for part of a sector.
    """
    match = _FORM.fullmatch(str(text))
    if match is None or (match["unit"] == "s" and str(text).endswith("B")):
        raise ValueError("not a size: write 10GiB, 64MiB, 65536 (bytes) or 2048s (sectors)")
    count = int(match["count"]) * _FACTORS[match["unit"]]
    if count == 0:
        raise ValueError("a size must be more than 0")
    if count > LARGEST:
        raise ValueError(f"a size must be at most {LARGEST} bytes")
    if count % SECTOR:
        raise ValueError(f"not whole sectors: use a multiple of {SECTOR} bytes, such as {-(-count // SECTOR)}s")
    return Bytes(count)


def format_size(size: int) -> str:
    """`size` bytes in the largest binary unit that shows it exactly, else with one decimal: for people."""
    for power, prefix in reversed(list(enumerate("KMGTPE", start=1))):
        unit = 1024**power
        if size >= unit:
            return f"{size // unit}{prefix}iB" if size % unit == 0 else f"{size / unit:.1f}{prefix}iB"
    return f"{size}B"


def percent_of(text: str) -> int:
    """The number of `80%`. Raises ValueError where it is none between 1 and 100."""
    match = re.fullmatch(r"([0-9]{1,3})%", text)
    if match is None or not 1 <= int(match[1]) <= 100:
        raise ValueError("not a percentage: write a whole number from 1% to 100%")
    return int(match[1])
