"""What others do beside: open and mount devices, write to them, send messages to the pools, stop udev, run containers."""

from __future__ import annotations

import os
from functools import partial
from random import Random
from typing import Final

from chaos import udevd
from chaos.faults import Fault
from chaos.host import Failed, dmsetup, is_there, node, run
from chaos.place import FILES, KEPT, OWN
from chaos.records import Name
from chaos.runtime import ADOPTED
from chaos.runtime import POOL as THEIRS
from chaos.stage import Stage


def hold_open(stage: Stage, rng: Random) -> str:
    name = rng.choice(stage.records.devices("", "Active"))
    seconds = rng.uniform(0.5, 6)
    opened = os.open(node(name.dm), os.O_RDONLY | os.O_NONBLOCK)
    stage.later(seconds, f"{name} is closed", partial(os.close, opened))
    return f"{name} for {seconds:.1f} s"


def use(stage: Stage, rng: Random) -> str:
    """Somebody wants to write to it from now on, and all who wanted to before and could not try again."""
    stage.using.add(rng.choice(stage.writers.all()))
    for name in sorted(stage.using):
        stage.writers.start(name)
    return ", ".join(map(str, sorted(stage.using)))


def leave(stage: Stage, rng: Random) -> str:
    name = rng.choice(stage.writers.all())
    stage.using.discard(name)
    stage.writers.stop(name)
    return str(name)


def freeze_filesystem(stage: Stage, rng: Random) -> str:
    name, seconds = rng.choice(FILES), rng.uniform(0.5, 4)
    thawed = f"the filesystem on {name} is thawed"
    if not stage.writers.is_mounted(name) or stage.is_pending(thawed):
        raise Failed(f"{name} is not mounted, or frozen already")
    run("fsfreeze", "--freeze", stage.writers.point(name))
    stage.later(seconds, thawed, partial(_thaw, stage, name))
    return f"{name} for {seconds:.1f} s"


def _thaw(stage: Stage, name: Name) -> None:
    run("fsfreeze", "--unfreeze", stage.writers.point(name))


def stranger(stage: Stage, rng: Random) -> str:
    """A thin that nobody's record names: far off, or one of the ids that come next."""
    pool = rng.choice(OWN)
    number = rng.choice((rng.randrange(1000, 2000), rng.randrange(0, 24)))
    dmsetup("message", pool, "0", f"create_thin {number}")
    stage.stranger_ids.setdefault(pool, set()).add(number)
    return f"thin id {number} in {pool}"


def reserve(stage: Stage, rng: Random) -> str:
    """Somebody holds the metadata snapshot, of which there is one a pool, as `thin_ls` and backups do."""
    pool, seconds = rng.choice(OWN), rng.uniform(0.3, 3)
    dmsetup("message", pool, "0", "reserve_metadata_snap")
    stage.later(seconds, f"{pool} has its metadata snapshot back", partial(_release, pool))
    return f"{pool} for {seconds:.1f} s"


def _release(pool: str) -> None:
    status = run("dmsetup", "status", "--noflush", pool).split()
    if len(status) > 6 and status[6] != "-":
        dmsetup("message", pool, "0", "release_metadata_snap")


def stop_udev(stage: Stage, rng: Random) -> str:
    seconds = rng.uniform(0.5, 5)
    udevd.stop()
    stage.later(seconds, "udev goes on", udevd.go_on)
    return f"for {seconds:.1f} s"


def image(stage: Stage, rng: Random) -> str:
    del rng
    stage.runtime.make_layer()
    return f"thin {stage.runtime.next}"


def container(stage: Stage, rng: Random) -> str:
    device = rng.choice(sorted(ADOPTED))
    stage.runtime.snapshot(f"{THEIRS}-{device}")
    return f"thin {stage.runtime.next} of {device}"


def delete_layer(stage: Stage, rng: Random) -> str:
    stage.runtime.delete(rng.randrange(100))
    return ""


def squat(stage: Stage, rng: Random) -> str:
    """A foreign device stands where a new record's device is going to be, for a while."""
    pool, seconds = rng.choice(("alpha", "beta")), rng.uniform(2, 7)
    name = stage.records.new_name(pool, "taken")
    line = f"0 8192 linear {stage.foreign.loop} 0"
    stage.records.specs[name] = {"size": "4MiB"}
    stage.later(seconds, f"nobody stands in the way of {name}", partial(_leave_name, name))
    dmsetup("create", name.dm, "--readonly", "--table", line)
    stage.records.write()
    return f"{name} for {seconds:.1f} s"


def _leave_name(name: Name) -> None:
    """Only what was put there: by now it may be what should be there."""
    if is_there(name.dm) and " linear " in run("dmsetup", "table", name.dm):
        dmsetup("remove", "--retry", name.dm)


def half_made(stage: Stage, rng: Random) -> str:
    """A device under a record's name, with no table and nobody's UUID: somebody died between create and load."""
    name = rng.choice([name for name in stage.records.devices("", "Active") if name not in KEPT])
    dmsetup("remove", name.dm)
    dmsetup("create", name.dm, "--notable")
    stage.later(rng.uniform(1, 4), f"the shell of {name} is taken away", partial(_take_shell, name))
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
