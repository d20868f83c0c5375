"""A simulated host with others on it: what they do to it, what a test asks of it, and how its day ends."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from reconciler.kernel.simulated import SimulatedHost
from reconciler.kernel.simulated.device import node_of
from reconciler.kernel.simulated.faults import fault
from reconciler.kernel.simulated.host import HEAD, TAIL
from reconciler.kernel.simulated.machine import PoolImage
from reconciler.kernel.simulated.pool import CommitFault, Mode, Pool, pool_of
from reconciler.model.dm_tables import Devno


@dataclass(frozen=True, slots=True)
class Held:
    """What a test asks about a thin."""

    mapped: int
    content: dict[int, str]


class PlayedHost(SimulatedHost):
    # What other users and programs do

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

    def rename(self, old: str, new: str) -> None:
        """`dmsetup rename`. That the new name is taken is found first, also where there is nothing to rename."""
        devices = self.devices
        if new in devices.by_name:
            raise fault("rename", old, errno.EBUSY)
        device = devices.get("rename", old)
        devices.by_name = {new if name == old else name: found for name, found in devices.by_name.items()}
        device.name = new
        if device.live is not None:
            device.event_nr += 1
        device.announce()
        if self.nodes.paths.pop(node_of(old), None) is not None:
            self.nodes.make(device)

    def renumber(self, one: Devno, other: Devno) -> None:
        """As at a boot at which the kernel met the two disks in another order: each has the other's name and number."""
        first, second = self.blocks[one], self.blocks[other]
        first.disk, second.disk = second.disk, first.disk

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

    # What the kernel and the disks come to

    def fail_commits(self, pool: str, how: CommitFault) -> None:
        """From now on this pool's commits fail, and its messages are answered with OK all the same."""
        self.pool(pool).commit_fault = how

    def no_space_timeout(self, name: str) -> None:
        """A minute, as it is set by default, has passed since the pool was full (dm-thin.c, `do_no_space_timeout`): the
        writes that wait for room fail.
        """
        pool = self.pool(name)
        if pool.mode is Mode.OUT_OF_DATA_SPACE and not pool.errors_if_full:
            pool.timed_out = True
            pool.told()
        if pool.timed_out:
            for thin in pool.thins:
                self.io.fail(thin.device)

    def power_cut(self) -> None:
        """Only what is durable stays: files, and of pools what was committed. The next call finds the host booted."""
        self.boot()

    def reboot(self) -> None:
        """In order: everything is taken down first, so that nothing is lost."""
        for pool in list(self.devices.pools.values()):
            pool.commit()
        self.power_cut()


def is_torn(content: dict[int, str]) -> bool:
    """Whether it holds half a change: of a snapshot, that it was taken while its origin was written to."""
    return content.get(HEAD) != content.get(TAIL)
