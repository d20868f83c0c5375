"""Loading a table: the checks before it is put into a device's inactive slot, and the target for each line.

Each target holds the devices below it open until its table is dropped. The errnos are tested by
tests/testing/conformance; sources: kernel, drivers/md/dm-table.c, dm-ioctl.c (`table_load`), dm-thin.c (`pool_ctr`,
`thin_ctr`), dm-linear.c.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from functools import partial
from typing import Final

from reconciler.kernel.simulated.device import Device, Loaded, SimpleTarget
from reconciler.kernel.simulated.devices import Devices
from reconciler.kernel.simulated.faults import WouldBlockError, fault
from reconciler.kernel.simulated.machine import MAX_THIN_ID, Disk, PoolImage, Release
from reconciler.kernel.simulated.pool import Mode, Pool, PoolTarget, ThinTarget, pool_of
from reconciler.model.dm_tables import Devno, PoolTable, Table, Target, parse_devno, read_table
from reconciler.model.units import Sectors

_MIN_BLOCK: Final = 128
_MAX_BLOCK: Final = 2097152
METADATA_BLOCK: Final = 4096


def open_table(devices: Devices, device: Device, table: Table, *, read_only: bool) -> Loaded:
    """Opens the devices of a table. Raises HostError, and then holds nothing open."""
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
    """Loading reads a pool's metadata, which hangs while a device below is suspended."""
    for target in table:
        for devno in filter(None, map(parse_devno, target.params.split()[:2])):
            lower = devices.by_devno(devno)
            if lower is None:
                continue
            hangs = lower if lower.suspended and target.type == "thin-pool" else devices.suspended_below(lower)
            if hangs is not None:
                raise WouldBlockError("load", device.name, f"{hangs.name} below it is suspended")


def _check_form(device: Device, table: Table, *, read_only: bool) -> None:
    """Checks that a table has no gaps, and that a pool is alone and writable. Only an error table may replace it."""
    end, types = 0, [line.type for line in table]
    for line in table:
        if line.start != end or line.length <= 0:
            raise fault("load", device.name, errno.EINVAL)
        end += line.length
    is_pool = "thin-pool" in types
    was_pool = pool_of(device.live) is not None
    if not types or (is_pool and (len(types) > 1 or read_only)):
        raise fault("load", device.name, errno.EINVAL)
    if was_pool and not is_pool and "error" not in types:
        raise fault("load", device.name, errno.EINVAL)


def _check_first(devices: Devices, device: Device, loaded: Loaded) -> None:
    """Checks the whole of a device's first table; the kernel checks later ones when they are swapped in."""
    if not device.typed and not devices.fits(loaded):
        raise fault("load", device.name, errno.EINVAL)


def make_target(devices: Devices, device: Device, line: Target) -> SimpleTarget:
    """Makes the target of a line. Raises HostError with the errno of the target's constructor."""
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
        raise _refused(device)  # a device cannot be below itself
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
    return PoolTarget(_as_told(table, pool), table, pool)


def _as_told(table: PoolTable, pool: Pool) -> Target:
    """The table as the kernel reports it: features in its own order, with their count, and the
    pool's own block size.
    """
    return replace(table, block=pool.image.block).target()


def _find_pool(devices: Devices, device: Device, metadata: Devno, data: Devno, block: Sectors) -> Pool:
    """The active pool on this metadata device, or a new one, which writes its superblock."""
    metadata_disk, data_disk = devices.disk_of(metadata), devices.disk_of(data)
    pool = devices.pools.get(metadata_disk)
    if pool is not None:
        if pool.device is not device or pool.data is not data_disk:
            raise _refused(device, errno.EBUSY)
        return pool
    if any(other.device is device for other in devices.pools.values()):
        raise _refused(device)
    pool = Pool(device, metadata_disk, data_disk, _image(device, metadata_disk, block), devices.pools)
    pool.told = device.event
    pool.requeue = partial(devices.retry, device)
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
    return ThinTarget(line, device, pool, int(words[1]), external)
