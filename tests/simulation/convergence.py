"""The end of a scenario: nobody meddles any more, the operator does what the messages say, and all must become good."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final
from unittest import mock

from reconciler.controller.execute import Executor
from reconciler.doctor.repairs import first_of, repairs_of
from reconciler.doctor.report import PoolInspector
from reconciler.doctor.take_over import Withheld
from reconciler.kernel.simulated.pool import CommitFault, Mode
from reconciler.model.conditions import Reason
from reconciler.model.errors import HostError
from reconciler.model.names import Key
from reconciler.model.recordset import PoolRecords
from reconciler.model.steps import ForgetRecord, Step
from tests.simulation.events import World
from tests.simulation.fleet import Fleet
from tests.simulation.oracle import check_all
from tests.simulation.settled import ALL_TURNS, check_grace, check_settled
from tests.simulation.users import rename_back

Guarded = Callable[[Callable[[], None]], None]
_SOON: Final = 40.0
_REPAIRS: Final = 12


def bring_convergence(world: World, guarded: Guarded, told: list[str]) -> None:
    fleet = world.fleet
    told.append("convergence")
    guarded(lambda: _stop_meddling(world))
    for _ in range(_REPAIRS):
        guarded(lambda: fleet.rest(_SOON))
        guarded(lambda: _release_held(world))
        _drop_what_cannot_be(world)
        if not _repair(world, told) and fleet.is_settled():
            break
    fleet.settle()
    fleet.run(ALL_TURNS)
    fleet.settle()
    check_all(world)
    check_settled(world)
    check_grace(world)
    check_all(world)


def _stop_meddling(world: World) -> None:
    fleet, host = world.fleet, world.fleet.host
    fleet.ring(everything=True)
    world.disks.put_into_record(world.operator)
    host.nodes.lost, host.nodes.running = 0, True
    for pool in host.devices.pools.values():
        pool.commit_fault = CommitFault.NONE
    _release_held(world)
    if host.io.writers:
        fleet.run(30)  # whatever holds the writer's device suspended is ended first
    for name in list(host.io.writers):
        try:
            host.io.end(name)
        except HostError:  # its device is dead: the program gives up
            host.io.give_up(name)
    fleet.ring(everything=True)
    world.device_holders.leave_all()
    rename_back(world)  # also what had to wait for a name


def _release_held(world: World) -> None:
    """What others hold of a pool's metadata. One that is down yet, as after a power cut, lets go once it is up."""
    fleet = world.fleet
    for name in sorted(fleet.seen_states.held):
        if name not in fleet.store.reserved:  # else somebody has released it, and it is ours by now
            with suppress(HostError):
                fleet.dm.message(name, "release_metadata_snap")


def _drop_what_cannot_be(world: World) -> None:
    """A snapshot of what was never made, or is gone by now, waits for it for ever: that is as it should be."""
    operator, store = world.operator, world.fleet.store
    gone = {key for key, spec in operator.devices.items() if spec["state"] == "Absent"}
    for key in sorted(operator.devices):  # origins come before their snapshots
        origin = operator.devices[key].get("snapshotOf")
        known = store.known_devices(key.pool)
        unmade = origin is not None and key.device not in known
        origin_key = Key(key.pool, origin or "")
        if unmade and (origin_key in gone or origin_key not in operator.devices):
            gone.add(key)
            del operator.devices[key]
    operator.apply()


# What the messages say


def _repair(world: World, told: list[str]) -> bool:
    """The next thing that only a person can do; false where there is none."""
    for key, status in sorted(world.fleet.recorder.statuses().items()):
        if status.reason is Reason.POOL_UNHEALTHY and not key.device:
            told.append(f"repair {key}: {status.message}")
            _repair_pool(world, key.pool)
            return True
    for key, status in sorted(world.fleet.recorder.statuses().items()):
        if status.reason is Reason.POOL_LOW and not key.device:
            told.append(f"grow {key}: {status.message}")
            return _grow(world, key.pool)
    statuses = sorted(world.fleet.recorder.statuses().items())
    wrong = [key for key, status in statuses if status.reason is Reason.INVALID_CHANGE and key.device]
    corrected = [key for key in wrong if world.operator.correct(key)]
    told.extend(f"correct {key}" for key in corrected)
    named = [
        key.pool for key, status in statuses if "foreignThins" in status.message and _name_strangers(world, key.pool)
    ]
    if named:
        told.append(f"name others' thins in {named}")
        return True
    held = [key for key, status in statuses if "--allow-mass-prune" in status.message]
    if held and _bring_back(world, held):
        told.append(f"bring back {', '.join(map(str, held))}")
        return True
    pools = {key.pool for key, status in statuses if status.reason is Reason.METADATA_MISMATCH}
    return any([bool(corrected), *(_ask_doctor(world, pool, told) for pool in sorted(pools))])


def _bring_back(world: World, keys: Iterable[Key]) -> bool:
    """Records that vanished with all others of their pool, as their messages say. Whether there were such."""
    withdrawn = {key: world.operator.withdrawn[key] for key in keys if key in world.operator.withdrawn}
    for key, spec in withdrawn.items():
        world.operator.bring_back(key, spec)
    world.operator.apply()
    return bool(withdrawn)


def _name_strangers(world: World, pool: str) -> bool:
    """As only the operator knows: these are others', and no data of a record is in them. Whether that is news."""
    spec = world.operator.pools[pool]
    theirs = sorted(number for of, number in world.fleet.seen_states.strangers if of == pool)
    if not theirs or spec.get("foreignThins") == theirs:
        return False
    spec["foreignThins"] = theirs
    world.operator.apply()
    return True


def _grow(world: World, pool: str) -> bool:
    """Data or metadata, whichever there is hardly any left of; where it cannot grow, what is in it goes."""
    fleet, operator = world.fleet, world.operator
    up = pool in fleet.host.devices.by_name
    if up and fleet.host.image(pool).metadata_used() * 4 > fleet.host.image(pool).metadata_blocks * 3:
        operator.grow_metadata(pool)
    elif not operator.grow_pool(pool):
        return _empty(world, pool)
    operator.apply()
    return True


def _empty(world: World, pool: str) -> bool:
    """It cannot grow: what is in it goes."""
    operator = world.operator
    there = [key for key in operator.of(pool) if operator.devices[key]["state"] != "Absent"]
    for key in there:
        operator.devices[key]["state"] = "Absent"
        operator.committed.discard(key)
    operator.apply()
    return bool(there)


def _repair_pool(world: World, pool: str) -> None:
    """Stop what uses it, `state: Inactive`, wait until it is gone, thin_check --clear-needs-check-flag, Active."""
    fleet, operator, host = world.fleet, world.operator, world.fleet.host
    if fleet.host.devices.by_name.get(pool) is None:
        _clear_needs_check(world, pool)
        return
    if not host.image(pool).needs_check and host.pool(pool).mode in {
        Mode.OUT_OF_DATA_SPACE,
        Mode.OUT_OF_METADATA_SPACE,
    }:
        _grow(world, pool)
        return
    for thin in host.pool(pool).thins:
        host.io.fail(thin.device)
        thin.device.openers.clear()
    before = {key: operator.devices[key]["state"] for key in operator.of(pool)}
    for key, state in before.items():
        operator.devices[key]["state"] = "Inactive" if state == "Active" else state
    operator.pools[pool]["state"] = "Inactive"
    operator.apply()
    end = fleet.clock.now() + 900
    while pool in host.devices.by_name and fleet.clock.now() < end:
        fleet.run(5)
    _clear_needs_check(world, pool)
    operator.pools[pool].pop("state")
    for key, state in before.items():
        operator.devices[key]["state"] = state
    operator.apply()


def _clear_needs_check(world: World, pool: str) -> None:
    path = world.operator.pools[pool]["metadata"]
    host = world.fleet.host
    devno = host.resolve(path.get("device", ""))
    disk = host.files[path["file"]] if "file" in path else host.disk_of(devno) if devno is not None else None
    if disk is not None and disk.image is not None and disk not in host.devices.pools:
        disk.image.needs_check = False


def _ask_doctor(world: World, pool: str, told: list[str]) -> bool:
    """`doctor --fix`, and whatever it offers is agreed to. It runs while the daemon does not."""
    fleet = world.fleet
    fleet.kill()
    fleet.start()
    client = fleet.client_of(pool)
    fleet.invariants.pass_began(pool)
    with mock.patch("reconciler.doctor.report.HostTools", return_value=fleet.outside.tools):
        inspector = PoolInspector(pool, client, fleet.store, alone=True)
        view = inspector.look(fleet.desired.of_pool(pool))
        if isinstance(first_of(view), Withheld):
            # The thins are others', as only the operator knows: records of what is not made yet go for as long.
            told.append(f"doctor: {pool} is held back, records are taken away meanwhile")
            view = inspector.look(_without_the_unmade(fleet, pool))
        offers = repairs_of(view)
    for repair in offers:
        told.append(f"doctor: {repair.what}")
        Executor(client, fleet.store, _Silent()).run(repair.key, repair.steps)
        for step in repair.steps:
            if isinstance(step, ForgetRecord):
                world.fleet.store.drop_statuses([step.key])
    fleet.kill()
    fleet.start()
    return bool(offers) or _take_over(world, pool)


def _without_the_unmade(fleet: Fleet, pool: str) -> PoolRecords:
    records, known = fleet.desired.of_pool(pool), fleet.store.known_devices(pool)
    return replace(records, devices={key: each for key, each in records.devices.items() if key.device in known})


def _take_over(world: World, pool: str) -> bool:
    """A stranger made a thin in a pool that had just come to be: only the operator can say that it is theirs."""
    known, spec = world.fleet.store.known_pool(pool), world.operator.pools[pool]
    if (known is not None and known.created) or spec.get("adopt"):
        return False
    spec["adopt"] = True
    world.operator.apply()
    return True


class _Silent:
    def begun(self, key: Key, step: Step) -> None: ...

    def ended(self, key: Key, step: Step, seconds: float, fault: HostError | None, note: str = "") -> None: ...
