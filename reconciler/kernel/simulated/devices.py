"""dm devices: their slots, their states, and who has them open.

Sources: kernel, drivers/md/dm.c and dm-ioctl.c; what was observed is in docs/reference/device-mapper.md.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reconciler.kernel.simulated.disk import Disk
from reconciler.kernel.simulated.faults import WouldBlock, fault
from reconciler.kernel.simulated.metadata import MetadataError
from reconciler.kernel.simulated.pool import Pool
from reconciler.kernel.simulated.targets import PoolTarget, SimpleTarget, ThinTarget, make_target
from reconciler.model.table import Devno, Table
from reconciler.model.units import Sectors

if TYPE_CHECKING:
    from reconciler.kernel.simulated.host import SimulatedHost


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
    read_only: bool = False
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
    def tables(self) -> Iterator[Loaded]:
        yield from (table for table in (self.live, self.inactive) if table is not None)


class Devices:
    """All dm devices of a host, and the pools that are up."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self.by_name: dict[str, Device] = {}
        self.pools: dict[Disk, Pool] = {}
        self.events = 0
        """Global: what poll on /dev/mapper/control shows."""

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
        device = self.by_devno(devno)
        if device is None:
            return self._host.size_of(devno)
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
        self._check_below("load", device, table)
        loaded = self._open_table(device, table, read_only=read_only)
        before, device.inactive = device.inactive, loaded
        device.typed = True
        if before is not None:
            before.close()

    def _check_below(self, operation: str, device: Device, table: Table) -> None:
        """A load reads a pool's metadata, which hangs while something below is suspended."""
        for target in table:
            for word in target.params.split()[:2]:
                major, _, minor = word.partition(":")
                lower = self.by_devno(Devno(int(major), int(minor))) if minor.isdecimal() else None
                if lower is None:
                    continue
                hangs = lower if lower.suspended and target.type == "thin-pool" else self.suspended_below(lower)
                if hangs is not None:
                    raise WouldBlock(operation, device.name, f"{hangs.name} below it is suspended")

    def _open_table(self, device: Device, table: Table, *, read_only: bool) -> Loaded:
        loaded = Loaded([], read_only)
        try:
            self._check_form(device, table, read_only=read_only)
            for line in table:
                loaded.targets.append(make_target(self, device, line))
            if not device.typed and not self._fits(loaded):
                raise fault("load", device.name, errno.EINVAL)
        except Exception:
            loaded.close()
            raise
        return loaded

    def _check_form(self, device: Device, table: Table, *, read_only: bool) -> None:
        """Without gaps, and a pool alone, writable, and for good (dm-table.c; the target's features in dm-thin.c)."""
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

    def _fits(self, loaded: Loaded) -> bool:
        """What a target needs of the devices that it lies on is there (dm-table.c, `device_area_is_invalid`)."""
        for target in loaded.targets:
            if isinstance(target, PoolTarget):
                size = self.size_of(target.wanted.data) or 0
                if size and target.line.length > size:
                    return False
            elif target.line.type == "linear":
                size = self.size_of(target.on[0]) or 0
                start = int(target.line.params.split()[1])
                if size and start + target.line.length > size:
                    return False
        return True

    def suspend(self, device: Device) -> None:
        if device.suspended:
            return
        self._check_suspend("suspend", device)
        self._host.settle_writers(device)
        pool = device.live.pool if device.live is not None else None
        if pool is not None:
            pool.pool.suspend()
            pool.pool.commit()
        elif device.live is not None and device.live.thin is not None:
            device.live.thin.pool.commit()
        device.suspended = True

    def _check_suspend(self, operation: str, device: Device) -> None:
        if device.internal:
            raise WouldBlock(operation, device.name, "its pool is suspended")
        if device.queued:
            raise WouldBlock(operation, device.name, "writes wait in it")
        below = self.suspended_below(device)
        if below is not None:
            raise WouldBlock(operation, device.name, f"{below.name} below it is suspended")
        if device.live is not None and device.live.pool is not None:
            waiting = [thin.device.name for thin in device.live.pool.pool.thins if thin.device.queued]
            if waiting:
                raise WouldBlock(operation, device.name, f"writes wait in {waiting[0]}")

    def resume(self, device: Device, *, hidden: bool) -> None:
        """A table that does not fit what it lies on, or is shorter than its pool, leaves the device suspended."""
        if device.inactive is not None:
            self._swap(device)
            swapped = True
        else:
            swapped = False
        if device.suspended:
            self._let_go(device)
        if swapped:
            self._host.nodes.on_resume(device, hidden=hidden)

    def _swap(self, device: Device) -> None:
        if not device.suspended:
            self.suspend(device)
        elif device.internal:
            raise WouldBlock("resume", device.name, "its pool is suspended")
        new, device.inactive = device.inactive, None
        assert new is not None  # noqa: S101  # the caller looked
        if not self._fits(new):
            new.close()
            raise fault("resume", device.name, errno.EINVAL)
        old, device.live = device.live, new
        device.read_only = new.read_only
        self._announce()
        self._bind_then_close(device, new, old)

    def _bind_then_close(self, device: Device, new: Loaded, old: Loaded | None) -> None:
        try:
            if new.pool is not None:
                new.pool.pool.bind(new.pool.wanted)
        except MetadataError as error:
            raise fault("resume", device.name, error.errno) from error
        finally:
            if old is not None:
                old.close()

    def _let_go(self, device: Device) -> None:
        if device.live is None:
            raise fault("resume", device.name, errno.EINVAL)
        if device.internal:
            raise WouldBlock("resume", device.name, "its pool is suspended")
        below = self.suspended_below(device)
        if below is not None:
            raise WouldBlock("resume", device.name, f"{below.name} below it is suspended")
        pool = device.live.pool
        if pool is not None:
            self._bind_then_close(device, device.live, None)
            pool.pool.resume()
        device.suspended = False
        self._host.retry_writes(device)

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

    def rename(self, device: Device, new: str) -> None:
        if len(new) > 127:
            raise fault("rename", device.name, errno.EINVAL, "name too long")
        if new in self.by_name:
            raise fault("rename", device.name, errno.EBUSY)
        old = device.name
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
            return  # answered with OK, and dropped (observed)
        pool = device.live.pool
        if pool is None:
            raise fault("message", device.name, errno.EINVAL)
        below = self.suspended_below(device)
        if below is not None:
            raise WouldBlock("message", device.name, f"{below.name} below it is suspended")
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
