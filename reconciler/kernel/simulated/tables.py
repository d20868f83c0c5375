"""Targets: what a table's line becomes once it is loaded. Each holds open what it lies on until its table goes.

Errnos: kernel, drivers/md/dm-thin.c (`pool_ctr`, `thin_ctr`), dm-linear.c; held by tests/testing/conformance.

Loading a table: what is checked before it waits in a device's inactive slot.

Sources: kernel, drivers/md/dm-table.c and dm-ioctl.c (`table_load`); held by tests/testing/conformance.

A dm device and its two slots for tables.

What is in /dev/mapper and /dev/disk: nodes that udev makes, or does not.

The kernels that were observed, by where their answers differ. All else is the same on them (tests/testing/conformance).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from reconciler.kernel.simulated.disks import Disk
from reconciler.kernel.simulated.faults import WouldBlockError, fault
from reconciler.kernel.simulated.pool import MAX_THIN_ID, Mode, Pool, PoolImage
from reconciler.model.dm_tables import Devno, PoolTable, Table, Target, parse_devno, read_table
from reconciler.model.units import Sectors

if TYPE_CHECKING:
    from reconciler.kernel.simulated.dm import Devices


class Release(IntEnum):
    """Later ones differ from earlier ones in what each names; a real one is known by asking it (tests/kernel)."""

    V6_1 = 601
    """A message to a device without a live table is answered with OK, and dropped. A table may name its own device."""
    V6_1_LATE = 602
    """6.1.192, as Debian has it: the message is EINVAL."""
    V6_12 = 612
    """So is the table."""


_MIN_BLOCK: Final = 128
_MAX_BLOCK: Final = 2097152
METADATA_BLOCK: Final = 4096


class SimpleTarget:
    """`error`, `zero`, and what others share."""

    def __init__(self, line: Target, on: tuple[Devno, ...] = ()) -> None:
        self.line = line
        self.on = on

    def table(self) -> Target:
        return self.line

    def status(self) -> str:
        return ""

    def close(self) -> None:
        """Its table goes."""


class PoolTarget(SimpleTarget):
    def __init__(self, line: Target, table: PoolTable, pool: Pool, devices: Devices) -> None:
        super().__init__(line, (table.metadata, table.data))
        self.wanted = table
        self.pool = pool
        self.mode = Mode.READ_ONLY if table.read_only else Mode.WRITE
        """What its resume asks for: of a table that was in use, the mode that the pool had (dm-thin.c, `adjusted_pf`)."""
        self._devices = devices
        pool.users += 1

    def status(self) -> str:
        return self.pool.status()

    def close(self) -> None:
        self._devices.put_pool(self.pool)


class ThinTarget(SimpleTarget):
    def __init__(
        self, line: Target, device: Device, pool: Pool, thin_id: int, external: Devno | None, devices: Devices
    ) -> None:
        super().__init__(line, (pool.device.devno,) if external is None else (pool.device.devno, external))
        self.device = device
        self.pool = pool
        self.thin_id = thin_id
        self.external = external
        """What blocks that were never written read as."""
        self._devices = devices
        pool.users += 1
        pool.thins.append(self)

    def table(self) -> Target:
        """A failed pool's thins tell no table either (dm-thin.c, `thin_status`)."""
        if self.pool.mode is Mode.FAIL:
            return Target(self.line.start, self.line.length, "thin", "Fail")
        return self.line

    def status(self) -> str:
        if self.pool.mode is Mode.FAIL:
            return "Fail"
        blocks = self.pool.image.of(self.thin_id).blocks
        size = self.pool.image.block
        highest = str((max(blocks) + 1) * size - 1) if blocks else "-"
        return f"{len(blocks) * size} {highest}"

    def close(self) -> None:
        self.pool.thins.remove(self)
        self._devices.put_pool(self.pool)


def make_target(devices: Devices, device: Device, line: Target) -> SimpleTarget:
    """Raises HostError with the errno of the target's constructor."""
    match line.type:
        case "error" | "zero":
            return SimpleTarget(line)
        case "linear":
            return _linear(devices, device, line)
        case "thin-pool":
            return _pool(devices, device, line)
        case "thin":
            return _thin(devices, device, line)
    raise _refused(device)


def _refused(device: Device, number: int = errno.EINVAL) -> Exception:
    return fault("load", device.name, number)


def _linear(devices: Devices, device: Device, line: Target) -> SimpleTarget:
    words = line.params.split()
    if len(words) != 2 or not words[1].isdecimal():
        raise _refused(device)
    return SimpleTarget(line, (_open(devices, device, words[0]),))


def _open(devices: Devices, device: Device, word: str) -> Devno:
    devno = parse_devno(word)
    if devno is None:
        raise _refused(device, errno.ENODEV)
    if devno == device.devno and devices.release >= Release.V6_12:
        raise _refused(device)  # no device lies on itself
    if devices.size_of(devno) is None:
        raise _refused(device, errno.ENXIO)
    return devno


def _pool(devices: Devices, device: Device, line: Target) -> SimpleTarget:
    words = line.params.split()
    if len(words) < 4:
        raise _refused(device)
    metadata, data = (_open(devices, device, word) for word in words[:2])
    table = read_table((Target(Sectors(0), line.length, line.type, line.params),))
    if not isinstance(table, PoolTable):
        raise _refused(device)
    if metadata == data or not _MIN_BLOCK <= table.block <= _MAX_BLOCK or table.block % _MIN_BLOCK:
        raise _refused(device)
    known = devices.pools.get(devices.disk_of(metadata))
    pool = _find_pool(devices, device, metadata, data, table.block)
    if known is not None and (table.discards == "ignore") != (known.discards == "ignore"):
        raise _refused(device)
    return PoolTarget(_as_told(table, pool), table, pool, devices)


def _as_told(table: PoolTable, pool: Pool) -> Target:
    """Features in the kernel's own order, with their number; and the pool's own block size, whatever was loaded."""
    return replace(table, block=pool.image.block).target()


def _find_pool(devices: Devices, device: Device, metadata: Devno, data: Devno, block: Sectors) -> Pool:
    """The pool that is up on this metadata, or a new one: from then on its superblock is there."""
    metadata_disk, data_disk = devices.disk_of(metadata), devices.disk_of(data)
    pool = devices.pools.get(metadata_disk)
    if pool is not None:
        if pool.device is not device or pool.data is not data_disk:
            raise _refused(device, errno.EBUSY)
        return pool
    if any(other.device is device for other in devices.pools.values()):
        raise _refused(device)
    pool = Pool(device, metadata_disk, data_disk, _image(device, metadata_disk, block))
    pool.told = device.event
    pool.requeue = lambda: devices.retry(device)
    devices.pools[metadata_disk] = pool
    return pool


def _image(device: Device, disk: Disk, block: Sectors) -> PoolImage:
    if disk.is_zero:
        disk.image = PoolImage(block, disk.size // METADATA_BLOCK)
    if disk.image is None:
        raise _refused(device, errno.ENOTBLK)
    if disk.image.block != block:
        raise _refused(device)
    return disk.image.copy()


def _thin(devices: Devices, device: Device, line: Target) -> SimpleTarget:
    words = line.params.split()
    if len(words) not in {2, 3} or words[0] == words[-1]:
        raise _refused(device)
    external = _open(devices, device, words[2]) if len(words) == 3 else None
    devno = _open(devices, device, words[0])
    if not words[1].isdecimal() or int(words[1]) > MAX_THIN_ID:
        raise _refused(device)
    pool = next((pool for pool in devices.pools.values() if pool.device.devno == devno), None)
    if pool is None or pool.mode is Mode.FAIL:
        raise _refused(device)
    if int(words[1]) not in pool.image.thins:
        raise _refused(device, errno.ENODATA)
    if pool.suspended:
        raise _refused(device)
    return ThinTarget(line, device, pool, int(words[1]), external, devices)


@dataclass(eq=False)
class Loaded:
    """A table in one of a device's two slots."""

    targets: list[SimpleTarget]
    read_only: bool

    @property
    def length(self) -> Sectors:
        return Sectors(sum(target.line.length for target in self.targets))

    @property
    def on(self) -> set[Devno]:
        return {devno for target in self.targets for devno in target.on}

    @property
    def pool(self) -> PoolTarget | None:
        first = self.targets[0] if self.targets else None
        return first if isinstance(first, PoolTarget) else None

    @property
    def thin(self) -> ThinTarget | None:
        first = self.targets[0] if self.targets else None
        return first if isinstance(first, ThinTarget) else None

    def close(self) -> None:
        for target in self.targets:
            target.close()


@dataclass(eq=False)
class Device:
    name: str
    uuid: str
    devno: Devno
    announce: Callable[[], None]
    """Something that /dev/mapper/control tells by poll."""
    live: Loaded | None = None
    inactive: Loaded | None = None
    suspended: bool = False
    internal: int = 0
    """How often it was suspended by its pool."""
    table_read_only: bool = False
    protected: bool = False
    """By `blockdev --setro`: no table changes it."""
    leaving: int = 0
    """So many more tries to freeze the filesystem on it fail, as it is just being unmounted (Linux 6.8 and later)."""
    deferred: bool = False
    event_nr: int = 0
    typed: bool = False
    """Its first table was accepted: from then on a table's devices are looked at only when it is swapped in."""
    openers: list[str] = field(default_factory=list)
    queued: list[tuple[int, str]] = field(default_factory=list)
    """Writes that wait: (block, token)."""

    def event(self) -> None:
        self.event_nr += 1
        self.announce()

    @property
    def read_only(self) -> bool:
        """The one flag that the kernel tells."""
        return self.table_read_only or self.protected

    @property
    def tables(self) -> Iterator[Loaded]:
        yield from (table for table in (self.live, self.inactive) if table is not None)


def open_table(devices: Devices, device: Device, table: Table, *, read_only: bool) -> Loaded:
    """Raises HostError, and nothing is held open then."""
    _check_below(devices, device, table)
    _check_form(device, table, read_only=read_only)
    loaded = Loaded([], read_only)
    try:
        for line in table:
            loaded.targets.append(make_target(devices, device, line))
        _check_first(devices, device, loaded)
    except Exception:
        loaded.close()
        raise
    return loaded


def _check_below(devices: Devices, device: Device, table: Table) -> None:
    """A load reads a pool's metadata, which hangs while something below is suspended."""
    for target in table:
        for devno in filter(None, map(parse_devno, target.params.split()[:2])):
            lower = devices.by_devno(devno)
            if lower is None:
                continue
            hangs = lower if lower.suspended and target.type == "thin-pool" else devices.suspended_below(lower)
            if hangs is not None:
                raise WouldBlockError("load", device.name, f"{hangs.name} below it is suspended")


def _check_form(device: Device, table: Table, *, read_only: bool) -> None:
    """Without gaps, and a pool alone, writable, and for good: only an error table may take its place."""
    end, types = 0, [line.type for line in table]
    for line in table:
        if line.start != end or line.length <= 0:
            raise fault("load", device.name, errno.EINVAL)
        end += line.length
    is_pool = "thin-pool" in types
    was_pool = device.live is not None and device.live.pool is not None
    if not types or (is_pool and (len(types) > 1 or read_only)):
        raise fault("load", device.name, errno.EINVAL)
    if was_pool and not is_pool and "error" not in types:
        raise fault("load", device.name, errno.EINVAL)


def _check_first(devices: Devices, device: Device, loaded: Loaded) -> None:
    """Only a device's first table is looked at as a whole when it is loaded, any other when it is swapped in."""
    if not device.typed and not fits(devices, loaded):
        raise fault("load", device.name, errno.EINVAL)


def fits(devices: Devices, loaded: Loaded) -> bool:
    """What a target needs of the devices that it lies on is there (dm-table.c, `device_area_is_invalid`)."""
    for target in loaded.targets:
        start = 0
        if isinstance(target, PoolTarget):
            size = devices.size_of(target.wanted.data)
        elif target.line.type == "linear":
            size, start = devices.size_of(target.on[0]), int(target.line.params.split()[1])
        else:
            continue
        if size and start + target.line.length > size:
            return False
    return True


@dataclass
class Nodes:
    running: bool = True
    """udev. Without it libdevmapper makes the nodes itself."""
    lost: int = 0
    """So many events to come reach nobody."""
    paths: dict[str, Devno] = field(default_factory=dict)
    promised: dict[Devno, tuple[str, ...]] = field(default_factory=dict)
    """Links that udev's database names for a device."""

    def on_resume(self, device: Device, *, hidden: bool) -> None:
        if self.lost:
            self.lost -= 1
            return
        self.make(device)
        if self.running and not hidden:
            self.promised[device.devno] = (f"/dev/disk/by-id/dm-name-{device.name}",)
            self.link(device)

    def on_remove(self, device: Device) -> None:
        self.paths = {path: devno for path, devno in self.paths.items() if devno != device.devno}
        self.promised.pop(device.devno, None)

    def on_rename(self, device: Device, old: str) -> None:
        if self.paths.pop(node_of(old), None) is not None:
            self.make(device)

    def make(self, device: Device) -> None:
        self.paths[node_of(device.name)] = device.devno

    def link(self, device: Device) -> None:
        for path in self.promised.get(device.devno, ()):
            self.paths[path] = device.devno


def node_of(name: str) -> str:
    return f"/dev/mapper/{name}"
