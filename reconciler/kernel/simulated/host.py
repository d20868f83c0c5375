"""The simulated world, and the kernel that looks at it.

`Tools` of the simulated host: what programs leave on a thin, and what they read of a pool's metadata.

`Udev` of the simulated host.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final, cast

from reconciler.kernel.protocol import DeviceMapper, Disks, Kernel, Mkfs, Tools, Udev
from reconciler.kernel.simulated.disks import BlockDevice, Disk, LoopDevice, SimulatedDisks
from reconciler.kernel.simulated.dm import Devices, SimulatedDm
from reconciler.kernel.simulated.faults import Call, Calls, Hooked, WouldBlockError, fault
from reconciler.kernel.simulated.io import Io
from reconciler.kernel.simulated.pool import CommitFault, Pool, PoolImage
from reconciler.kernel.simulated.tables import Device, Nodes, Release, ThinTarget, node_of
from reconciler.model.dm_tables import Devno
from reconciler.model.live import DeviceInfo, ThinEntry
from reconciler.model.units import Bytes, Sectors, sectors

_SUPERBLOCK: Final = 0
_INODES: Final = 1


class SimulatedTools:
    def __init__(self, host: SimulatedHost, calls: Calls) -> None:
        self._host = host
        self._calls = calls

    # Filesystems. The first block says its type and for how many sectors it was made.

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
        thin = device.live.thin if device.live is not None else None
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
        if not isinstance(device.live.targets[0], ThinTarget):
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
        """A pool that is up on it is EBUSY."""
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

    def in_the_way(self, path: str) -> str:
        there = self._host.nodes.paths.get(path)
        return "" if there is None else f"a node of another device, {there}, is in its place: `rm {path}`"

    def trigger(self, devno: Devno) -> None:
        nodes, device = self._host.nodes, self._host.devices.by_devno(devno)
        if not nodes.running:
            raise fault("look again at", str(devno), errno.ECONNREFUSED, "udev is not running")
        if device is None:
            raise fault("look again at", str(devno), errno.ENOENT)
        if device.live is not None and device.live.length:
            nodes.make(device)
            nodes.link(device)


_LOOP_MAJOR = 7
_BLOCK_MAJOR = 8


@dataclass(frozen=True, slots=True)
class Held:
    """What a test asks about a thin."""

    mapped: int
    content: dict[int, str]


class SimulatedHost:
    """Files, disks, and all that lies on them. Making one makes an empty host."""

    def __init__(self, *, dm_major: int = 253, free_space: int = 1 << 40, release: Release = Release.V6_12) -> None:
        self.release = release
        self.dm_major = dm_major
        self.free_space = free_space
        self.files: dict[str, Disk] = {}
        self.folders: set[str] = {"/", "/srv", "/var/lib"}
        self.blocks: dict[Devno, BlockDevice] = {}
        self.loops: dict[Devno, LoopDevice] = {}
        self.protected: set[str] = set()
        """dm names under the root filesystem, the state directory, or swap."""
        self._boot()

    def _boot(self) -> None:
        self.mounts: dict[Devno, list[str]] = {}
        self.nodes = Nodes()
        self.devices = Devices(self)
        self.io = Io(self.devices)

    # Disks

    def add_disk(self, name: str, size: int, serial: str = "") -> Devno:
        """A block device `/dev/NAME` of so many bytes."""
        devno = Devno(_BLOCK_MAJOR, len(self.blocks))
        self.blocks[devno] = BlockDevice(devno, Disk(size, size, serial=serial), f"/dev/{name}")
        return devno

    def renumber(self, one: Devno, other: Devno) -> None:
        """As at a boot at which the kernel met the two disks in another order: each has the other's name and number."""
        first, second = self.blocks[one], self.blocks[other]
        first.disk, second.disk = second.disk, first.disk

    def size_of(self, devno: Devno) -> Sectors | None:
        """Of a block device that is no dm device; None: there is none."""
        if devno in self.loops:
            return sectors(Bytes(self.loops[devno].size))
        block = self.blocks.get(devno)
        return None if block is None else sectors(Bytes(block.disk.size))

    def disk_of(self, devno: Devno) -> Disk:
        if devno in self.loops:
            return self.loops[devno].disk
        return self.blocks[devno].disk

    def resolve(self, path: str) -> Devno | None:
        """The block device that a path leads to."""
        nodes = {loop.node: devno for devno, loop in self.loops.items()}
        nodes |= {block.node: devno for devno, block in self.blocks.items()}
        nodes |= {f"/dev/block/{devno}": devno for devno in (*self.loops, *self.blocks)}
        return nodes.get(path) or self.nodes.paths.get(path)

    def free_loop(self) -> Devno:
        taken = {devno.minor for devno in self.loops}
        return Devno(_LOOP_MAJOR, next(minor for minor in range(len(taken) + 1) if minor not in taken))

    # What other people and programs do

    def mount(self, name: str, place: str) -> None:
        self.mounts.setdefault(self.devices.get("mount", name).devno, []).append(place)

    def unmount(self, name: str, place: str, *, leaving: int = 0) -> None:
        """`leaving`: its superblock goes only after so many tries to freeze it have failed."""
        device = self.devices.get("unmount", name)
        self.mounts[device.devno].remove(place)
        device.leaving = leaving
        self.devices.closed({device.devno})

    def protect(self, name: str) -> None:
        """`blockdev --setro`."""
        self.devices.get("protect", name).protected = True

    def open(self, name: str, who: str = "cat (pid 100)") -> None:
        self.devices.get("open", name).openers.append(who)

    def close(self, name: str, who: str = "cat (pid 100)") -> None:
        device = self.devices.get("close", name)
        device.openers.remove(who)
        self.devices.closed({device.devno})

    def remove_deferred(self, name: str) -> None:
        """`dmsetup remove --deferred`."""
        self.devices.remove(self.devices.get("remove", name), deferred=True)

    # What a test asks

    def pool(self, name: str) -> Pool:
        device = self.devices.get("look at", name)
        found = device.live.pool if device.live is not None else None
        if found is None:
            raise fault("look at", name, errno.ENXIO, "no pool is live")
        return found.pool

    def image(self, name: str) -> PoolImage:
        """A live pool's metadata as it is now, whether or not it is durable."""
        return self.pool(name).image

    def thin(self, pool: str, thin_id: int) -> Held:
        image = self.image(pool).of(thin_id)
        return Held(len(image.blocks), image.content)

    def fail_commits(self, pool: str, how: CommitFault) -> None:
        """From now on this pool's commits fail, and its messages are answered with OK all the same."""
        self.pool(pool).commit_fault = how

    # Ends

    def power_cut(self) -> None:
        """Only what is durable stays: files, and of pools what was committed. The next call finds the host booted."""
        self.loops.clear()
        self._boot()

    def reboot(self) -> None:
        """In order: everything is taken down first, so that nothing is lost."""
        for pool in list(self.devices.pools.values()):
            pool.commit()
        self.power_cut()


def simulated_kernel(host: SimulatedHost, calls: Calls | None = None) -> Kernel:
    """The host as one caller sees it. Several may look at one host."""
    calls = calls or Calls()
    return Kernel(
        dm=cast("DeviceMapper", Hooked("dm", SimulatedDm(host), calls)),
        disks=cast("Disks", Hooked("disks", SimulatedDisks(host, calls), calls)),
        tools=cast("Tools", Hooked("tools", SimulatedTools(host, calls), calls)),
        udev=cast("Udev", Hooked("udev", SimulatedUdev(host), calls)),
    )
