"""What a converged host shows: nothing is done to it, nothing is planned, and each new fault is healed in its time."""

from __future__ import annotations

import random
from typing import Final

from reconciler.controller.dry_run import preview_pool
from reconciler.kernel.worker.client import InlineWorkerClient
from reconciler.model.live import ScanScope
from tests.simulation.events import World
from tests.simulation.invariants import GRACE

ALL_TURNS: Final = 12.0
"""Seconds: each thing that announces nothing is looked at once in ten looks."""
_LATE: Final = GRACE + 2.5
"""Seconds: the grace, and two looks."""


def check_settled(world: World) -> None:
    fleet = world.fleet
    begun = fleet.effects
    fleet.run(ALL_TURNS)
    assert fleet.effects == begun, f"it is as desired, and something was done: {fleet.last_effect}"
    for pool in world.operator.pools:
        port = InlineWorkerClient(fleet.outside, ScanScope(pool, None, None, frozenset()), fleet.state_dir)
        previews = preview_pool(
            fleet.desired.of_pool(pool),
            fleet.desired.loaded_at,
            client=port,
            store=fleet.store,
            clock=fleet.clock,
            rng=random.Random(1),
        )
        for preview in previews:
            assert not preview.plan.steps, f"it is as desired, and something is planned: {preview}"


def check_grace(world: World) -> None:
    """A suspension is left alone within its grace (the invariants see to that), and ended soon after."""
    fleet = world.fleet
    own = [device for pool in world.operator.own_pools() for device in fleet.store.known_devices(pool).values()]
    names = [device.dm_name for device in own if device.dm_name in fleet.host.devices.by_name]
    if world.fleet.dice.random() < 0.3:
        names = world.operator.own_pools()
    for name in names:
        fleet.host.devices.by_name[name].leaving = 0  # an unmount ends within the convergence
        fleet.dm.suspend(name)
        fleet.seen_states.suspended(name)
    fleet.run(_LATE)
    late = [name for name in names if fleet.host.devices.by_name[name].suspended]
    assert not late, f"{late} are still suspended, {_LATE - GRACE:.1f} s after their grace"
    fleet.settle()
