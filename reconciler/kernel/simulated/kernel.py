"""The simulated host as one caller sees it, through all Protocols of the kernel.

`Tools` models what programs leave on a thin, and what they read from a pool's metadata; `Udev` models which nodes there
are.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final, cast

from reconciler.kernel.protocol import DeviceMapper, Disks, Kernel, Mkfs, Tools, Udev
from reconciler.kernel.simulated.device import Device, Loaded, node_of
from reconciler.kernel.simulated.disks import SimulatedDisks
from reconciler.kernel.simulated.faults import Call, Calls, Hooked, WouldBlockError, fault
from reconciler.kernel.simulated.host import SimulatedHost
from reconciler.kernel.simulated.machine import Disk, PoolImage
from reconciler.kernel.simulated.pool import thin_of
from reconciler.kernel.simulated.tables import open_table
from reconciler.model.dm_tables import Devno, Table
from reconciler.model.live import DeviceInfo, Listed, ThinEntry


class SimulatedDm:
    """One opener of /dev/mapper/control."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self._seen: object = None
        """The event count at the last arm; a rebooted host counts anew."""

    def versions(self) -> tuple[str, str]:
        return "1.02.185 (2022-05-18)", "4.47.0"

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
        device = devices.get("load", name)
        devices.load(device, open_table(devices, device, table, read_only=read_only))

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


_SUPERBLOCK: Final = 0
_INODES: Final = 1


class SimulatedTools:
    def __init__(self, host: SimulatedHost, calls: Calls) -> None:
        self._host = host
        self._calls = calls

    # Filesystems. The first block holds its type and the number of sectors that it was made for.

    def mkfs(self, node: str, wanted: Mkfs) -> None:
        device = self._device("mkfs", node)
        if there := self.filesystem(node):
            raise fault(f"mkfs.{wanted.type}", node, errno.EEXIST, f"there is {there} on it")
        self._host.io.write(device.name, _INODES, "inodes")
        self._host.io.flush(device.name)
        self._calls.midway(Call("tools", "mkfs", (node,)))
        self._write_superblock(device, wanted.type)

    def filesystem(self, node: str) -> str:
        return self._superblock(node)[0]

    def grow_filesystem(self, node: str, mounted_at: str | None) -> None:
        kind, _ = self._superblock(node)
        device = self._device("grow", node)
        if not kind:
            raise fault("grow the filesystem on", node, errno.EOPNOTSUPP, "cannot grow nothing")
        if device.openers and mounted_at is None:
            raise fault("grow the filesystem on", node, errno.EBUSY)
        self._write_superblock(device, kind)

    def _superblock(self, node: str) -> tuple[str, int]:
        kind, _, size = self._host.io.read(self._device("look at", node).name, _SUPERBLOCK).partition(" ")
        return kind, int(size or 0)

    def _write_superblock(self, device: Device, kind: str) -> None:
        assert device.live is not None  # noqa: S101  # `_device` looked
        self._host.io.write(device.name, _SUPERBLOCK, f"{kind} {device.live.length}")
        self._host.io.flush(device.name)

    def discard(self, node: str) -> None:
        device = self._device("discard", node)
        thin = thin_of(device.live)
        if self._host.devices.open_count(device):
            raise fault("discard", node, errno.EBUSY)
        if thin is None:
            raise fault("discard", node, errno.EOPNOTSUPP)
        thin.pool.image.discard(thin.thin_id)
        thin.pool.commit()

    def _device(self, operation: str, node: str) -> Device:
        devno = self._host.resolve(node)
        device = None if devno is None else self._host.devices.by_devno(devno)
        if device is None or device.live is None:
            raise fault(operation, node, errno.ENOENT)
        if device.suspended or device.internal:
            raise WouldBlockError(operation, node, f"{device.name} is suspended")
        if thin_of(device.live) is None:
            raise fault(operation, node, errno.EIO)
        return device

    # Metadata

    def thin_check(self, metadata: str) -> str:
        disk = self._unused("thin_check", metadata)
        if disk.damage:
            raise fault("thin_check", metadata, errno.EUCLEAN, disk.damage)
        return disk.leaks

    def thin_ls(self, metadata: str, *, live: bool) -> dict[int, ThinEntry]:
        if live:
            disk = self._disk("thin_ls", metadata)
            if disk.image is None or disk.image.held is None:
                raise fault("thin_ls", metadata, 0, "no metadata snapshot is held")
            return _entries(PoolImage(disk.image.block, 0, thins=disk.image.held))
        image = self._unused("thin_ls", metadata).image
        if image is None:
            raise fault("thin_ls", metadata, 0, "bad superblock")
        return _entries(image)

    def _disk(self, operation: str, path: str) -> Disk:
        devno = self._host.resolve(path)
        if devno is not None:
            return self._host.devices.disk_of(devno)
        if path not in self._host.files:
            raise fault(operation, path, errno.ENOENT)
        return self._host.files[path]

    def _unused(self, operation: str, path: str) -> Disk:
        """The disk at a path; EBUSY if an active pool is on it."""
        disk = self._disk(operation, path)
        if disk in self._host.devices.pools:
            raise fault(operation, path, errno.EBUSY)
        return disk


def _entries(image: PoolImage) -> dict[int, ThinEntry]:
    return {number: ThinEntry(len(thin.blocks), thin.created_at) for number, thin in sorted(image.thins.items())}


class SimulatedUdev:
    def __init__(self, host: SimulatedHost) -> None:
        self._host = host

    def running(self) -> bool:
        return self._host.nodes.running

    def missing(self, info: DeviceInfo) -> tuple[str, ...]:
        nodes = self._host.nodes
        wanted = (node_of(info.name), *nodes.promised.get(info.devno, ()))
        return tuple(path for path in wanted if nodes.paths.get(path) != info.devno)

    def why_not(self) -> str:
        return "" if self._host.nodes.running else "udevd does not run: `systemctl restart systemd-udevd`"

    def in_the_way(self, path: str) -> str | None:
        there = self._host.nodes.paths.get(path)
        return None if there is None else f"a node of another device, {there}, is in its place: `rm {path}`"

    def trigger(self, devno: Devno) -> None:
        nodes, device = self._host.nodes, self._host.devices.by_devno(devno)
        if not nodes.running:
            raise fault("look again at", str(devno), errno.ECONNREFUSED, "udev is not running")
        if device is None:
            raise fault("look again at", str(devno), errno.ENOENT)
        if device.live is not None and device.live.length:
            nodes.make(device)
            nodes.link(device)


def simulated_kernel(host: SimulatedHost, calls: Calls | None = None) -> Kernel:
    """The kernel of the host for one caller; a host may have several callers."""
    calls = calls or Calls()
    return Kernel(
        dm=cast("DeviceMapper", Hooked("dm", SimulatedDm(host), calls)),
        disks=cast("Disks", Hooked("disks", SimulatedDisks(host, calls), calls)),
        tools=cast("Tools", Hooked("tools", SimulatedTools(host, calls), calls)),
        udev=cast("Udev", Hooked("udev", SimulatedUdev(host), calls)),
    )
