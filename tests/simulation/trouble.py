"""What fails: calls of the daemon, its workers, itself, and the host under it."""

from __future__ import annotations

import errno
import random
from typing import Final

from reconciler.kernel.simulated import Call, Crashed
from reconciler.kernel.simulated.machine import Disk
from reconciler.kernel.simulated.pool import CommitFault
from reconciler.model.errors import HostError
from tests.simulation.events import World, happens
from tests.simulation.fleet import AFTER, BEFORE, MIDWAY
from tests.simulation.worker import Lie, Waits

ERRNOS: Final = (
    errno.EIO,
    errno.EBUSY,
    errno.EINVAL,
    errno.ENOSPC,
    errno.ENOMEM,
    errno.EPERM,
    errno.EAGAIN,
    errno.ENXIO,
    errno.ENODEV,
    errno.ENOENT,
    errno.EROFS,
    errno.EOPNOTSUPP,
    errno.EINTR,
    errno.ENODATA,
    errno.EEXIST,
)
_TELLING: Final = frozenset({errno.ENODATA, errno.EEXIST})
"""What a message says with these tells whether a thin is there."""
LIES: Final = frozenset(
    ["create", "load", "resume", "suspend", "remove", "clear", "mknodes", "look_again", "detach", "resize_loop"]
)
"""Calls that were seen to say OK to what did not happen, or could: after them the daemon must look."""
SOON: Final = 14


CALLS: Final = (
    *("list_all", "info", "table", "status", "create", "load", "resume", "suspend", "remove", "clear", "message"),
    *("kind", "loops_on", "attach", "detach", "resize_loop", "make_file", "grow_file", "delete_file", "zero"),
    *("mkfs", "grow_filesystem", "discard", "thin_check", "thin_ls", "look_again", "mknodes"),
)
"""Of which one is chosen now and then: what is seldom called is else seldom met."""


def _would_lie(call: Call, number: int) -> bool:
    """The kernel says this of what its metadata holds, and it does not lie about that: the daemon may act upon it."""
    if call.name != "message":
        return False
    return number in _TELLING or (number == errno.EBUSY and str(call.args[1]) == "reserve_metadata_snap")


def _fault(call: Call, number: int) -> HostError:
    return HostError(call.name, str(call.args[0]) if call.args else "", number, "for this once")


@happens(10)
def fail(world: World, rng: random.Random) -> str:
    """One call, before it did anything or after all."""
    fleet, number, when = world.fleet, rng.choice(ERRNOS), rng.choice([BEFORE, AFTER])
    only = rng.choice(CALLS) if rng.random() < 0.5 else ""

    def act(call: Call) -> None:
        if only and call.name != only:
            fleet.at_call(1, when, act, changing=False)
            return
        if call.part == "store" or _would_lie(call, number):
            return
        fleet.count(f"failed calls ({when})")
        raise _fault(call, number)

    calls, changing = rng.randrange(1, SOON), rng.random() < 0.8
    fleet.at_call(1 if only else calls, when, act, changing=changing and not only)
    return f"{errno.errorcode[number]} {when} {f'the next {only}' if only else f'call {calls}'}"


@happens(2)
def fail_for_long(world: World, rng: random.Random) -> str:
    """All calls of one kind, for a while."""
    fleet, number = world.fleet, rng.choice(ERRNOS)
    name = rng.choice(["create", "load", "resume", "remove", "message", "attach", "mkfs", "look_again", "list_all"])
    end = fleet.clock.now() + rng.choice([0.5, 5, 30])

    def act(call: Call) -> None:
        if fleet.clock.now() < end:
            fleet.at_call(1, BEFORE, act, changing=False)
        if call.name == name and fleet.clock.now() < end and not _would_lie(call, number):
            fleet.count("failed calls (before)")
            raise _fault(call, number)

    fleet.at_call(1, BEFORE, act, changing=False)
    return f"{name} {errno.errorcode[number]} until {end:.1f}"


@happens(4)
def lie(world: World, rng: random.Random) -> str:
    fleet, calls = world.fleet, rng.randrange(1, SOON)
    names = LIES if rng.random() < 0.4 else frozenset([rng.choice(sorted(LIES))])

    def act(call: Call) -> Lie | None:
        there = call.name == "create" and call.args[0] in fleet.host.devices.by_name
        if call.name not in names or there:
            fleet.at_call(1, BEFORE, act)
            return None
        fleet.count("false successes")
        return Lie()

    fleet.at_call(calls if names is LIES else 1, BEFORE, act)
    return f"call {calls}" if names is LIES else f"the next {', '.join(names)}"


@happens(5)
def hang(world: World, rng: random.Random) -> str:
    """A call takes long; others go on meanwhile."""
    fleet, calls, seconds = world.fleet, rng.randrange(1, SOON), rng.choice([0.02, 0.5, 3.0, 8.0, 60.0])

    def act(call: Call) -> Waits | None:
        if call.part == "store":
            return None
        fleet.count("hanging calls")
        return Waits(fleet.clock.now() + seconds)

    fleet.at_call(calls, BEFORE, act, changing=rng.random() < 0.7)
    return f"call {calls} for {seconds} s"


@happens(3)
def commit_fails(world: World, rng: random.Random) -> str:
    """A message is answered with OK, and its commit is lost: the pool goes read-only, or fails."""
    fleet, how = world.fleet, rng.choice([CommitFault.READ_ONLY, CommitFault.FAIL])
    pool, calls = rng.choice(world.operator.own_pools()), rng.randrange(1, 5)
    if rng.random() < 0.6:
        return ""  # an unhealthy pool ends most of a scenario

    def act(call: Call) -> None:
        if call.name != "message" or pool not in fleet.host.devices.by_name:
            fleet.at_call(1, BEFORE, act)
            return
        fleet.count("failed commits")
        fleet.host.fail_commits(pool, how)

    fleet.at_call(calls, BEFORE, act)
    return f"{pool} {how.name}"


@happens(8)
def kill(world: World, rng: random.Random) -> str:
    """The daemon and its workers, at a call."""
    fleet = world.fleet
    calls, when = rng.randrange(1, SOON), rng.choice([BEFORE, BEFORE, AFTER, AFTER, MIDWAY])

    def act(call: Call) -> None:
        del call
        fleet.count("kills")
        fleet.is_dead = True
        raise Crashed

    fleet.at_call(calls, when, act)
    return f"{when} call {calls}"


@happens(2)
def kill_daemon_alone(world: World, rng: random.Random) -> str:
    """Its workers end the step at hand."""
    fleet, calls = world.fleet, rng.randrange(1, SOON)

    def act(call: Call) -> None:
        fleet.count("kills of the daemon alone")
        fleet.is_doomed = True
        if call.part == "store":
            raise Crashed

    fleet.at_call(calls, BEFORE, act)
    return f"before call {calls}"


@happens(2)
def kill_worker(world: World, rng: random.Random) -> str:
    """As when memory runs out."""
    fleet = world.fleet
    calls, when = rng.randrange(1, SOON), rng.choice([BEFORE, AFTER])

    def act(call: Call) -> None:
        if call.part != "store":
            fleet.count("kills of a worker")
            raise Crashed

    fleet.at_call(calls, when, act)
    return f"{when} call {calls}"


@happens(4)
def cut_power(world: World, rng: random.Random) -> str:
    fleet = world.fleet
    calls, when = rng.randrange(1, SOON), rng.choice([BEFORE, BEFORE, AFTER, AFTER, MIDWAY])

    def act(call: Call) -> None:
        del call
        fleet.power_lost = fleet.is_dead = True
        raise Crashed

    fleet.at_call(calls, when, act)
    return f"{when} call {calls}"


@happens(1)
def reboot(world: World, rng: random.Random) -> str:
    del rng
    world.fleet.count("reboots")
    world.fleet.power_lost = True
    raise Crashed


@happens(1)
def restart(world: World, rng: random.Random) -> str:
    """In order: what is at work is done first."""
    del world, rng
    raise Crashed


@happens(1)
def fill_disk(world: World, rng: random.Random) -> str:
    """No room for files, for a while."""
    host = world.fleet.host
    free, host.free_space = host.free_space, 0

    def free_again() -> None:
        host.free_space += free

    world.fleet.after(rng.choice([1, 20]), free_again)
    return "/srv"


@happens(1)
def hide_files(world: World, rng: random.Random) -> str:
    """What the files lie on is not mounted, for a while; and the host has just booted."""
    host, known = world.fleet.host, world.fleet.store.known_pools()
    if not all(pool in known and known[pool].created for pool in world.operator.own_pools()):
        return ""  # what is being made has no files yet that anybody could miss
    hidden = dict(host.files)
    host.files.clear()

    def mount() -> None:
        for path in host.files.keys() & hidden.keys():
            assert host.files[path].image is None, f"a pool was made anew in {path}, while the old one was away"
        host.files.update(hidden)

    world.fleet.after(rng.choice([2, 30]), mount)
    world.fleet.power_lost = True
    raise Crashed


@happens(1)
def replace_file(world: World, rng: random.Random) -> str:
    """Another file is where the data file was, for a while, allocated and all zeros; and the host has just booted."""
    host, pool = world.fleet.host, rng.choice(world.operator.own_pools())
    if pool in world.fleet.seen_states.replaced:
        return ""
    known = world.fleet.store.known_pool(pool)
    metadata = host.files.get(known.metadata) if known is not None else None
    if known is None or known.noted is None or known.noted.start is None or metadata is None or metadata.image is None:
        return ""
    if not metadata.image.used_blocks():
        return ""  # any file will do for a pool that holds nothing
    was = host.files.pop(known.data, None)
    if was is None:
        return ""
    other = host.files[known.data] = Disk(was.size, was.size)

    world.fleet.seen_states.replaced.add(pool)

    def put_back() -> None:
        world.fleet.seen_states.replaced.discard(pool)
        assert not other.head, f"a pool was brought up on {known.data}, while another file was there"
        assert all(loop.disk is not other for loop in host.loops.values())
        host.files[known.data] = was

    world.fleet.after(rng.choice([2, 30]), put_back)
    world.fleet.power_lost = True
    raise Crashed


@happens(1)
def set_clock(world: World, rng: random.Random) -> str:
    """The host's time of day jumps."""
    jump = rng.choice([-86400.0, -30.0, 30.0, 86400.0])
    world.fleet.clock.offset += jump
    return f"{jump:+.0f} s"
