"""The simulated world, and the kernel that looks at it."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import cast

from reconciler.kernel.protocol import DeviceMapper, Disks, Kernel, Tools, Udev
from reconciler.kernel.simulated.devices import Devices
from reconciler.kernel.simulated.disk import BlockDevice, Disk, LoopDevice
from reconciler.kernel.simulated.disks import SimulatedDisks
from reconciler.kernel.simulated.dm import SimulatedDm
from reconciler.kernel.simulated.faults import Calls, Hooked, fault
from reconciler.kernel.simulated.io import Io
from reconciler.kernel.simulated.metadata import PoolImage
from reconciler.kernel.simulated.nodes import Nodes
from reconciler.kernel.simulated.pool import CommitFault, Pool
from reconciler.kernel.simulated.release import Release
from reconciler.kernel.simulated.tools import SimulatedTools
from reconciler.kernel.simulated.udev import SimulatedUdev
from reconciler.model.dm_tables import Devno
from reconciler.model.units import Bytes, Sectors, sectors

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
