"""Sizes. The kernel counts sectors, people and files count bytes; the two types do not mix."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final, NewType

Sectors = NewType("Sectors", int)
Bytes = NewType("Bytes", int)

SECTOR: Final = 512
"""The bytes of a sector, in which every device-mapper table counts, whatever the sector size of the disk."""

_PREFIXES: Final = tuple(enumerate("KMGTPE", start=1))
_FACTORS: Final = {"": 1, "s": SECTOR, **{prefix + "i": 1024**power for power, prefix in _PREFIXES}}
_FORM: Final = re.compile(r"(?P<count>[0-9]{1,19})(?:(?P<unit>[KMGTPE]i|)B?|(?P<sectors>s))")
_DECIMAL_UNIT: Final = re.compile(r"(?P<count>[0-9]{1,19})(?P<prefix>[kKMGTPE])i?[bB]?")
_FRACTION: Final = re.compile(r"(?P<count>[0-9]{1,9}\.[0-9]{1,9})(?P<unit>[KMGTPE]i)B?")
LARGEST: Final = Bytes(2**63 - SECTOR)
"""The largest size in bytes that both off_t and the kernel's sector_t can express."""
_MOST_DIGITS: Final = 20
NOT_A_SIZE: Final = "not a size: write 10GiB, 64MiB, 65536 (bytes) or 2048s (sectors)"


def whole_number(text: str) -> int | None:
    """Parses plain digits, as the kernel writes 64-bit numbers. None for anything else, also signs and other digits."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None


def sectors(size: Bytes) -> Sectors:
    """The size in sectors. It must be a whole number of them, as every parsed size is."""
    return Sectors(size // SECTOR)


def in_bytes(size: Sectors) -> Bytes:
    """The size in bytes."""
    return Bytes(size * SECTOR)


def parse_size(text: str | int) -> Bytes:
    """The bytes in `10GiB`, `10Gi`, `64MiB`, `65536` (bytes) or `2048s` (sectors).

    Raises ValueError, with what would be right, for any other text, for an empty one, and for a part of a sector.
    """
    match = _FORM.fullmatch(_digits(text) if isinstance(text, int) else text)
    if match is None:
        raise ValueError(_correction(str(text)))
    count = int(match["count"]) * _FACTORS[match["sectors"] or match["unit"]]
    if count == 0:
        raise ValueError("a size must be more than 0")
    if count > LARGEST:
        raise ValueError(f"too large: a size must be at most {LARGEST} bytes")
    if count % SECTOR:
        raise ValueError(f"not whole sectors: use a multiple of {SECTOR} bytes, such as {-(-count // SECTOR)}s")
    return Bytes(count)


def _digits(number: int) -> str:
    # Python refuses to format huge numbers, and they are too large anyway.
    if abs(number) > 10**19:
        raise ValueError(f"too large: a size must be at most {LARGEST} bytes")
    return str(number)


def _correction(text: str) -> str:
    """What to write instead of `text`, which is no size."""
    if re.fullmatch(r"-[0-9].{0,30}", text):
        return "a size must be more than 0"
    if re.fullmatch(r"[0-9]{20,}\S{0,3}", text):
        return f"too large: a size must be at most {LARGEST} bytes"
    decimal = _DECIMAL_UNIT.fullmatch(text)
    if decimal is not None:
        return f"not a binary unit: write {decimal['count']}{decimal['prefix'].upper()}iB"
    fraction = _FRACTION.fullmatch(text)
    if fraction is not None:
        return _whole(Fraction(fraction["count"]) * _FACTORS[fraction["unit"]])
    return NOT_A_SIZE


def _whole(size: Fraction) -> str:
    if size.denominator == 1 and size % SECTOR == 0 and size > 0:
        return f"not a whole number: write {exact_size(int(size))}"
    return "not a whole number: write it in a smaller unit, such as MiB"


def exact_size(size: int) -> str:
    """The size in the largest unit that shows it exactly, which `parse_size` turns back into `size`."""
    for power, prefix in reversed(_PREFIXES):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{prefix}iB"
    return f"{size}B"


def format_size(size: int) -> str:
    """The size in the largest binary unit, with one decimal if it is not exact, for people.

    It rounds down: 1023.99GiB is not yet 1TiB, and space that is shown as free exists.
    """
    for power, prefix in reversed(_PREFIXES):
        unit = 1024**power
        if size >= unit and size % unit == 0:
            return f"{size // unit}{prefix}iB"
        if size >= unit:
            tenths = size * 10 // unit
            return f"{tenths // 10}.{tenths % 10}{prefix}iB"
    return f"{size}B"


def percent_of(text: str) -> int:
    """The number in `80%`. Raises ValueError if it is not between 1 and 100."""
    match = re.fullmatch(r"([0-9]{1,3})%", text)
    if match is None or not 1 <= int(match[1]) <= 100:
        raise ValueError("not a percentage: write a whole number from 1% to 100%")
    return int(match[1])
