"""`Disks` of the simulated host: files, block devices and loops."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import PurePosixPath

from reconciler.kernel.simulated.faults import Call, Calls, WouldBlockError, fault
from reconciler.kernel.simulated.host import SimulatedHost
from reconciler.kernel.simulated.machine import Disk, LoopDevice
from reconciler.model.dm_tables import Devno
from reconciler.model.identity import Marks, is_same
from reconciler.model.live import Loop, PathKind
from reconciler.model.units import SECTOR, Bytes, Sectors, in_bytes


class SimulatedDisks:
    def __init__(self, host: SimulatedHost, calls: Calls) -> None:
        self._host = host
        self._calls = calls

    # Files

    def kind(self, path: str) -> tuple[PathKind, Bytes, Devno | None]:
        devno = self._host.resolve(path)
        if devno is not None:
            return PathKind.BLOCK, in_bytes(self._host.devices.size_of(devno) or Sectors(0)), devno
        if path in self._host.files:
            return PathKind.FILE, Bytes(self._host.files[path].size), None
        return (PathKind.OTHER if path in self._host.folders else PathKind.MISSING), Bytes(0), None

    def node(self, devno: Devno) -> str:
        device = self._host.devices.by_devno(devno)
        if device is not None:
            return f"/dev/mapper/{device.name}"
        held = self._host.loops.get(devno) or self._host.blocks.get(devno)
        return held.node if held is not None else f"/dev/{devno}"

    def file_facts(self, path: str) -> tuple[Bytes, Bytes]:
        file = self._host.files.get(path)
        if file is None and not self.folder_exists(path):
            raise fault("look at", path, errno.ENOENT)
        return Bytes(0 if file is None else file.allocated), Bytes(self._host.free_space)

    def folder_exists(self, path: str) -> bool:
        return str(PurePosixPath(path).parent) in self._host.folders

    def make_file(self, path: str, size: Bytes, *, allocate: bool) -> None:
        if not self.folder_exists(path):
            raise fault("make", path, errno.ENOENT)
        if path in self._host.files:
            raise fault("make", path, errno.EEXIST)
        self._take_space("make", path, size if allocate else 0)
        file = self._host.files[path] = Disk(0)
        self._calls.midway(Call("disks", "make_file", (path, size)))
        file.size, file.allocated = size, size if allocate else 0

    def grow_file(self, path: str, size: Bytes, *, allocate: bool) -> None:
        file = self._file("grow", path)
        if file.size >= size:
            return
        more = size - file.size
        self._take_space("grow", path, more if allocate else 0)
        file.allocated += more if allocate else 0
        file.size = size

    def delete_file(self, path: str) -> None:
        file = self._host.files.pop(path, None)
        if file is None:
            return
        self._host.free_space += file.allocated
        for loop in self._host.loops.values():
            loop.deleted |= loop.disk is file

    def _take_space(self, operation: str, path: str, size: int) -> None:
        if size > self._host.free_space:
            raise fault(operation, path, errno.ENOSPC)
        self._host.free_space -= size

    def _file(self, operation: str, path: str) -> Disk:
        file = self._host.files.get(path)
        if file is None:
            raise fault(operation, path, errno.ENOENT)
        return file

    # Content

    def read(self, path: str, length: int) -> bytes:
        return self._disk("read", path).first(length)

    def zero(self, path: str, length: int) -> None:
        devno = self._host.resolve(path)
        if devno is not None and (self.above(devno) or self.mounts(devno)):
            raise fault("zero", path, errno.EBUSY)
        if length:
            self._disk("zero", path).zero()

    def signature(self, path: str) -> str:
        return self._disk("look at", path).signature

    def contents(self, path: str) -> str:
        return self._disk("look at", path).signature

    # Identity

    def marks(self, path: str) -> Marks:
        devno = self._host.resolve(path)
        if devno is not None:
            return self._marks(devno)
        file = self._host.files.get(path)
        return () if file is None else _of_file(file, path)

    def _marks(self, devno: Devno) -> Marks:
        loop, device = self._host.loops.get(devno), self._host.devices.by_devno(devno)
        if loop is not None:
            return (*_of_file(loop.disk, loop.path), f"offset:{loop.offset}")
        if device is not None:
            return (f"dm:{device.uuid}",) if device.uuid else ()
        block = self._host.blocks.get(devno)
        return (f"serial:{block.disk.serial}",) if block is not None and block.disk.serial else ()

    def whereabouts(self, marks: Marks) -> str | None:
        numbers = (*self._host.blocks, *self._host.loops)
        return next((self.node(devno) for devno in numbers if is_same(marks, self._marks(devno))), None)

    def read_only(self, devno: Devno) -> bool:
        held = self._host.loops.get(devno) or self._host.blocks.get(devno)
        return held is not None and held.read_only

    def sector(self, devno: Devno) -> int:
        del devno
        return SECTOR

    def behind(self, devno: Devno) -> tuple[str, Bytes] | None:
        loop = self._host.loops.get(devno)
        if loop is None or self._host.files.get(loop.path) is not loop.disk:
            return None
        return loop.path, Bytes(loop.disk.size)

    def writers(self, path: str) -> list[str]:
        del path  # only the pool writes to its backing devices here
        return []

    def _disk(self, operation: str, path: str) -> Disk:
        devno = self._host.resolve(path)
        if devno is None:
            return self._file(operation, path)
        device = self._host.devices.by_devno(devno)
        if device is not None and (device.suspended or device.internal):
            raise WouldBlockError(operation, path, f"{device.name} is suspended")
        return self._host.devices.disk_of(devno)

    def set_writable(self, devno: Devno) -> None:
        device = self._host.devices.by_devno(devno)
        if device is None:
            raise fault("make writable", str(devno), errno.ENXIO)
        device.protected = False

    # Loops

    def loops_on(self, path: str) -> list[Loop]:
        if self._host.resolve(path) is not None:
            return []
        file = self._file("look at", path)
        return [_told(loop) for _, loop in sorted(self._host.loops.items()) if loop.disk is file]

    def attach(self, path: str) -> Loop:
        file = self._file("attach", path)
        if there := self.loops_on(path):
            raise fault("attach", path, errno.EBUSY, f"it is on {there[0].path} already")
        devno = self._host.free_loop()
        loop = self._host.loops[devno] = LoopDevice(devno, file, path, file.size)
        return _told(loop)

    def resize_loop(self, loop: Loop) -> None:
        found = self._host.loops.get(loop.devno)
        if found is None:
            raise fault("resize", loop.path, errno.ENXIO)
        found.size = found.disk.size

    def detach(self, loop: Loop) -> None:
        if loop.devno not in self._host.loops:
            raise fault("detach", loop.path, errno.ENXIO)
        if self.above(loop.devno) or self.mounts(loop.devno):
            raise fault("detach", loop.path, errno.EBUSY)
        del self._host.loops[loop.devno]

    # Users

    def mounts(self, devno: Devno) -> list[str]:
        return list(self._host.mounts.get(devno, ()))

    def above(self, devno: Devno) -> list[str]:
        return sorted({device.name for device, _ in self._host.devices.above(devno)})

    def alone_on(self, devnos: Sequence[Devno]) -> AbstractContextManager[None]:
        del devnos  # the users of a simulated host make one step after another
        return nullcontext()

    def processes(self, devno: Devno) -> list[str]:
        device = self._host.devices.by_devno(devno)
        return [] if device is None else list(device.openers)

    def below(self, devno: Devno) -> list[Devno]:
        found: list[Devno] = []
        waiting = [devno]
        while waiting:
            here = waiting.pop(0)
            device = self._host.devices.by_devno(here)
            if device is None or here in found:
                continue
            found.append(here)
            waiting += sorted(lower for table in device.tables for lower in table.on)
        return found

    def unwritten(self) -> Bytes:
        return Bytes(0)  # a program's writes reach its device at once

    def stands_on(self, paths: Sequence[str]) -> frozenset[Devno]:
        names = self._host.protected if paths else set()
        devices = self._host.devices.by_name
        return frozenset(lower for name in names if name in devices for lower in self.below(devices[name].devno))


def _of_file(file: Disk, path: str) -> Marks:
    return f"file::{file.inode}", f"path:{path}"


def _told(loop: LoopDevice) -> Loop:
    return Loop(loop.devno, loop.node, loop.deleted, Bytes(loop.size), Bytes(loop.offset), read_only=loop.read_only)
