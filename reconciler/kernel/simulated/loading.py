"""Loading a table: what is checked before it waits in a device's inactive slot.

Sources: kernel, drivers/md/dm-table.c and dm-ioctl.c (`table_load`); held by tests/conformance.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from reconciler.kernel.simulated.device import Device, Loaded
from reconciler.kernel.simulated.faults import WouldBlock, fault
from reconciler.kernel.simulated.tables import PoolTarget, make_target
from reconciler.model.dm_tables import Table, parse_devno

if TYPE_CHECKING:
    from reconciler.kernel.simulated.devices import Devices


def open_table(devices: Devices, device: Device, table: Table, *, read_only: bool) -> Loaded:
    """Raises HostFault, and nothing is held open then."""
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
                raise WouldBlock("load", device.name, f"{hangs.name} below it is suspended")


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
