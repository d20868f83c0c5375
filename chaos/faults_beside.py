"""What others do beside: open and mount devices, write to them, send messages to the pools, stop udev, run containers."""

from __future__ import annotations

import os
from functools import partial
from random import Random
from typing import Final

from chaos import udevd
from chaos.environment import Environment
from chaos.faults import Fault
from chaos.host import Failed, dmsetup, is_there, node, run
from chaos.place import FILES, KEPT, OWN
from chaos.records import Name
from chaos.runtime import ADOPTED
from chaos.runtime import POOL as THEIRS


def hold_open(environment: Environment, rng: Random) -> str:
    name = rng.choice(environment.records.devices("", "Active"))
    seconds = rng.uniform(0.5, 6)
    opened = os.open(node(name.dm), os.O_RDONLY | os.O_NONBLOCK)
    environment.later(seconds, f"{name} is closed", partial(os.close, opened))
    return f"{name} for {seconds:.1f} s"


def use(environment: Environment, rng: Random) -> str:
    """Somebody wants to write to it from now on, and all who wanted to before and could not try again."""
    environment.using.add(rng.choice(environment.writers.all()))
    for name in sorted(environment.using):
        environment.writers.start(name)
    return ", ".join(map(str, sorted(environment.using)))


def leave(environment: Environment, rng: Random) -> str:
    name = rng.choice(environment.writers.all())
    environment.using.discard(name)
    environment.writers.stop(name)
    return str(name)


def freeze_filesystem(environment: Environment, rng: Random) -> str:
    name, seconds = rng.choice(FILES), rng.uniform(0.5, 4)
    thawed = f"the filesystem on {name} is thawed"
    if not environment.writers.is_mounted(name) or environment.is_pending(thawed):
        raise Failed(f"{name} is not mounted, or frozen already")
    run("fsfreeze", "--freeze", environment.writers.point(name))
    environment.later(seconds, thawed, partial(_thaw, environment, name))
    return f"{name} for {seconds:.1f} s"


def _thaw(environment: Environment, name: Name) -> None:
    run("fsfreeze", "--unfreeze", environment.writers.point(name))


def stranger(environment: Environment, rng: Random) -> str:
    """A thin that nobody's record names: far off, or one of the ids that come next."""
    pool = rng.choice(OWN)
    number = rng.choice((rng.randrange(1000, 2000), rng.randrange(0, 24)))
    dmsetup("message", pool, "0", f"create_thin {number}")
    environment.stranger_ids.setdefault(pool, set()).add(number)
    return f"thin id {number} in {pool}"


def reserve(environment: Environment, rng: Random) -> str:
    """Somebody holds the metadata snapshot, of which there is one a pool, as `thin_ls` and backups do."""
    pool, seconds = rng.choice(OWN), rng.uniform(0.3, 3)
    dmsetup("message", pool, "0", "reserve_metadata_snap")
    environment.later(seconds, f"{pool} has its metadata snapshot back", partial(_release, pool))
    return f"{pool} for {seconds:.1f} s"


def _release(pool: str) -> None:
    status = run("dmsetup", "status", "--noflush", pool).split()
    if len(status) > 6 and status[6] != "-":
        dmsetup("message", pool, "0", "release_metadata_snap")


def stop_udev(environment: Environment, rng: Random) -> str:
    seconds = rng.uniform(0.5, 5)
    udevd.stop()
    environment.later(seconds, "udev goes on", udevd.go_on)
    return f"for {seconds:.1f} s"


def image(environment: Environment, rng: Random) -> str:
    del rng
    environment.runtime.make_layer()
    return f"thin {environment.runtime.next}"


def container(environment: Environment, rng: Random) -> str:
    device = rng.choice(sorted(ADOPTED))
    environment.runtime.snapshot(f"{THEIRS}-{device}")
    return f"thin {environment.runtime.next} of {device}"


def delete_layer(environment: Environment, rng: Random) -> str:
    environment.runtime.delete(rng.randrange(100))
    return ""


def squat(environment: Environment, rng: Random) -> str:
    """A foreign device stands where a new record's device is going to be, for a while."""
    pool, seconds = rng.choice(("alpha", "beta")), rng.uniform(2, 7)
    name = environment.records.new_name(pool, "taken")
    line = f"0 8192 linear {environment.foreign.loop} 0"
    environment.records.specs[name] = {"size": "4MiB"}
    environment.later(seconds, f"nobody stands in the way of {name}", partial(_leave_name, name))
    dmsetup("create", name.dm, "--readonly", "--table", line)
    environment.records.write()
    return f"{name} for {seconds:.1f} s"


def _leave_name(name: Name) -> None:
    """Only what was put there: by now it may be what should be there."""
    if is_there(name.dm) and " linear " in run("dmsetup", "table", name.dm):
        dmsetup("remove", "--retry", name.dm)


def half_made(environment: Environment, rng: Random) -> str:
    """A device under a record's name, with no table and nobody's UUID: somebody died between create and load."""
    name = rng.choice([name for name in environment.records.devices("", "Active") if name not in KEPT])
    dmsetup("remove", name.dm)
    dmsetup("create", name.dm, "--notable")
    environment.later(rng.uniform(1, 4), f"the shell of {name} is taken away", partial(_take_shell, name))
    return str(name)


def _take_shell(name: Name) -> None:
    shown = run("dmsetup", "info", "-c", "--noheadings", "--separator", "/", "-o", "uuid,tables_loaded", name.dm)
    if shown == "/None":
        dmsetup("remove", name.dm)


FAULTS: Final = (
    Fault("a device held open", 3, hold_open),
    Fault("mounted and written to", 5, use),
    Fault("left alone and unmounted", 1, leave),
    Fault("fsfreeze", 1, freeze_filesystem),
    Fault("thin id of a stranger", 1, stranger),
    Fault("metadata snapshot held", 1, reserve),
    Fault("udev's queue stopped", 2, stop_udev),
    Fault("an image of the container runtime", 1, image),
    Fault("a snapshot of the container runtime", 2, container),
    Fault("a layer of it deleted", 1, delete_layer),
    Fault("a record's name taken", 1, squat),
    Fault("a half-made device", 1, half_made),
)
