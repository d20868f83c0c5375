"""Walks the chains of structs that LIST, LIST_VERSIONS and DEPS leave in the library's buffer.

They are read where they lie, as their length is known only at their end, and are gone with their task.
"""

from __future__ import annotations

import os
from ctypes import c_uint32, c_uint64, string_at
from struct import Struct
from typing import Final

from reconciler.kernel.dm.task import to_text
from reconciler.model.dm_tables import Devno
from reconciler.model.live import Listed

_NAME: Final = Struct("=QI")
"""struct dm_name_list: u64 dev, u32 offset of the next one from this one's start (0: last), char name[]."""
_VERSION: Final = Struct("=IIII")
"""struct dm_target_versions: u32 offset of the next one, u32 version[3], char name[]."""
_DEPS_HEAD: Final = 8
"""struct dm_target_deps: u32 count, u32 padding, u64 dev[]."""
_ALIGNMENT: Final = 8


def read_names(address: int | None) -> list[Listed]:
    """Of LIST. The first entry has number 0 where there is no device at all.

    After each name's NUL, at the next multiple of 8, comes the device's u32 event_nr (dm ioctl 4.38 and later).
    """
    found: list[Listed] = []
    if not address:
        return found
    while True:
        number, following = _NAME.unpack(string_at(address, _NAME.size))
        if number == 0:
            return found
        raw = string_at(address + _NAME.size)
        event_nr = c_uint32.from_address(address + event_offset(len(raw))).value
        found.append(Listed(to_text(raw), _devno(number), event_nr))
        if following == 0:
            return found
        address += following


def event_offset(name_length: int) -> int:
    """Where event_nr lies, from the start of an entry with a name of so many bytes."""
    end = _NAME.size + name_length + 1
    return -(-end // _ALIGNMENT) * _ALIGNMENT


def read_versions(address: int | None) -> dict[str, str]:
    """Of LIST_VERSIONS. A chain that is empty has an entry without a name."""
    found: dict[str, str] = {}
    while address:
        following, *version = _VERSION.unpack(string_at(address, _VERSION.size))
        name = string_at(address + _VERSION.size).decode()
        if name:
            found[name] = ".".join(str(part) for part in version)
        if following == 0:
            break
        address += following
    return found


def read_deps(address: int | None) -> list[Devno]:
    if not address:
        return []
    count = c_uint32.from_address(address).value
    numbers = (c_uint64 * count).from_address(address + _DEPS_HEAD)
    return [_devno(number) for number in numbers]


def _devno(number: int) -> Devno:
    """Of the kernel's huge_encode_dev, which is glibc's encoding too."""
    return Devno(os.major(number), os.minor(number))
