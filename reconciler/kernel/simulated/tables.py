"""Targets: what a table's line becomes once it is loaded. Each holds open what it lies on until its table goes.

Errnos: kernel, drivers/md/dm-thin.c (`pool_ctr`, `thin_ctr`), dm-linear.c; held by tests/conformance.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from reconciler.kernel.simulated.disk import Disk
from reconciler.kernel.simulated.faults import fault
from reconciler.kernel.simulated.metadata import MAX_THIN_ID, PoolImage
from reconciler.kernel.simulated.pool import Mode, Pool
from reconciler.kernel.simulated.release import Release
from reconciler.model.dm_tables import Devno, PoolTable, Target, parse_devno, read_table
from reconciler.model.units import Sectors

if TYPE_CHECKING:
    from reconciler.kernel.simulated.device import Device
    from reconciler.kernel.simulated.devices import Devices

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
    """Raises HostFault with the errno of the target's constructor."""
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
