"""`Disks` of the real host: hands each question to the file that knows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from reconciler.kernel.block import disk_marks, files, loops
from reconciler.kernel.block.blkid import contents_of, signature_of
from reconciler.kernel.block.holders import (
    devices_above,
    devices_below,
    devices_under,
    is_read_only,
    node_of_device,
    processes_using,
    sector_size,
    set_writable,
)
from reconciler.kernel.block.mounts import mounts_of
from reconciler.kernel.block.writers import file_behind, writers_of
from reconciler.kernel.memory import unwritten_bytes
from reconciler.kernel.place_lock import alone_on
from reconciler.model.dm_tables import Devno
from reconciler.model.identity import Marks
from reconciler.model.live import Loop, PathKind
from reconciler.model.units import Bytes


class HostDisks:
    """See `kernel.protocol.Disks`. Keeps nothing between calls."""

    def kind(self, path: str) -> tuple[PathKind, Bytes, Devno | None]:
        return files.kind(path)

    def node(self, devno: Devno) -> str:
        return node_of_device(devno)

    def file_facts(self, path: str) -> tuple[Bytes, Bytes]:
        return files.file_facts(path)

    def folder_exists(self, path: str) -> bool:
        return files.folder_exists(path)

    def make_file(self, path: str, size: Bytes, *, allocate: bool) -> None:
        files.make_file(path, size, allocate=allocate)

    def grow_file(self, path: str, size: Bytes, *, allocate: bool) -> None:
        files.grow_file(path, size, allocate=allocate)

    def delete_file(self, path: str) -> None:
        files.delete_file(path)

    def read(self, path: str, length: int) -> bytes:
        return files.read(path, length)

    def zero(self, path: str, length: int) -> None:
        files.zero(path, length)

    def set_writable(self, devno: Devno) -> None:
        set_writable(devno)

    def loops(self) -> list[Loop]:
        return loops.loops()

    def loops_on(self, path: str) -> list[Loop]:
        return loops.loops_on(path)

    def attach(self, path: str) -> Loop:
        return loops.attach(path)

    def resize_loop(self, loop: Loop) -> None:
        loops.resize(loop)

    def detach(self, loop: Loop) -> None:
        loops.detach(loop)

    def signature(self, path: str) -> str:
        return signature_of(path)

    def contents(self, path: str) -> str:
        return contents_of(path)

    def marks(self, path: str) -> Marks:
        return disk_marks.marks(path)

    def whereabouts(self, marks: Marks) -> str:
        return disk_marks.whereabouts(marks)

    def read_only(self, devno: Devno) -> bool:
        return is_read_only(devno)

    def sector(self, devno: Devno) -> int:
        return sector_size(devno)

    def behind(self, devno: Devno) -> tuple[str, Bytes] | None:
        return file_behind(devno)

    def writers(self, path: str) -> list[str]:
        return writers_of(path)

    def mounts(self, devno: Devno) -> list[str]:
        return mounts_of(devno)

    def above(self, devno: Devno) -> list[str]:
        return devices_above(devno)

    def alone_on(self, devnos: Sequence[Devno]) -> AbstractContextManager[None]:
        return alone_on(devnos)

    def processes(self, devno: Devno) -> list[str]:
        return processes_using(devno)

    def below(self, devno: Devno) -> list[Devno]:
        return devices_below(devno)

    def unwritten(self) -> Bytes:
        return unwritten_bytes()

    def stands_on(self, paths: Sequence[str]) -> frozenset[Devno]:
        return devices_under(paths)
