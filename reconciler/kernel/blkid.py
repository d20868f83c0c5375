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

from reconciler.kernel.hostcalls import opened, told_as
from reconciler.model.faults import HostFault

_TYPE_ONLY: Final = 1 << 5
"""BLKID_SUBLKS_TYPE: look for the type, not for labels and UUIDs."""
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
    "blkid_do_probe": (ctypes.c_int, (_Probe,)),
    "blkid_do_safeprobe": (ctypes.c_int, (_Probe,)),
    "blkid_probe_lookup_value": (
        ctypes.c_int,
        (_Probe, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_size_t)),
    ),
}


def signature(path: str) -> str:
    """All that is known of it, such as `ext4`, `LVM2_member`, `dos`, or `dos+ext4`; empty where nothing is found.

    Every trace counts, also those that contradict each other: the answer decides whether something may be overwritten.
    """
    found: list[str] = []
    with _probe(path) as (library, probe):
        _called(path, library.blkid_probe_enable_partitions(probe, 1))
        while (answer := library.blkid_do_probe(probe)) == 0:
            kind = _value(library, probe, b"TYPE") or _value(library, probe, b"PTTYPE")
            if kind and kind not in found:
                found.append(kind)
        _called(path, min(answer, 0))
    return "+".join(found)


def filesystem(path: str) -> str:
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
def _probe(path: str) -> Iterator[tuple[ctypes.CDLL, int]]:
    library = _library()
    with told_as("probe", path), opened(path, os.O_RDONLY) as descriptor:
        probe = library.blkid_new_probe()
        if not probe:
            raise HostFault("probe", path, ctypes.get_errno(), "libblkid gave no probe")
        try:
            _called(path, library.blkid_probe_set_device(probe, descriptor, 0, 0))
            _called(path, library.blkid_probe_enable_superblocks(probe, 1))
            _called(path, library.blkid_probe_set_superblocks_flags(probe, _TYPE_ONLY))
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
