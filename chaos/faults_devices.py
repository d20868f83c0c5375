"""What somebody does with dmsetup to devices and pools that are the reconciler's."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Final

from chaos.environment import Environment
from chaos.faults import Act, Fault
from chaos.host import Failed, attempt, dmsetup, is_there, node, run, swap, table
from chaos.place import KEPT, OWN
from chaos.records import Name, state_of


def _any(environment: Environment, rng: Random) -> Name:
    """A device that its record wants Active, also one that is in use."""
    return rng.choice(environment.records.devices("", "Active"))


def _idle(environment: Environment, rng: Random) -> Name:
    """One that nobody writes to."""
    return rng.choice([name for name in environment.records.devices("", "Active") if name not in KEPT])


def _on_any(*words: str) -> Act:
    """That command of dmsetup, on a device that should be there."""

    def act(environment: Environment, rng: Random) -> str:
        name = _any(environment, rng)
        dmsetup(*words, name.dm)
        return str(name)

    return act


def suspend(environment: Environment, rng: Random) -> str:
    name, how = _any(environment, rng), rng.choice(((), ("--noflush",), ("--nolockfs",)))
    dmsetup("suspend", *how, name.dm)
    return f"{name} {' '.join(how)}".rstrip()


def suspend_pool(environment: Environment, rng: Random) -> str:
    del environment
    pool = rng.choice(OWN)
    dmsetup("suspend", *rng.choice(((), ("--noflush",))), pool)
    return pool


def leave_table_waiting(environment: Environment, rng: Random) -> str:
    name = _any(environment, rng)
    dmsetup("load", name.dm, "--table", f"0 {_sectors(name.dm)} error")
    return str(name)


def load_error(environment: Environment, rng: Random) -> str:
    name = _any(environment, rng)
    swap(name.dm, f"0 {_sectors(name.dm)} error")
    return str(name)


def load_another_disk(environment: Environment, rng: Random) -> str:
    """A piece of somebody's disk in the place of the thin. Only where nobody writes: it must not change.

    And only where a UUID says whose the device is: an adopted one without any would be taken for somebody else's.
    """
    name = rng.choice(
        [name for name in environment.records.devices("", "Active") if name not in KEPT and name.pool in OWN]
    )
    dmsetup("load", name.dm, "--readonly", "--table", f"0 8192 linear {environment.foreign.loop} 0")
    dmsetup("resume", name.dm)
    return str(name)


def rename(environment: Environment, rng: Random) -> str:
    """And back: a device under another name is nobody's but its renamer's."""
    name = _idle(environment, rng)
    other = f"renamed-{name.dm}"
    back = f"{other} has its name again"
    if environment.is_pending(back):
        raise Failed(f"{name} has another name already")
    dmsetup("rename", name.dm, other)
    environment.later(rng.uniform(1, 5), back, partial(_rename_back, other, name.dm))
    return str(name)


def _rename_back(other: str, name: str) -> None:
    if is_there(other):
        dmsetup("rename", other, name)


def activate_by_hand(environment: Environment, rng: Random) -> str:
    """A device that its record wants Inactive or Committed."""
    name = rng.choice(environment.records.devices("", "Inactive", "Committed"))
    if name.pool not in OWN:
        raise Failed("somebody else's")
    known = environment.daemon.items("devices").get(str(name), {}).get("status") or {}
    if known.get("deviceId") is None:
        raise Failed(f"{name} is not made yet")
    line = f"0 {known['sizeBytes'] // 512} thin /dev/mapper/{name.pool} {known['deviceId']}"
    dmsetup("create", name.dm, *rng.choice(((), ("--readonly",))), "--table", line)
    if rng.random() < 0.3:
        dmsetup("suspend", name.dm)
    return f"{name} {state_of(environment.records.specs[name])}"


def remove_node(environment: Environment, rng: Random) -> str:
    name = _any(environment, rng)
    path = node(name.dm)
    if not path.is_symlink() and not path.exists():
        raise Failed(f"{path} is not there")
    path.unlink()
    return str(name)


def make_nodes(environment: Environment, rng: Random) -> str:
    del environment, rng
    run("dmsetup", "mknodes")
    return ""


def replace_pool_table(environment: Environment, rng: Random) -> str:
    """Other features, as somebody's script has them."""
    del environment
    pool = rng.choice(OWN)
    words = table(pool).split()
    if not words:
        raise Failed(f"{pool} has no table")
    dmsetup("load", pool, "--table", " ".join([*words[:6], "5", "1", "error_if_no_space"]))
    dmsetup("resume", pool)
    return pool


def remove_pool(environment: Environment, rng: Random) -> str:
    """With all that is not in use: as a reboot does, when nothing is mounted."""
    pool = rng.choice(OWN)
    for name in environment.records.devices(pool):
        attempt("dmsetup", "--noudevsync", "remove", name.dm)
    dmsetup("remove", pool)
    return pool


def _sectors(name: str) -> str:
    words = table(name).split()
    if not words:
        raise Failed(f"{name} has no table")
    return words[1]


FAULTS: Final = (
    Fault("dmsetup suspend", 4, suspend),
    Fault("dmsetup suspend of a pool", 1, suspend_pool),
    Fault("dmsetup remove", 4, _on_any("remove")),
    Fault("dmsetup remove --force", 2, _on_any("remove", "--force")),
    Fault("dmsetup remove --deferred", 2, _on_any("remove", "--deferred")),
    Fault("dmsetup load, left waiting", 2, leave_table_waiting),
    Fault("an error table in its place", 2, load_error),
    Fault("another disk in its place", 1, load_another_disk),
    Fault("dmsetup clear", 1, _on_any("clear")),
    Fault("dmsetup rename, and back", 1, rename),
    Fault("dmsetup create of what should rest", 2, activate_by_hand),
    Fault("node deleted", 2, remove_node),
    Fault("dmsetup mknodes", 1, make_nodes),
    Fault("another table of a pool", 1, replace_pool_table),
    Fault("a pool taken away", 1, remove_pool),
)
