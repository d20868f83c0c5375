"""Files and the first bytes of devices: a thin pool's superblock, and what libblkid recognizes.

Sources: drivers/md/dm-thin-metadata.c, struct thin_disk_superblock; blkid.h, of which a missing symbol fails when the
library is loaded.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from reconciler.kernel.block.loops import devno_of, opened, size_of, told_as
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError
from reconciler.model.live import PathKind, Superblock
from reconciler.model.units import Bytes

_TYPE: Final = 1 << 5
"""BLKID_SUBLKS_TYPE: look for the type, not for labels and UUIDs."""
_UUID: Final = 1 << 3
"""BLKID_SUBLKS_UUID"""
_PARTITION: Final = 1 << 2
"""BLKID_PARTS_ENTRY_DETAILS: what the partition table of the disk says of the device as a partition."""
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
    return "+".join(dict.fromkeys(kind for kind, _ in _traces(path, _TYPE)))


def contents_of(path: str) -> str:
    return "+".join(dict.fromkeys(f"{kind} {uuid}".strip() for kind, uuid in _traces(path, _TYPE | _UUID)))


def filesystem_uuid(path: str) -> str:
    """The UUID of the filesystem on the device; empty if there is no filesystem, or it has no UUID."""
    return next((uuid for _, uuid in _traces(path, _TYPE | _UUID) if uuid), "")


def partition_uuid(path: str) -> str:
    """The UUID of the partition in the table of its disk; empty if the device is no partition."""
    with _probe(path) as (library, probe):
        _called(path, library.blkid_probe_enable_superblocks(probe, 0))
        _called(path, library.blkid_probe_enable_partitions(probe, 1))
        _called(path, library.blkid_probe_set_partitions_flags(probe, _PARTITION))
        _called(path, min(library.blkid_do_safeprobe(probe), 0))
        return _value(library, probe, b"PART_ENTRY_UUID")


def _traces(path: str, flags: int) -> list[tuple[str, str]]:
    """All signatures that are found, as (type, UUID)."""
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
    """The only filesystem on the device; empty if there is none. Raises HostError if there could be several."""
    with _probe(path) as (library, probe):
        _called(path, library.blkid_probe_filter_superblocks_usage(probe, _ONLY_IN, _FILESYSTEMS))
        answer = library.blkid_do_safeprobe(probe)
        if answer == -2:
            raise HostError("probe", path, 0, "traces of several filesystems")
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
            raise HostError("probe", path, ctypes.get_errno(), "libblkid gave no probe")
        try:
            _called(path, library.blkid_probe_set_device(probe, descriptor, 0, 0))
            _called(path, library.blkid_probe_enable_superblocks(probe, 1))
            _called(path, library.blkid_probe_set_superblocks_flags(probe, flags))
            yield library, probe
        finally:
            library.blkid_free_probe(probe)


def _called(path: str, answer: int) -> None:
    if answer < 0:
        raise HostError("probe", path, ctypes.get_errno(), "libblkid could not read it")


def _value(library: ctypes.CDLL, probe: int, name: bytes) -> str:
    data = ctypes.c_char_p()
    length = ctypes.c_size_t()
    if library.blkid_probe_lookup_value(probe, name, ctypes.byref(data), ctypes.byref(length)) != 0:
        return ""
    return (data.value or b"").decode(errors="replace")


SUPERBLOCK_SIZE: Final = 4096
_FLAGS_AT: Final = 4
_NEEDS_CHECK: Final = 1 << 0
"""THIN_METADATA_NEEDS_CHECK_FLAG in dm-thin-metadata.h."""
_MAGIC_AT: Final = 32
_TRANSACTION_AT: Final = 48
_DATA_USED_AT: Final = 72
"""The place of nr_allocated in data_space_map_root, which is a struct disk_sm_root
(persistent-data/dm-space-map-common.h) and begins with nr_blocks.
"""
_MAGIC: Final = 27022010


def read_superblock(block: bytes) -> tuple[Superblock, int | None]:
    """What the block is, and the transaction id that it holds."""
    if len(block) < SUPERBLOCK_SIZE:
        return Superblock.UNREAD, None
    if not any(block):
        return Superblock.ZERO, None
    (magic,) = struct.unpack_from("<Q", block, _MAGIC_AT)
    if magic != _MAGIC:
        return Superblock.OTHER, None
    (transaction_id,) = struct.unpack_from("<Q", block, _TRANSACTION_AT)
    return Superblock.POOL, transaction_id


def superblock_needs_check(block: bytes) -> bool:
    """Whether a pool's superblock says that its metadata must be checked; such a pool is activated read-only."""
    if read_superblock(block)[0] is not Superblock.POOL:
        return False
    (flags,) = struct.unpack_from("<I", block, _FLAGS_AT)
    return bool(flags & _NEEDS_CHECK)


def superblock_digest(block: bytes) -> str:
    """A digest that is the same until a transaction is committed; empty if the block is no pool's superblock.

    The flags, and the checksum over them, are left out, because `thin_check --clear-needs-check-flag` changes them.
    """
    if read_superblock(block)[0] is not Superblock.POOL:
        return ""
    return hashlib.sha256(block[_FLAGS_AT + 4 : SUPERBLOCK_SIZE]).hexdigest()[:32]


def data_blocks_used(block: bytes) -> int:
    """How many data blocks are in use by the pool's superblock; 0 if the block is none."""
    if read_superblock(block)[0] is not Superblock.POOL:
        return 0
    (used,) = struct.unpack_from("<Q", block, _DATA_USED_AT)
    return int(used)


_STAT_BLOCK: Final = 512
"""The unit of st_blocks in bytes, whatever the block size of the filesystem (stat(2))."""
_ALIGNMENT: Final = 4096
"""Direct I/O works in multiples of the logical block of the disk, which is 512 or 4096 bytes."""
_CHUNK: Final = 1024 * 1024
_KERNELS: Final = ("/proc/", "/sys/")


def kind(path: str) -> tuple[PathKind, Bytes, Devno | None]:
    with told_as("look at", path):
        try:
            facts = Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return PathKind.MISSING, Bytes(0), None
    if stat.S_ISREG(facts.st_mode):
        if _is_of_the_kernel(path):
            return PathKind.OTHER, Bytes(0), None
        return PathKind.FILE, Bytes(facts.st_size), None
    if stat.S_ISBLK(facts.st_mode):
        devno = devno_of(facts.st_rdev)
        return PathKind.BLOCK, size_of(devno), devno
    return PathKind.OTHER, Bytes(0), None


def _is_of_the_kernel(path: str) -> bool:
    """Whether the file is in /proc, /sys or the like: it looks like an empty plain file, but a write is a command to
    the kernel.

    Such filesystems have no blocks, except for some in /sys that keep variables of the firmware.
    """
    with told_as("look at", path):
        real = os.path.realpath(path)
        return real.startswith(_KERNELS) or os.statvfs(real).f_blocks == 0


def file_facts(path: str) -> tuple[Bytes, Bytes]:
    with told_as("look at", path):
        try:
            allocated, place = Path(path).stat().st_blocks * _STAT_BLOCK, path
        except FileNotFoundError:
            allocated, place = 0, _folder(path)
        room = os.statvfs(place)
    return Bytes(allocated), Bytes(room.f_bavail * room.f_frsize)


def folder_exists(path: str) -> bool:
    return Path(_folder(path)).is_dir()


def make_file(path: str, size: Bytes, *, allocate: bool) -> None:
    with told_as("make", path), opened(_folder(path), os.O_RDONLY | os.O_DIRECTORY) as folder:
        with opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW) as file:
            try:
                os.fchmod(file, 0o600)  # sets the mode whatever the umask is
                _extend(file, Bytes(0), size, allocate=allocate)
                os.fsync(file)
            except BaseException:
                Path(path).unlink()  # safe, as O_EXCL shows that this attempt made the file
                os.fsync(folder)
                raise
        os.fsync(folder)


def grow_file(path: str, size: Bytes, *, allocate: bool) -> None:
    with told_as("grow", path), opened(path, os.O_RDWR) as file:
        now = Bytes(os.fstat(file).st_size)
        if now >= size:
            return
        _extend(file, now, size, allocate=allocate)
        os.fsync(file)


def delete_file(path: str) -> None:
    with told_as("delete", path):
        try:
            Path(path).unlink()
        except FileNotFoundError:
            return
        with opened(_folder(path), os.O_RDONLY | os.O_DIRECTORY) as folder:
            os.fsync(folder)


def read(path: str, length: int) -> bytes:
    with told_as("read", path):
        try:
            return _read_directly(path, length)
        except OSError as error:
            # On open, EINVAL means that the filesystem has no direct I/O; on read, that its blocks are larger than the
            # alignment.
            if error.errno != errno.EINVAL:
                raise
        with opened(path, os.O_RDONLY) as file:
            return os.pread(file, length, 0)


def zero(path: str, length: int) -> None:
    with told_as("zero", path):
        is_block = stat.S_ISBLK(Path(path).stat().st_mode)
        # O_EXCL without O_CREAT works on block devices only: it refuses one that is mounted or under a dm device.
        with opened(path, os.O_WRONLY | (os.O_EXCL if is_block else 0)) as file:
            end = min(length, os.lseek(file, 0, os.SEEK_END))
            position = 0
            while position < end:
                position += os.pwrite(file, bytes(min(_CHUNK, end - position)), position)
            os.fsync(file)


def _extend(file: int, start: Bytes, size: Bytes, *, allocate: bool) -> None:
    if allocate:
        os.posix_fallocate(file, start, size - start)
    else:
        os.ftruncate(file, size)


def _read_directly(path: str, length: int) -> bytes:
    rounded = -(-length // _ALIGNMENT) * _ALIGNMENT
    # An anonymous map begins on a page, which is the memory alignment that direct I/O needs.
    with opened(path, os.O_RDONLY | os.O_DIRECT) as file, mmap.mmap(-1, rounded) as buffer:
        count = os.preadv(file, [buffer], 0)
        return buffer[: min(count, length)]


def _folder(path: str) -> str:
    return str(Path(path).parent)
