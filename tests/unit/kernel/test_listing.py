"""Walking the buffers that LIST, LIST_VERSIONS and DEPS give."""

from __future__ import annotations

import ctypes
import os
import struct

from hypothesis import given
from hypothesis import strategies as st

from reconciler.kernel.dm.task import event_offset, read_deps, read_names, read_versions
from reconciler.model.dm_tables import Devno
from reconciler.model.live import Listed

NAMES = st.binary(min_size=1, max_size=127).filter(lambda raw: b"\0" not in raw and b"/" not in raw)
DEVICES = st.lists(st.tuples(NAMES, st.integers(1, 4095), st.integers(0, 2**20 - 1), st.integers(0, 2**32 - 1)))


def names_buffer(devices: list[tuple[bytes, int, int, int]]) -> bytes:
    """As the kernel lays it out (drivers/md/dm-ioctl.c, list_devices): name, event_nr and flags, aligned to 8."""
    if not devices:
        return struct.pack("=QI4x", 0, 0)
    entries = []
    for index, (name, major, minor, event_nr) in enumerate(devices):
        length = event_offset(len(name)) + 8
        following = 0 if index == len(devices) - 1 else length
        head = struct.pack("=QI", os.makedev(major, minor), following) + name + b"\0"
        entries.append(head.ljust(length - 8, b"\0") + struct.pack("=II", event_nr, 0))
    return b"".join(entries)


@given(DEVICES)
def test_every_name_number_and_event_of_a_list_is_read(devices: list[tuple[bytes, int, int, int]]) -> None:
    raw = names_buffer(devices)
    buffer = ctypes.create_string_buffer(raw, len(raw))
    assert read_names(ctypes.addressof(buffer)) == [
        Listed(name.decode(errors="surrogateescape"), Devno(major, minor), event_nr)
        for name, major, minor, event_nr in devices
    ]


def test_event_numbers_lie_behind_the_nul_on_a_multiple_of_eight() -> None:
    assert [event_offset(length) for length in (1, 3, 4, 11, 12, 127)] == [16, 16, 24, 24, 32, 144]


def test_versions_are_read_in_a_chain() -> None:
    raw = struct.pack("=IIII8s", 24, 1, 22, 0, b"thin\0") + struct.pack("=IIII8s", 0, 1, 4, 0, b"linear\0")
    buffer = ctypes.create_string_buffer(raw, len(raw))
    assert read_versions(ctypes.addressof(buffer)) == {"thin": "1.22.0", "linear": "1.4.0"}


def test_deps_are_counted() -> None:
    raw = struct.pack("=I4xQQ", 2, os.makedev(7, 300), os.makedev(253, 1))
    buffer = ctypes.create_string_buffer(raw, len(raw))
    assert read_deps(ctypes.addressof(buffer)) == [Devno(7, 300), Devno(253, 1)]


def test_no_buffer_is_nothing() -> None:
    assert (read_names(None), read_versions(None), read_deps(None)) == ([], {}, [])
