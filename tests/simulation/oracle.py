"""Whether a host is as its records say, and nobody has lost anything: looked at without the daemon's help."""

from __future__ import annotations

from typing import Any

from reconciler.kernel.simulated.pool import Mode, pool_of, thin_of
from reconciler.model.names import Key
from tests.simulation.events import World
from tests.simulation.host import is_torn
from tests.simulation.operator import MIB, RUNTIME


def check_all(world: World) -> None:
    _check_pools(world)
    for key, spec in world.operator.devices.items():
        if key.pool in world.operator.pools:
            _check_device(world, key, spec)
    _check_ids(world)
    _check_content(world)
    _check_others(world)
    _check_rest(world)


def _check_pools(world: World) -> None:
    fleet = world.fleet
    for pool in world.operator.own_pools():
        device, known = fleet.host.devices.by_name.get(pool), fleet.store.known_pool(pool)
        assert device is not None, f"pool {pool} is not there"
        assert device.live is not None, f"pool {pool} has no table"
        assert pool_of(device.live) is not None, f"pool {pool} is no pool"
        assert not device.suspended, f"pool {pool} is suspended"
        assert known is not None, f"pool {pool} is not known"
        image = fleet.host.image(pool)
        assert fleet.host.pool(pool).mode is Mode.WRITE, f"pool {pool} cannot be written to"
        assert image.transaction_id == known.transaction_id, f"pool {pool}: another transaction than the store's"
        assert image.held is None or pool in fleet.seen_states.held, f"pool {pool}: a metadata snapshot is still held"
        size = world.operator.pools[pool]["data"].get("size", 0)
        assert image.data_blocks * 128 * 512 >= size, f"pool {pool} is too small"


def _check_device(world: World, key: Key, spec: dict[str, Any]) -> None:
    fleet = world.fleet
    known = fleet.store.known_devices(key.pool).get(key.device)
    if spec["state"] == "Absent":
        assert known is None, f"{key} is to be absent, and is known"
        assert f"{key.pool}-{key.device}" not in fleet.host.devices.by_name, f"{key} is to be absent, and is live"
        return
    assert known is not None, f"{key} was not made"
    assert known.thin_id in fleet.host.image(key.pool).thins, f"{key}: its thin is not in the pool"
    if spec["state"] == "Active":
        _check_active(world, key, spec)
    else:
        assert known.dm_name not in fleet.host.devices.by_name, f"{key} is to be {spec['state']}, and is live"


def _check_active(world: World, key: Key, spec: dict[str, Any]) -> None:
    fleet = world.fleet
    known = fleet.store.known_devices(key.pool)[key.device]
    device = fleet.host.devices.by_name.get(known.dm_name)
    assert device is not None, f"{key} is not live"
    assert device.live is not None, f"{key} is a shell"
    thin = thin_of(device.live)
    assert thin is not None, f"{key} shows {device.live.targets[0].line}"
    assert (thin.pool.device.name, thin.thin_id) == (key.pool, known.thin_id), f"{key} shows another thin"
    assert device.live.length * 512 >= spec.get("size", MIB), f"{key} is too small"
    assert device.read_only == spec.get("readOnly", False), f"{key}: read-only is {device.read_only}"
    info = fleet.dm.info(known.dm_name)
    assert info is not None
    missing = fleet.outside.udev.missing(info)
    assert not missing, f"{key}: {missing} is missing"
    filesystem = spec.get("filesystem")
    if filesystem is not None and not device.read_only:
        said = fleet.host.thin(key.pool, known.thin_id).content.get(0, "")
        assert said == f"{filesystem['type']} {device.live.length}", f"{key}: its filesystem is {said!r}"


def _check_ids(world: World) -> None:
    fleet = world.fleet
    for pool in world.operator.own_pools():
        known = {device.thin_id for device in fleet.store.known_devices(pool).values()}
        strangers = {number for of, number in fleet.seen_states.strangers if of == pool}
        ids = set(fleet.host.image(pool).thins)
        assert known <= ids, f"{pool}: thin ids {sorted(known - ids)} are lost"
        assert strangers <= ids, f"{pool}: somebody else's thin ids {sorted(strangers - ids)} are gone"
        assert not known & strangers, f"{pool}: thin ids {sorted(known & strangers)} are somebody else's"
        leaked = ids - known - strangers
        assert not leaked, f"{pool}: thin ids {sorted(leaked)} have leaked"
        assert not fleet.store.intents(pool), f"{pool}: something is still under way"


def _check_content(world: World) -> None:
    fleet, seen_states = world.fleet, world.fleet.seen_states
    for (pool, number), wanted in seen_states.written.items():
        if pool not in fleet.host.devices.by_name:
            continue
        thins = fleet.host.image(pool).thins
        if number not in thins:
            continue  # it was deleted as somebody asked, and told so
        content = thins[number].content
        lost = {block for block, token in wanted.items() if content.get(block) != token}
        assert not lost, f"{pool}: what was written to thin {number} is lost (blocks {sorted(lost)})"
    for pool in world.operator.own_pools():
        for device in fleet.store.known_devices(pool).values():
            if device.origin and (pool, device.thin_id) in seen_states.sound:
                content = fleet.host.thin(pool, device.thin_id).content
                assert not is_torn(content), f"{device.key} is a snapshot of no moment"


def _check_others(world: World) -> None:
    world.disks.check()
    for name in list(world.fleet.seen_states.foreign):
        world.device_holders.check(name)
    if world.runtime is not None and RUNTIME in world.fleet.host.devices.by_name:
        image = world.fleet.host.image(RUNTIME)
        assert image.transaction_id == 0, "the transaction id of somebody else's pool was changed"
        assert set(world.runtime.thins) <= set(image.thins), "a thin of somebody else's is gone"


def _check_rest(world: World) -> None:
    foreign, orphans = world.fleet.seen_states.foreign, _orphans(world)
    for device in world.fleet.host.devices.by_name.values():
        if device.name in foreign:
            continue
        assert not device.suspended, f"{device.name} is left suspended"
        assert device.live is not None, f"{device.name} is left half made"
        # Of what no record names nothing is changed but that it hangs nobody.
        assert device.inactive is None or device.name in orphans, f"a table is left waiting in {device.name}"
        assert not device.deferred, f"{device.name} goes at its last close"
        assert not device.name.endswith(".private"), f"{device.name} is left behind"


def _orphans(world: World) -> set[str]:
    known = (world.fleet.store.known_devices(pool).values() for pool in world.operator.own_pools())
    return {device.dm_name for devices in known for device in devices if device.key not in world.operator.devices}
