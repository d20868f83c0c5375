"""What the operator does: edits of the manifests."""

from __future__ import annotations

import random

from reconciler.model.names import Key
from tests.simulation.events import World, happens
from tests.simulation.operator import MIB, NAMES, RUNTIME, TANK


@happens(14, midway=True)
def declare(world: World, rng: random.Random) -> str:
    key = Key(rng.choice(world.operator.own_pools()), rng.choice(NAMES))
    told = world.operator.change(key, rng)
    world.operator.apply()
    return told


@happens(3)
def declare_many(world: World, rng: random.Random) -> str:
    told = [world.operator.change(Key(pool, name), rng) for pool in world.operator.own_pools() for name in NAMES[:4]]
    world.operator.apply()
    return ", ".join(told)


@happens(2, midway=True)
def grow(world: World, rng: random.Random) -> str:
    key = world.operator.pick(rng)
    told = world.operator.grow(key) if key is not None else ""
    world.operator.apply()
    return told


@happens(2)
def grow_pool(world: World, rng: random.Random) -> str:
    told = world.operator.grow_pool(rng.choice(world.operator.own_pools()))
    world.operator.apply()
    return told


@happens(1)
def rest_pool(world: World, rng: random.Random) -> str:
    """The pool's record says Inactive for a while."""
    pool, operator = rng.choice(world.operator.own_pools()), world.operator

    def wake() -> None:
        operator.pools[pool].pop("state", None)
        operator.apply()

    if operator.pools[pool].get("state"):
        return ""
    operator.pools[pool]["state"] = "Inactive"
    operator.apply()
    world.fleet.after(rng.choice([0.5, 5, 40]), wake)
    return pool


@happens(1)
def delete_pool(world: World, rng: random.Random) -> str:
    """All of it is to go; later it is wanted again."""
    pool, operator = rng.choice(world.operator.own_pools()), world.operator
    if operator.pools[pool].get("state"):
        return ""
    operator.pools[pool]["state"] = "Absent"
    for key in operator.of(pool):
        operator.devices[key]["state"] = "Absent"
        operator.committed.discard(key)
    operator.apply()

    def again() -> None:
        operator.pools[pool].pop("state", None)
        operator.apply()

    world.fleet.after(rng.choice([0.5, 20, 90]), again)
    return pool


@happens(2)
def withdraw(world: World, rng: random.Random) -> str:
    """A record vanishes, and comes back or does not."""
    key, operator = world.operator.pick(rng), world.operator
    if key is None:
        return ""
    spec = operator.withdraw(key)
    operator.apply()
    if key.pool == TANK or rng.random() < 0.5:  # tank retains: nothing would ever become of it

        def bring_back() -> None:
            operator.bring_back(key, spec)
            operator.apply()

        world.fleet.after(rng.choice([0.5, 10, 59]), bring_back)
    return str(key)


@happens(1)
def lose_all_manifests(world: World, rng: random.Random) -> str:
    """An empty directory is no request to delete anything."""
    operator = world.operator
    lost = {key: operator.withdraw(key) for key in list(operator.devices) if key.pool in operator.own_pools()}
    operator.apply()

    def restore() -> None:
        for key, spec in lost.items():
            operator.bring_back(key, spec)
        operator.apply()

    world.fleet.after(rng.choice([1, 30, 200]), restore)
    return f"{len(lost)} records"


@happens(1)
def pause(world: World, rng: random.Random) -> str:
    key, operator = world.operator.pick(rng), world.operator
    spec = operator.devices.get(key) if key is not None else None
    if spec is None:
        return ""
    spec["paused"] = True
    operator.apply()

    def go_on() -> None:
        spec.pop("paused", None)
        operator.apply()

    world.fleet.after(rng.choice([1, 10]), go_on)
    return str(key)


@happens(1)
def read_only(world: World, rng: random.Random) -> str:
    key = world.operator.pick(rng)
    if key is None:
        return ""
    spec = world.operator.devices[key]
    spec["readOnly"] = not spec.get("readOnly", False)
    world.operator.apply()
    return f"{key} readOnly {spec['readOnly']}"


@happens(1)
def contradict(world: World, rng: random.Random) -> str:
    """What cannot be: a smaller size, another origin, a committed device that is to change. Later it is put right."""
    key, operator = world.operator.pick(rng), world.operator
    spec = operator.devices.get(key) if key is not None else None
    if key is None or spec is None or "adopt" in spec:
        return ""
    before = dict(spec)
    if key in operator.committed:
        spec["state"] = "Active"
    elif "size" in spec and spec["size"] > MIB:
        spec["size"] -= MIB
    else:
        return ""
    operator.apply()

    def put_right() -> None:
        if operator.devices.get(key) is spec:
            spec.update({name: before[name] for name in ("state", "size") if name in before})
        operator.apply()

    world.fleet.after(rng.choice([1, 15]), put_right)
    return f"{key} {spec}"


@happens(1)
def change_features(world: World, rng: random.Random) -> str:
    pool = rng.choice(world.operator.own_pools())
    change = rng.choice([{"lowWaterMark": "20%"}, {"whenFull": "error"}, {"discards": "nopassdown"}])
    world.operator.pools[pool].update(change)
    world.operator.apply()
    return f"{pool} {change}"


@happens(3)
def adopt(world: World, rng: random.Random) -> str:
    """A record takes over a thin of the runtime's."""
    runtime, operator = world.runtime, world.operator
    free = sorted(runtime.thins.keys() - runtime.adopted) if runtime is not None else []
    if runtime is None or not free or RUNTIME not in operator.pools:
        return ""
    number = rng.choice(free)
    name = runtime.thins[number]
    runtime.give(number)
    state = rng.choice(["Active", "Active", "Inactive"])
    adopted = {"deviceId": number, "dmName": name}
    operator.devices[Key(RUNTIME, f"snap-{number}")] = {"size": MIB, "state": state, "adopt": adopted}
    operator.apply()
    return f"{name} {state}"


@happens(1)
def extend(world: World, rng: random.Random) -> str:
    """The pool is to grow by itself from now on."""
    del rng
    world.operator.pools[TANK]["extend"] = {"threshold": "70%", "step": "50%", "max": "64MiB"}
    world.operator.apply()
    return TANK
