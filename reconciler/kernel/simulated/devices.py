"""The dm devices: their slots, their states, and who has them open.

Sources: kernel, drivers/md/dm.c and dm-ioctl.c. What was observed on 6.1 and 6.12 is tested by
tests/testing/conformance.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Protocol

from reconciler.kernel.simulated.device import Device, Loaded
from reconciler.kernel.simulated.faults import WouldBlockError, fault
from reconciler.kernel.simulated.machine import Disk, Machine, MetadataError, Release
from reconciler.kernel.simulated.pool import Pool, PoolTarget, pool_of, thin_of
from reconciler.model.dm_tables import Devno
from reconciler.model.units import Sectors


class Programs(Protocol):
    """The programs that read and write; they are told what happens to a device."""

    def settle(self, device: Device) -> None:
        """The device is about to be suspended, which flushes and freezes: a half-done change is completed."""

    def retry(self, device: Device) -> None:
        """The device was resumed, and waiting writes go on."""


class Devices:
    """All dm devices of a host, and its active pools."""

    programs: Programs

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.by_name: dict[str, Device] = {}
        self.pools: dict[Disk, Pool] = {}
        self.events = 0
        """The number of events on the host, which poll on /dev/mapper/control shows."""

    @property
    def release(self) -> Release:
        return self._machine.release

    # Queries

    def get(self, operation: str, name: str) -> Device:
        device = self.by_name.get(name)
        if device is None:
            raise fault(operation, name, errno.ENXIO)
        return device

    def by_devno(self, devno: Devno) -> Device | None:
        return next((device for device in self.by_name.values() if device.devno == devno), None)

    def open_count(self, device: Device) -> int:
        """The open count: processes, mounted filesystems and dm devices above it, once for each way
        of having it open.
        """
        ways = {(above.name, table.read_only) for above, table in self.above(device.devno)}
        return len(device.openers) + len(ways) + (1 if self._machine.mounts.get(device.devno) else 0)

    def above(self, devno: Devno) -> Iterator[tuple[Device, Loaded]]:
        for device in self.by_name.values():
            for table in device.tables:
                if devno in table.on:
                    yield device, table

    def size_of(self, devno: Devno) -> Sectors | None:
        """The size of a device; None if there is nothing to open."""
        device = self.by_devno(devno)
        if device is None:
            return self._machine.size_of(devno)
        if not device.typed:
            return None  # a device that never had a table has no disk to open
        return device.live.length if device.live is not None else Sectors(0)

    def disk_of(self, devno: Devno) -> Disk:
        """The bytes behind a device number; a linear device shows those of the device below it."""
        device = self.by_devno(devno)
        if device is None:
            return self._machine.disk_of(devno)
        if device.live is None or not device.live.on:
            return Disk(0)
        return self.disk_of(min(device.live.on))

    def suspended_below(self, device: Device) -> Device | None:
        """A suspended device below this one. For a thin, the suspension of its pool is handled elsewhere."""
        for table in device.tables:
            for devno in table.on:
                lower = self.by_devno(devno)
                if lower is None:
                    continue
                if lower.suspended and thin_of(table) is None:
                    return lower
                if (found := self.suspended_below(lower)) is not None:
                    return found
        return None

    def fits(self, loaded: Loaded) -> bool:
        """Whether the devices below offer what each target needs (dm-table.c, `device_area_is_invalid`)."""
        for target in loaded.targets:
            start = 0
            if isinstance(target, PoolTarget):
                size = self.size_of(target.wanted.data)
            elif target.line.type == "linear":
                size, start = self.size_of(target.on[0]), int(target.line.params.split()[1])
            else:
                continue
            if size and start + target.line.length > size:
                return False
        return True

    # Changes

    def create(self, name: str, uuid: str) -> None:
        if len(name) > 127:
            raise fault("create", name, errno.EINVAL, "name too long")
        taken = name in self.by_name or (uuid and any(device.uuid == uuid for device in self.by_name.values()))
        if taken:
            raise fault("create", name, errno.EBUSY)
        self.by_name[name] = Device(name, uuid, self._free_devno(), self._announce)
        self._announce()

    def load(self, device: Device, loaded: Loaded) -> None:
        """Puts a table that was opened into the inactive slot."""
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
        self.programs.settle(device)
        pool, thin = pool_of(device.live), thin_of(device.live)
        if pool is not None:
            pool.pool.suspend()
            pool.pool.commit()
        elif thin is not None:
            thin.pool.commit()
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
        """Resumes the device. A table that does not fit what is below, or is shorter than its pool, leaves it
        suspended.
        """
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
        self._machine.nodes.on_resume(device, hidden=hidden)

    def _swap(self, device: Device) -> Loaded | None:
        """Swaps in the inactive table, and returns the one that was live."""
        if not device.suspended:
            self.suspend(device)
        new, device.inactive = device.inactive, None
        assert new is not None  # noqa: S101  # the caller looked
        if not self.fits(new):
            new.close()
            raise fault("resume", device.name, errno.EINVAL)
        old, device.live = device.live, new
        device.table_read_only = new.read_only
        self._announce()
        return old

    def retry(self, device: Device) -> None:
        """Continues the writes that waited for the device, or for space in the pool."""
        self.programs.retry(device)

    def _let_go(self, device: Device) -> None:
        """Ends the suspension. Without a table, that is EINVAL (dm.c, `dm_resume`)."""
        if device.live is None:
            raise fault("resume", device.name, errno.EINVAL)
        pool = pool_of(device.live)
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
        pool = pool_of(device.live)
        if pool is not None:
            pool.pool.suspend()
        del self.by_name[device.name]
        for table in list(device.tables):
            table.close()
        self._machine.nodes.on_remove(device)
        self._announce()
        self.closed(on)

    def closed(self, devnos: set[Devno]) -> None:
        """Somebody has closed these devices; those with a deferred removal are removed now."""
        for devno in devnos:
            device = self.by_devno(devno)
            if device is not None and device.deferred and not self.open_count(device):
                self._gone(device)

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
        pool = pool_of(device.live)
        if pool is None:
            raise fault("message", device.name, errno.EINVAL)
        below = self.suspended_below(device)
        if below is not None:
            raise WouldBlockError("message", device.name, f"{below.name} below it is suspended")
        try:
            pool.pool.message(words)
        except MetadataError as error:
            raise fault("message", device.name, error.errno) from error

    def _announce(self) -> None:
        self.events += 1

    def _free_devno(self) -> Devno:
        """The lowest free number (dm.c, `next_free_minor`)."""
        taken = {device.devno.minor for device in self.by_name.values()}
        return Devno(self._machine.dm_major, next(minor for minor in range(len(taken) + 1) if minor not in taken))
