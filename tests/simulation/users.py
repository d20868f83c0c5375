"""What administrators, programs and other services do on the host."""

from __future__ import annotations

import errno
import random
from contextlib import suppress
from typing import Final

from reconciler.kernel.simulated import Call
from reconciler.kernel.simulated.pool import thin_of
from reconciler.model.dm_tables import Target, ThinTable
from reconciler.model.errors import HostError
from reconciler.model.units import Sectors
from tests.simulation.events import World, happens
from tests.simulation.fleet import BEFORE
from tests.simulation.operator import NAMES, RUNTIME, TANK

_RENAMED: Final = ".old"
STRANGER: int = 4000
"""Thin ids from here on are those of users who use the pool with dmsetup."""


def _ours(world: World) -> list[str]:
    """Live devices of the operator's, pools not among them."""
    device_holders = world.device_holders.names
    names = world.fleet.host.devices.by_name
    own = tuple(f"{pool}-" for pool in world.operator.own_pools())
    return sorted(name for name in names if name.startswith(own) and name not in device_holders)


def _some(world: World, rng: random.Random) -> str | None:
    names = _ours(world)
    return rng.choice(names) if names else None


# Administrators with dmsetup


@happens(3, midway=True)
def suspend(world: World, rng: random.Random) -> str:
    name = _some(world, rng)
    return _suspend(world, name) if name is not None else ""


def _suspend(world: World, name: str) -> str:
    info = world.fleet.dm.info(name)
    if info is None or info.suspended:
        return ""  # nobody could tell whose suspension it is
    with suppress(HostError):
        world.fleet.dm.suspend(name)
        if name not in world.fleet.cut_off():
            world.fleet.seen_states.suspended(name)
        return name
    return ""


@happens(2, midway=True)
def freeze_for_a_moment(world: World, rng: random.Random) -> str:
    """Somebody's right: it must not be ended for them."""
    name = _some(world, rng)
    if name is None or not _suspend(world, name):
        return ""

    def resume() -> None:
        with suppress(HostError):
            world.fleet.dm.resume(name)

    world.fleet.after(rng.choice([0.3, 2, 4.5]), resume)
    return name


@happens(2, midway=True)
def suspend_pool(world: World, rng: random.Random) -> str:
    return _suspend(world, rng.choice(world.operator.own_pools()))


@happens(3, midway=True)
def remove(world: World, rng: random.Random) -> str:
    name = _some(world, rng)
    if name is None:
        return ""
    with suppress(HostError):
        world.fleet.dm.remove(name)
        return name
    return ""


@happens(1, midway=True)
def protect(world: World, rng: random.Random) -> str:
    """`blockdev --setro`."""
    name = rng.choice([*world.operator.own_pools(), _some(world, rng) or ""])
    with suppress(HostError):
        world.fleet.host.protect(name)
        return name
    return ""


@happens(1)
def remove_deferred(world: World, rng: random.Random) -> str:
    """`dmsetup remove --deferred` of what somebody has open."""
    name = _some(world, rng)
    if name is None or name not in world.fleet.host.devices.by_name:
        return ""
    open_(world, rng)
    with suppress(HostError):
        world.fleet.host.remove_deferred(name)
    return name


@happens(2, midway=True)
def swap_in_dead_table(world: World, rng: random.Random) -> str:
    """What `remove --force` leaves."""
    return _load(world, rng, "error", swap=True)


@happens(2, midway=True)
def leave_table_waiting(world: World, rng: random.Random) -> str:
    return _load(world, rng, rng.choice(["error", "zero"]), swap=False)


def _load(world: World, rng: random.Random, target: str, *, swap: bool) -> str:
    name, dm = _some(world, rng), world.fleet.dm
    if name is None:
        return ""
    with suppress(HostError):
        length = sum(line.length for line in dm.table(name))
        dm.load(name, (Target(Sectors(0), Sectors(length), target, ""),))
        if swap:
            dm.resume(name)
        return f"{name} {target}"
    return ""


@happens(1)
def swap_in_another_thin(world: World, rng: random.Random) -> str:
    """Of the same pool, where nobody has either open."""
    name, dm = _some(world, rng), world.fleet.dm
    devices = world.fleet.host.devices
    device = devices.by_name.get(name or "")
    thin = None if device is None else thin_of(device.live)
    if name is None or device is None or thin is None or devices.open_count(device):
        return ""
    others = sorted(number for number in thin.pool.image.thins if number != thin.thin_id and number >= STRANGER)
    if not others:
        return ""
    with suppress(HostError):
        dm.load(name, (ThinTable(thin.line.length, thin.pool.device.devno, others[0]).target(),))
        dm.resume(name)
        return f"{name} shows {others[0]}"
    return ""


@happens(3, midway=True)
def make_thin(world: World, rng: random.Random) -> str:
    """A stranger's thin in a pool of the operator's, with something in it."""
    pool, fleet = rng.choice(world.operator.own_pools()), world.fleet
    likely = fleet.store.free_thin_id(pool, ())
    number = STRANGER + rng.randrange(5) if rng.random() < 0.4 else likely + rng.randrange(2)
    with suppress(HostError):
        if pool not in fleet.host.devices.by_name or number in fleet.host.image(pool).thins:
            return ""
        reserved = any(intent.thin_id == number for intent in fleet.store.intents(pool))
        known = any(device.thin_id == number for device in fleet.store.known_devices(pool).values())
        if reserved or known:
            return ""  # it would take an id that is being made: nobody could tell whose it is
        fleet.dm.message(pool, f"create_thin {number}")
        durable = fleet.host.pool(pool).metadata.image
        if durable is not None and number in durable.thins:
            fleet.seen_states.strangers[(pool, number)] = {}
            written = _write_into(world, pool, number)
            fleet.host.pool(pool).commit()
            return f"{number} in {pool}{'' if written else ', with nothing in it'}"
    return ""


def _write_into(world: World, pool: str, number: int) -> bool:
    """False: the pool is full, and the write fails, or waits until somebody ends it."""
    host = world.fleet.host
    try:
        return host.io.store(f"dd to {number}", host.pool(pool), number, 0, "a stranger's")
    except HostError as fault:
        if fault.errno != errno.ENOSPC:
            raise
        return False


@happens(1)
def bump_transaction(world: World, rng: random.Random) -> str:
    pool, fleet = rng.choice(world.operator.own_pools()), world.fleet
    known = fleet.store.known_pool(pool)
    if known is None or not known.created:
        return ""  # what it has by now is not told from another pool: its operator decides
    if any(worker.pool == pool and worker.is_stopped for worker in fleet.workers):
        return ""  # a message waits behind one that hangs, and does not overtake it
    with suppress(HostError):
        found = fleet.host.image(pool).transaction_id
        fleet.dm.message(pool, f"set_transaction_id {found} {found + 3}")
        return f"{pool} {found + 3}"
    return ""


@happens(1)
def hold_metadata_snapshot(world: World, rng: random.Random) -> str:
    pool = rng.choice(world.operator.own_pools())
    with suppress(HostError):
        world.fleet.dm.message(pool, "reserve_metadata_snap")
        world.fleet.seen_states.reserved(pool, in_doubt=pool in world.fleet.store.reserved)
        return pool
    return ""


@happens(1)
def release_metadata_snapshot(world: World, rng: random.Random) -> str:
    """Whoever holds one, as a backup does, is done with it."""
    held = sorted(world.fleet.seen_states.held)
    if not held:
        return ""
    pool = rng.choice(held)
    with suppress(HostError):
        world.fleet.dm.message(pool, "release_metadata_snap")
        world.fleet.seen_states.released(pool)
        return pool
    return ""


@happens(1, midway=True)
def rename(world: World, rng: random.Random) -> str:
    """And back, somewhat later."""
    name, fleet = _some(world, rng), world.fleet
    if name is None or name in fleet.seen_states.frozen or name.endswith(".private"):
        return ""
    with suppress(HostError):
        fleet.host.rename(name, f"{name}{_RENAMED}")
        fleet.after(rng.choice([1, 20]), lambda: rename_back(world))
        return f"{name} to {name}{_RENAMED}"
    return ""


def rename_back(world: World) -> None:
    """All of them, unless somebody else has the name by now."""
    host = world.fleet.host
    for name in [name for name in host.devices.by_name if name.endswith(_RENAMED)]:
        with suppress(HostError):
            host.rename(name, name.removesuffix(_RENAMED))


@happens(1)
def use_up_metadata(world: World, rng: random.Random) -> str:
    """What many snapshots and small writes take: none of it is left, or hardly any."""
    pool, host = rng.choice(world.operator.own_pools()), world.fleet.host
    with suppress(HostError):
        image, keeps = host.image(pool), rng.choice([0, 0, 20])
        left = image.metadata_blocks - image.metadata_used() - keeps
        if left <= 0:
            return ""
        image.spent += left
        host.pool(pool).commit()
        return f"{pool}, {keeps} blocks are left"
    return ""


# Programs


@happens(8)
def write(world: World, rng: random.Random) -> str:
    name, fleet = _some(world, rng), world.fleet
    device = fleet.host.devices.by_name.get(name or "")
    thin = None if device is None else thin_of(device.live)
    if name is None or device is None or thin is None or device.suspended or device.internal or device.read_only:
        return ""
    if name.endswith(".private"):
        return ""
    number, token = rng.randrange(6, 12), f"{rng.random()}"
    with suppress(HostError):
        if fleet.host.io.write(name, number, token):
            fleet.host.io.flush(name)
            durable = thin.pool.metadata.image
            kept = durable.thins.get(thin.thin_id) if durable is not None else None
            if kept is not None and kept.content.get(number) == token:
                fleet.seen_states.wrote((thin.pool.device.name, thin.thin_id), number, token)
            return f"{name} block {number}"
    return ""


@happens(2)
def begin_work(world: World, rng: random.Random) -> str:
    """A program writes to a device that is no snapshot, until somebody ends it."""
    fleet, io = world.fleet, world.fleet.host.io
    names = [
        device.dm_name
        for pool in world.operator.own_pools()
        for device in fleet.store.known_devices(pool).values()
        if not device.origin and device.dm_name in fleet.host.devices.by_name and not device.read_only
    ]
    name = rng.choice(sorted(names)) if names else ""
    if not name or io.writers:
        return ""
    with suppress(HostError):
        io.begin(name)
        return name
    return ""


@happens(1)
def fill(world: World, rng: random.Random) -> str:
    """Writes until the pool is full, and beyond."""
    name, fleet = _some(world, rng), world.fleet
    if name is None or not name.startswith(TANK) or name.endswith(".private"):
        return ""
    number = 1000
    with suppress(HostError):
        while number < 1400 and fleet.host.io.write(name, number, "full"):
            number += 1
    return f"{name}: {number - 1000} blocks"


@happens(2, midway=True)
def open_(world: World, rng: random.Random) -> str:
    """udev, blkid or a person looks into it for a while."""
    name = _some(world, rng)
    return name if name is not None and _open(world, rng, name) else ""


@happens(2)
def open_at_removal(world: World, rng: random.Random) -> str:
    """As `open_`, in the very moment in which the daemon removes it."""

    def act(call: Call) -> None:
        if call.name != "remove" or not _open(world, rng, str(call.args[0])):
            world.fleet.at_call(1, BEFORE, act)

    world.fleet.at_call(1, BEFORE, act)
    return "the next remove"


def _open(world: World, rng: random.Random, name: str) -> bool:
    fleet = world.fleet
    device = fleet.host.devices.by_name.get(name)
    if device is None or device.live is None:
        return False
    who = f"cat (pid {rng.randrange(1000, 9999)})"
    device.openers.append(who)

    def close() -> None:
        if fleet.host.devices.by_name.get(device.name) is device:
            device.openers.remove(who)
            fleet.host.devices.closed({device.devno})

    fleet.after(rng.choice([0.05, 1, 20]), close)
    return True


@happens(2)
def mount(world: World, rng: random.Random) -> str:
    name, host = _some(world, rng), world.fleet.host
    if name is None or name.endswith(".private"):
        return ""
    device = host.devices.by_name[name]
    host.mount(name, "/mnt")

    def unmount() -> None:
        if host.devices.by_name.get(device.name) is device and "/mnt" in host.mounts.get(device.devno, []):
            host.unmount(device.name, "/mnt", leaving=rng.choice([0, 0, 1, 3]))

    world.fleet.after(rng.choice([1, 20]), unmount)
    return name


# Other services


@happens(2)
def runtime_makes(world: World, rng: random.Random) -> str:
    del rng
    return world.runtime.make() if world.runtime is not None and _runtime_is_up(world) else ""


@happens(2, midway=True)
def runtime_snapshots(world: World, rng: random.Random) -> str:
    return world.runtime.snapshot(rng) if world.runtime is not None and _runtime_is_up(world) else ""


def _runtime_is_up(world: World) -> bool:
    return RUNTIME in world.fleet.host.devices.by_name


@happens(1)
def squat(world: World, rng: random.Random) -> str:
    """A device of somebody else's under a name that a record wants."""
    name = f"{rng.choice(world.operator.own_pools())}-{rng.choice(NAMES)}"
    if not world.device_holders.take(
        name, rng.choice(["LVM-device_holder", "CRYPT-device_holder", "mpath-device_holder"])
    ):
        return ""
    world.fleet.after(rng.choice([1, 30]), lambda: world.device_holders.leave(name))
    return name


@happens(2, midway=True)
def lose_nodes(world: World, rng: random.Random) -> str:
    paths = world.fleet.host.nodes.paths
    for path in rng.sample(sorted(paths), k=rng.randint(0, len(paths))):
        del paths[path]
    return "some of /dev"


@happens(1, midway=True)
def lose_events(world: World, rng: random.Random) -> str:
    world.fleet.host.nodes.lost = rng.randrange(4)
    return f"{world.fleet.host.nodes.lost}"


@happens(1)
def stop_udev(world: World, rng: random.Random) -> str:
    nodes = world.fleet.host.nodes
    nodes.running = False

    def start() -> None:
        nodes.running = True

    world.fleet.after(rng.choice([2, 15]), start)
    return "udevd"
