"""libblkid through ctypes: which filesystem, volume or partition table lies on a file or device.

Declarations: libblkid's blkid.h. A symbol that is missing fails when the library is loaded, not in the midst of work.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

from reconciler.kernel.block.hostcalls import opened, told_as
from reconciler.model.errors import HostFault

_TYPE: Final = 1 << 5
"""BLKID_SUBLKS_TYPE: look for the type, not for labels and UUIDs."""
_UUID: Final = 1 << 3
"""BLKID_SUBLKS_UUID"""
_PARTITION: Final = 1 << 2
"""BLKID_PARTS_ENTRY_DETAILS: of the partition that the device itself is, by its disk's table."""
_ONLY_IN: Final = 2
"""BLKID_FLTR_ONLYIN"""
_FILESYSTEMS: Final = 1 << 1
"""BLKID_USAGE_FILESYSTEM"""

_Probe = ctypes.c_void_p
_SIGNATURES: Final = {
    "blkid_new_probe": (_Probe, ()),
    "blkid_free_probe": (None, (_Probe,)),
    "blkid_probe_set_device": (ctypes.c_int, (_Probe, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong)),
    "blkid_probe_enable_superblocks": (ctypes.c_int, (_Probe, ctypes.c_int)),
    "blkid_probe_set_superblocks_flags": (ctypes.c_int, (_Probe, ctypes.c_int)),
    "blkid_probe_filter_superblocks_usage": (ctypes.c_int, (_Probe, ctypes.c_int, ctypes.c_int)),
    "blkid_probe_enable_partitions": (ctypes.c_int, (_Probe, ctypes.c_int)),
    "blkid_probe_set_partitions_flags": (ctypes.c_int, (_Probe, ctypes.c_int)),
    "blkid_do_probe": (ctypes.c_int, (_Probe,)),
    "blkid_do_safeprobe": (ctypes.c_int, (_Probe,)),
    "blkid_probe_lookup_value": (
        ctypes.c_int,
        (_Probe, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_size_t)),
    ),
}


def signature_of(path: str) -> str:
    """All that is known of it, such as `ext4`, `LVM2_member`, `dos`, or `dos+ext4`; empty where nothing is found.

    Every trace counts, also those that contradict each other: the answer decides whether something may be overwritten.
    """
    return "+".join(dict.fromkeys(kind for kind, _ in _traces(path, _TYPE)))


def contents_of(path: str) -> str:
    """The same with the UUID of each, so that two filesystems of one type are told apart: `ext4 6e1c...`."""
    return "+".join(dict.fromkeys(f"{kind} {uuid}".strip() for kind, uuid in _traces(path, _TYPE | _UUID)))


def filesystem_uuid(path: str) -> str:
    """Of the filesystem on it, empty where there is none, or it has none."""
    return next((uuid for _, uuid in _traces(path, _TYPE | _UUID) if uuid), "")


def partition_uuid(path: str) -> str:
    """What the table of its disk says of a partition; empty for what is none."""
    with _probe(path) as (library, probe):
        _called(path, library.blkid_probe_enable_superblocks(probe, 0))
        _called(path, library.blkid_probe_enable_partitions(probe, 1))
        _called(path, library.blkid_probe_set_partitions_flags(probe, _PARTITION))
        _called(path, min(library.blkid_do_safeprobe(probe), 0))
        return _value(library, probe, b"PART_ENTRY_UUID")


def _traces(path: str, flags: int) -> list[tuple[str, str]]:
    """(type, UUID) of all that is found."""
    found: list[tuple[str, str]] = []
    with _probe(path, flags) as (library, probe):
        _called(path, library.blkid_probe_enable_partitions(probe, 1))
        while (answer := library.blkid_do_probe(probe)) == 0:
            filesystem = _value(library, probe, b"TYPE")
            kind = filesystem or _value(library, probe, b"PTTYPE")
            if kind:
                found.append((kind, _value(library, probe, b"UUID" if filesystem else b"PTUUID")))
        _called(path, min(answer, 0))
    return found


def filesystem_of(path: str) -> str:
    """The one filesystem on it, empty where there is none. Raises HostFault where it could be several."""
    with _probe(path) as (library, probe):
        _called(path, library.blkid_probe_filter_superblocks_usage(probe, _ONLY_IN, _FILESYSTEMS))
        answer = library.blkid_do_safeprobe(probe)
        if answer == -2:
            raise HostFault("probe", path, 0, "traces of several filesystems")
        _called(path, min(answer, 0))
        return _value(library, probe, b"TYPE")


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libblkid.so.1", use_errno=True)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


@contextmanager
def _probe(path: str, flags: int = _TYPE) -> Iterator[tuple[ctypes.CDLL, int]]:
    library = _library()
    with told_as("probe", path), opened(path, os.O_RDONLY) as descriptor:
        probe = library.blkid_new_probe()
        if not probe:
            raise HostFault("probe", path, ctypes.get_errno(), "libblkid gave no probe")
        try:
            _called(path, library.blkid_probe_set_device(probe, descriptor, 0, 0))
            _called(path, library.blkid_probe_enable_superblocks(probe, 1))
            _called(path, library.blkid_probe_set_superblocks_flags(probe, flags))
            yield library, probe
        finally:
            library.blkid_free_probe(probe)


def _called(path: str, answer: int) -> None:
    if answer < 0:
        raise HostFault("probe", path, ctypes.get_errno(), "libblkid could not read it")


def _value(library: ctypes.CDLL, probe: int, name: bytes) -> str:
    data = ctypes.c_char_p()
    length = ctypes.c_size_t()
    if library.blkid_probe_lookup_value(probe, name, ctypes.byref(data), ctypes.byref(length)) != 0:
        return ""
    return (data.value or b"").decode(errors="replace")
