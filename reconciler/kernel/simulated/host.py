"""The simulated world: one host, and what people and programs do on it."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from reconciler.kernel.simulated.devices import Devices
from reconciler.kernel.simulated.faults import fault
from reconciler.kernel.simulated.io import Io
from reconciler.kernel.simulated.machine import Machine, PoolImage
from reconciler.kernel.simulated.pool import CommitFault, Pool, pool_of


@dataclass(frozen=True, slots=True)
class Held:
    """What a test asks about a thin."""

    mapped: int
    content: dict[int, str]


class SimulatedHost(Machine):
    """Files, disks, and all that lies on them. Making one makes an empty host."""

    def boot(self) -> None:
        super().boot()
        self.devices = Devices(self)
        self.io = Io(self.devices)

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
        found = pool_of(device.live)
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
        self.boot()

    def reboot(self) -> None:
        """In order: everything is taken down first, so that nothing is lost."""
        for pool in list(self.devices.pools.values()):
            pool.commit()
        self.power_cut()
