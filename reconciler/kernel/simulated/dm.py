"""`DeviceMapper` of the simulated host.

dm devices: their slots, their states, and who has them open.

Sources: kernel, drivers/md/dm.c and dm-ioctl.c; what was observed on 6.1 and 6.12 is held by tests/testing/conformance.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from reconciler.kernel.simulated.disks import Disk
from reconciler.kernel.simulated.faults import WouldBlockError, fault
from reconciler.kernel.simulated.pool import MetadataError, Pool
from reconciler.kernel.simulated.tables import Device, Loaded, Release, fits, node_of, open_table
from reconciler.model.dm_tables import Devno, Table
from reconciler.model.live import DeviceInfo, Listed
from reconciler.model.units import Sectors

if TYPE_CHECKING:
    from reconciler.kernel.simulated.host import SimulatedHost


class Devices:
    """All dm devices of a host, and the pools that are up."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self.by_name: dict[str, Device] = {}
        self.pools: dict[Disk, Pool] = {}
        self.events = 0
        """Global: what poll on /dev/mapper/control shows."""

    @property
    def release(self) -> Release:
        return self._host.release

    # Looking

    def get(self, operation: str, name: str) -> Device:
        device = self.by_name.get(name)
        if device is None:
            raise fault(operation, name, errno.ENXIO)
        return device

    def by_devno(self, devno: Devno) -> Device | None:
        return next((device for device in self.by_name.values() if device.devno == devno), None)

    def open_count(self, device: Device) -> int:
        """Openers: processes, mounted filesystems, and dm devices above, each once for each way it has it open."""
        ways = {(above.name, table.read_only) for above, table in self.above(device.devno)}
        return len(device.openers) + len(ways) + (1 if self._host.mounts.get(device.devno) else 0)

    def above(self, devno: Devno) -> Iterator[tuple[Device, Loaded]]:
        for device in self.by_name.values():
            for table in device.tables:
                if devno in table.on:
                    yield device, table

    def size_of(self, devno: Devno) -> Sectors | None:
        """None: there is nothing to open."""
        device = self.by_devno(devno)
        if device is None:
            return self._host.size_of(devno)
        if not device.typed:
            return None  # a device that never had a table has no disk to open
        return device.live.length if device.live is not None else Sectors(0)

    def disk_of(self, devno: Devno) -> Disk:
        """The bytes behind a device number: a linear device shows those of what it lies on."""
        device = self.by_devno(devno)
        if device is None:
            return self._host.disk_of(devno)
        if device.live is None or not device.live.on:
            return Disk(0)
        return self.disk_of(min(device.live.on))

    def suspended_below(self, device: Device) -> Device | None:
        """A suspended device that it lies on; for a thin, its pool's suspension counts otherwise."""
        for table in device.tables:
            for devno in table.on:
                lower = self.by_devno(devno)
                if lower is None:
                    continue
                if lower.suspended and table.thin is None:
                    return lower
                if (found := self.suspended_below(lower)) is not None:
                    return found
        return None

    # Changing

    def create(self, name: str, uuid: str) -> None:
        if len(name) > 127:
            raise fault("create", name, errno.EINVAL, "name too long")
        taken = name in self.by_name or (uuid and any(device.uuid == uuid for device in self.by_name.values()))
        if taken:
            raise fault("create", name, errno.EBUSY)
        self.by_name[name] = Device(name, uuid, self._free_devno(), self._announce)
        self._announce()

    def load(self, device: Device, table: Table, *, read_only: bool) -> None:
        loaded = open_table(self, device, table, read_only=read_only)
        before, device.inactive = device.inactive, loaded
        device.typed = True
        if before is not None:
            before.close()
            self.closed(before.on - loaded.on)

    def suspend(self, device: Device) -> None:
        if device.suspended:
            return
        self._check_suspend("suspend", device)
        if device.leaving:
            device.leaving -= 1
            raise fault("suspend", device.name, errno.EINVAL)
        self._host.io.settle(device)
        pool = device.live.pool if device.live is not None else None
        if pool is not None:
            pool.pool.suspend()
            pool.pool.commit()
        elif device.live is not None and device.live.thin is not None:
            device.live.thin.pool.commit()
        device.suspended = True

    def _check_suspend(self, operation: str, device: Device) -> None:
        if device.internal:
            raise WouldBlockError(operation, device.name, "its pool is suspended")
        if device.queued:
            raise WouldBlockError(operation, device.name, "writes wait in it")
        below = self.suspended_below(device)
        if below is not None:
            raise WouldBlockError(operation, device.name, f"{below.name} below it is suspended")

    def resume(self, device: Device, *, hidden: bool) -> None:
        """A table that does not fit what it lies on, or is shorter than its pool, leaves the device suspended."""
        if device.suspended:
            self._check_resume(device)
        if device.inactive is None:
            if device.suspended:
                self._let_go(device)
            return
        old = self._swap(device)
        try:
            self._let_go(device)
        finally:
            if old is not None:
                old.close()
                self.closed(old.on)
        self._host.nodes.on_resume(device, hidden=hidden)

    def _swap(self, device: Device) -> Loaded | None:
        """The table that was live."""
        if not device.suspended:
            self.suspend(device)
        new, device.inactive = device.inactive, None
        assert new is not None  # noqa: S101  # the caller looked
        if not fits(self, new):
            new.close()
            raise fault("resume", device.name, errno.EINVAL)
        old, device.live = device.live, new
        device.table_read_only = new.read_only
        self._announce()
        return old

    def retry(self, device: Device) -> None:
        """The writes that waited for the device, or for room in the pool, go on."""
        self._host.io.retry(device)

    def _let_go(self, device: Device) -> None:
        """Of a device without a table that is EINVAL (dm.c, `dm_resume`)."""
        if device.live is None:
            raise fault("resume", device.name, errno.EINVAL)
        pool = device.live.pool
        if pool is not None:
            try:
                pool.pool.bind(pool)
            except MetadataError as error:
                raise fault("resume", device.name, error.errno) from error
            pool.pool.resume()
        device.suspended = False
        self.retry(device)

    def _check_resume(self, device: Device) -> None:
        if device.internal:
            raise WouldBlockError("resume", device.name, "its pool is suspended")
        below = self.suspended_below(device)
        if below is not None:
            raise WouldBlockError("resume", device.name, f"{below.name} below it is suspended")

    def remove(self, device: Device, *, deferred: bool = False) -> None:
        if self.open_count(device):
            if not deferred:
                raise fault("remove", device.name, errno.EBUSY)
            device.deferred = True
            self._announce()
            return
        self._gone(device)

    def _gone(self, device: Device) -> None:
        on = {devno for table in device.tables for devno in table.on}
        if device.live is not None and device.live.pool is not None:
            device.live.pool.pool.suspend()
        del self.by_name[device.name]
        for table in list(device.tables):
            table.close()
        self._host.nodes.on_remove(device)
        self._announce()
        self.closed(on)

    def closed(self, devnos: set[Devno]) -> None:
        """Somebody has closed these: what was to be removed at its last close goes now."""
        for devno in devnos:
            device = self.by_devno(devno)
            if device is not None and device.deferred and not self.open_count(device):
                self._gone(device)

    def rename(self, old: str, new: str) -> None:
        """That the new name is taken is found first, also where there is nothing to rename."""
        if len(new) > 127:
            raise fault("rename", old, errno.EINVAL, "name too long")
        if new in self.by_name:
            raise fault("rename", old, errno.EBUSY)
        device = self.get("rename", old)
        self.by_name = {new if name == old else name: found for name, found in self.by_name.items()}
        device.name = new
        if device.live is not None:
            device.event_nr += 1
        self._announce()
        self._host.nodes.on_rename(device, old)

    def clear(self, device: Device) -> None:
        if device.inactive is not None:
            table, device.inactive = device.inactive, None
            table.close()
            self.closed(table.on)

    def message(self, device: Device, text: str) -> None:
        words = text.split()
        if not words:
            raise fault("message", device.name, errno.EINVAL)
        if words[0] == "@cancel_deferred_remove":
            device.deferred = False
            return
        if device.live is None:
            if self.release >= Release.V6_1_LATE:
                raise fault("message", device.name, errno.EINVAL)
            return  # answered with OK, and dropped
        pool = device.live.pool
        if pool is None:
            raise fault("message", device.name, errno.EINVAL)
        below = self.suspended_below(device)
        if below is not None:
            raise WouldBlockError("message", device.name, f"{below.name} below it is suspended")
        try:
            pool.pool.message(words)
        except MetadataError as error:
            raise fault("message", device.name, error.errno) from error

    def put_pool(self, pool: Pool) -> None:
        """With the last table that refers to it, a pool is closed, which commits."""
        pool.users -= 1
        if pool.users == 0:
            pool.commit()
            del self.pools[pool.metadata]

    def _announce(self) -> None:
        self.events += 1

    def _free_devno(self) -> Devno:
        """The lowest that is free (dm.c, `next_free_minor`)."""
        taken = {device.devno.minor for device in self.by_name.values()}
        return Devno(self._host.dm_major, next(minor for minor in range(len(taken) + 1) if minor not in taken))


class SimulatedDm:
    """One opener of /dev/mapper/control."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self._seen: object = None
        """What was armed last. Booted anew, the host counts other events."""

    def versions(self) -> tuple[str, str]:
        return "1.02.185 (2022-05-18)", "4.47.0"

    def targets(self) -> dict[str, str]:
        return {"error": "1.5.0", "linear": "1.4.0", "thin": "1.22.0", "thin-pool": "1.22.0", "zero": "1.1.0"}

    def list_all(self) -> list[Listed]:
        devices = self._host.devices.by_name.values()
        return [Listed(device.name, device.devno, device.event_nr) for device in devices]

    def has_changed(self) -> bool:
        devices = self._host.devices
        before, self._seen = self._seen, (devices, devices.events)
        return before != self._seen

    def info(self, name: str) -> DeviceInfo | None:
        device = self._host.devices.by_name.get(name)
        if device is None:
            return None
        return DeviceInfo(
            name,
            device.uuid,
            device.devno,
            self._host.devices.open_count(device),
            device.event_nr,
            suspended=device.suspended,
            live_table=device.live is not None,
            inactive_table=device.inactive is not None,
            read_only=device.read_only,
            deferred_remove=device.deferred,
            internal_suspend=device.internal > 0,
        )

    def deps(self, name: str) -> list[Devno]:
        live = self._host.devices.get("deps", name).live
        return [] if live is None else list(dict.fromkeys(devno for target in live.targets for devno in target.on))

    def table(self, name: str, *, inactive: bool = False) -> Table:
        device = self._host.devices.get("table", name)
        return _lines(device.inactive if inactive else device.live)

    def status(self, name: str) -> Sequence[tuple[str, str]]:
        live = self._host.devices.get("status", name).live
        return [] if live is None else [(target.line.type, target.status()) for target in live.targets]

    def create(self, name: str, uuid: str) -> None:
        self._host.devices.create(name, uuid)

    def load(self, name: str, table: Table, *, read_only: bool = False) -> None:
        devices = self._host.devices
        devices.load(devices.get("load", name), table, read_only=read_only)

    def resume(self, name: str, *, hidden: bool = False, freeze: bool = True) -> None:
        devices = self._host.devices
        device = devices.get("resume", name)
        if not freeze:
            self._host.io.fail(device)
        devices.resume(device, hidden=hidden)

    def suspend(self, name: str) -> None:
        devices = self._host.devices
        devices.suspend(devices.get("suspend", name))

    def remove(self, name: str) -> None:
        devices = self._host.devices
        devices.remove(devices.get("remove", name))

    def rename(self, name: str, new_name: str) -> None:
        self._host.devices.rename(name, new_name)

    def clear(self, name: str) -> None:
        devices = self._host.devices
        devices.clear(devices.get("clear", name))

    def message(self, name: str, text: str) -> None:
        devices = self._host.devices
        devices.message(devices.get("message", name), text)

    def mknodes(self, name: str) -> None:
        device = self._host.devices.by_name.get(name)
        if device is None:
            self._host.nodes.paths.pop(node_of(name), None)
        else:
            self._host.nodes.make(device)


def _lines(loaded: Loaded | None) -> Table:
    return () if loaded is None else tuple(target.table() for target in loaded.targets)
