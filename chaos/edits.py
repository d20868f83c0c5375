"""What operators do to manifests, on purpose and by mistake. What they ask for in the end is always possible."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Final

from chaos.environment import Environment
from chaos.faults import Fault
from chaos.host import Failed, run
from chaos.place import ALPHA, BASE, BETA, GAMMA, GOLD, LOOSE, OWN
from chaos.records import Name, Records, Spec, state_of

MOST: Final = 5
"""Records of a pool that were added and are not Absent."""
GROWABLE_MIB: Final = 64
NEWCOMERS: Final = ("plain", "fs", "snap", "golden", "taken")
"""What the names begin with of records that were added."""


def newcomers(records: Records, pool: str, *states: str) -> list[Name]:
    return [name for name in records.devices(pool, *states) if name.device.rstrip("0123456789") in NEWCOMERS]


def _pick(names: list[Name], rng: Random) -> Name:
    if not names:
        raise Failed("there is none to choose")
    return rng.choice(names)


def _pool_with_room(environment: Environment, rng: Random) -> str:
    pool = rng.choice((ALPHA, BETA))
    alive = newcomers(environment.records, pool, "Active", "Inactive", "Committed")
    if len(alive) >= MOST:
        raise Failed(f"{pool} has {len(alive)} more devices already")
    return pool


def _set(environment: Environment, name: Name, **fields: object) -> None:
    environment.records.specs[name].update(fields)
    environment.records.write()


def create(environment: Environment, rng: Random) -> str:
    pool = _pool_with_room(environment, rng)
    kind = rng.choice(("plain", "plain", "fs"))
    spec: Spec = {"size": f"{rng.choice((8, 12, 16))}MiB", "state": rng.choice(("Active", "Active", "Inactive"))}
    if kind == "fs":
        spec = {**spec, "size": "16MiB", "filesystem": {"type": "ext4"}}
    name = environment.records.new_name(pool, kind)
    _set_new(environment, name, spec)
    return f"{name} {state_of(spec)}"


def _set_new(environment: Environment, name: Name, spec: Spec) -> None:
    environment.records.specs[name] = spec
    environment.records.write()


def snapshot(environment: Environment, rng: Random) -> str:
    """Of what is in use, or of what is kept for that."""
    pool = _pool_with_room(environment, rng)
    origins = {ALPHA: (Name(ALPHA, "db"), Name(ALPHA, "raw"), BASE), BETA: (Name(BETA, "app"), Name(BETA, "blk"), GOLD)}
    origin = rng.choice(origins[pool])
    name = environment.records.new_name(pool, "snap")
    _set_new(environment, name, {"snapshotOf": origin.device, "state": rng.choice(("Active", "Active", "Committed"))})
    return f"{name} of {origin.device}"


def grow(environment: Environment, rng: Random) -> str:
    names = [*newcomers(environment.records, "", "Active", "Inactive"), Name(ALPHA, "db"), Name(BETA, "app")]
    name = _pick([name for name in names if "size" in environment.records.specs[name]], rng)
    size = int(str(environment.records.specs[name]["size"]).removesuffix("MiB")) + 4
    if size > GROWABLE_MIB:
        raise Failed(f"{name} is large enough")
    _set(environment, name, size=f"{size}MiB")
    return f"{name} to {size} MiB"


def commit(environment: Environment, rng: Random) -> str:
    name = _pick(newcomers(environment.records, "", "Active", "Inactive"), rng)
    _set(environment, name, state="Committed")
    return str(name)


def rest(environment: Environment, rng: Random) -> str:
    """Active to Inactive, or back."""
    name = _pick(newcomers(environment.records, "", "Active", "Inactive"), rng)
    state = "Inactive" if state_of(environment.records.specs[name]) == "Active" else "Active"
    _set(environment, name, state=state)
    return f"{name} {state}"


def delete(environment: Environment, rng: Random) -> str:
    name = _pick(newcomers(environment.records, "", "Active", "Inactive", "Committed"), rng)
    environment.records.asked.add(name)
    _set(environment, name, state="Absent", discardOnDelete=rng.random() < 0.3)
    return str(name)


def delete_and_make_again(environment: Environment, rng: Random) -> str:
    """Somebody changes their mind: what was to be deleted is made anew, if it was deleted."""
    name = _pick(newcomers(environment.records, "", "Absent"), rng)
    if "snapshotOf" in environment.records.specs[name]:
        raise Failed(f"{name} is a snapshot, and may be of what has changed since")
    _set(environment, name, state="Active")
    return str(name)


def read_only(environment: Environment, rng: Random) -> str:
    names = [name for name in newcomers(environment.records, "", "Active") if name.device.startswith("plain")]
    name = _pick(names, rng)
    flag = not environment.records.specs[name].get("readOnly", False)
    _set(environment, name, readOnly=flag)
    return f"{name} {flag}"


def pool_fields(environment: Environment, rng: Random) -> str:
    pool = rng.choice(OWN)
    field, values = rng.choice(
        (
            ("lowWaterMark", ("5%", "10%", "15%")),
            ("whenFull", ("queue", "error")),
            ("discards", ("passdown", "nopassdown")),
            ("zeroNewBlocks", (True, False)),
        )
    )
    value = rng.choice(values)
    _set(environment, Name(pool), **{field: value})
    return f"{pool}, {field}: {value}"


def pause(environment: Environment, rng: Random) -> str:
    """Hands off a pool or a device, for a while."""
    names = [*(Name(pool) for pool in OWN), *environment.records.devices("", "Active")]
    name, seconds = rng.choice(names), rng.uniform(1, 6)
    _set(environment, name, paused=True)
    environment.later(seconds, f"{name} is not paused any more", partial(_set, environment, name, paused=False))
    return f"{name} for {seconds:.1f} s"


def spoil(environment: Environment, rng: Random) -> str:
    """A file that is no YAML, is half written, says nonsense, or has an unknown field."""
    name, seconds = rng.choice(sorted(environment.records.specs)), rng.uniform(0.5, 5)
    text = (
        (environment.records.folder / name.file).read_text(encoding="utf-8")
        if name not in environment.records.vanished
        else ""
    )
    wrong = rng.choice((text[: len(text) // 2], text + "\n\t{{{", text.replace("spec:", "spek:"), "\0" + text))
    environment.records.spoiled[name.file] = wrong + "\n# spoiled"
    environment.records.write()
    environment.later(seconds, f"{name.file} is mended", partial(_mend, environment, name))
    return f"{name.file} for {seconds:.1f} s"


def _mend(environment: Environment, name: Name) -> None:
    environment.records.spoiled.pop(name.file, None)
    environment.records.write()


def vanish(environment: Environment, rng: Random) -> str:
    """A record, for longer or shorter than it takes to prune. In beta only one whose data may go."""
    names = [*environment.records.devices(ALPHA), *LOOSE, *environment.records.devices(GAMMA)]
    return _vanish(environment, rng, [rng.choice(names)], rng.uniform(1, 9))


def vanish_all(environment: Environment, rng: Random) -> str:
    """Of a pool, or of all: nothing may follow."""
    pool = rng.choice((*OWN, ""))
    names = environment.records.devices(pool) if pool else sorted(environment.records.specs)
    return f"{pool or 'all'}, {_vanish(environment, rng, names, rng.uniform(1, 9))}"


def _vanish(environment: Environment, rng: Random, names: list[Name], seconds: float) -> str:
    del rng
    if environment.is_pending("the records are back"):
        raise Failed("some are away already")
    environment.records.vanished |= set(names)
    if len(names) == 1 and names[0].pool == BETA:
        environment.records.asked.add(names[0])
    environment.records.write()
    environment.later(seconds, "the records are back", partial(_bring_back, environment))
    return f"{', '.join(map(str, names[:3]))} for {seconds:.1f} s"


def _bring_back(environment: Environment) -> None:
    environment.records.vanished.clear()
    environment.records.write()


def writable_by_all(environment: Environment, rng: Random) -> str:
    """A file that others may write is not trusted."""
    name, seconds = rng.choice(sorted(environment.records.specs)), rng.uniform(0.5, 4)
    file = environment.records.folder / name.file
    run("chmod", "o+w", file)
    environment.later(seconds, f"only root may write {name.file}", partial(_protect, environment, name))
    return f"{name.file} for {seconds:.1f} s"


def _protect(environment: Environment, name: Name) -> None:
    file = environment.records.folder / name.file
    if file.exists():
        file.chmod(0o644)


FAULTS: Final = (
    Fault("edit: a new device", 3, create),
    Fault("edit: a snapshot", 3, snapshot),
    Fault("edit: larger", 2, grow),
    Fault("edit: Committed", 1, commit),
    Fault("edit: Inactive, or Active again", 2, rest),
    Fault("edit: Absent", 2, delete),
    Fault("edit: Absent, and Active again", 1, delete_and_make_again),
    Fault("edit: read-only", 1, read_only),
    Fault("edit: fields of a pool", 2, pool_fields),
    Fault("edit: paused for a while", 1, pause),
    Fault("edit: a broken file", 2, spoil),
    Fault("edit: a record vanishes", 2, vanish),
    Fault("edit: all records vanish", 1, vanish_all),
    Fault("edit: a file that all may write", 1, writable_by_all),
)
