"""What would be done: one look, and the plans that follow from it. Changes nothing, holds no lock."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from reconciler.controller.clock import Clock
from reconciler.controller.desired import Desired
from reconciler.controller.gather import Gatherer, Settings
from reconciler.controller.viewer import Viewer
from reconciler.kernel.commands import commands_of
from reconciler.kernel.port import PoolPort
from reconciler.model.live import DeviceInfo, LiveDevice, LivePool
from reconciler.model.names import Key
from reconciler.model.status import PoolMode, PoolStatus
from reconciler.model.steps import ActivatePool, HostStep, Step
from reconciler.model.table import Devno, Table
from reconciler.planner.cases import Access, PoolAccess
from reconciler.planner.device import plan_device
from reconciler.planner.plan import Plan
from reconciler.planner.pool import plan_pool
from reconciler.store.store import Store

_NOT_YET = Devno(0, 0)
"""Stands for the number of a pool that would be activated first."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One record's plan."""

    key: Key
    plan: Plan
    after_pool: bool = False
    """It follows only once the pool is active, which it is not yet."""

    @property
    def is_change(self) -> bool:
        """Something would be done on the host."""
        return any(isinstance(step, HostStep) for step in self.plan.steps)

    def commands(self) -> list[str]:
        """The equivalent command lines, in order."""
        return [_named(line, self.key) for step in self.plan.steps for line in commands_of(step)]


def _named(line: str, key: Key) -> str:
    """A pool that is not active yet has no number: its node says the same, and dmsetup takes it."""
    return line.replace(f"thin {_NOT_YET} ", f"thin /dev/mapper/{key.pool} ")


def preview_pool(  # the wiring of one look, all by name
    name: str, *, port: PoolPort, store: Store, desired: Desired, clock: Clock, rng: random.Random
) -> Iterator[Preview]:
    """The plans for a pool and its devices, in the order in which they would be carried out."""
    settings = Settings(grace=0.0, observe_only=True)  # shown is what would be done if what is seen now lasted
    gatherer = Gatherer(name, store, clock, rng, settings)
    viewer = Viewer(port, gatherer, clock, settings)
    trouble = viewer.look(desired, [], whole=True)
    viewer.read_ids(desired)
    case = gatherer.pool_case(desired, viewer.world, trouble)
    plan = plan_pool(case)
    yield Preview(Key(name), plan)
    activation = _activation(plan.steps)
    if activation is not None:
        viewer.world.pool = _as_if_active(viewer.world.pool, name)
        case = replace(case, live=viewer.world.pool, stuck="")
    for key in desired.in_order(gatherer.scope(desired).keys):
        device = gatherer.device_case(key, desired, viewer.world, case)
        if activation is not None:
            device = replace(device, access=PoolAccess(Access.FULL))
        found = plan_device(device)
        if viewer.wants_holders(device, found) and viewer.look_at_holders(device):
            found = plan_device(gatherer.device_case(key, desired, viewer.world, case))
        yield Preview(key, found, after_pool=activation is not None)


def _activation(steps: tuple[Step, ...]) -> ActivatePool | None:
    return next((step for step in steps if isinstance(step, ActivatePool)), None)


def _as_if_active(pool: LivePool, name: str) -> LivePool:
    """The pool as it would be after its own plan, so that the plans of its devices can be shown too."""
    info = DeviceInfo(
        name=name,
        uuid="",
        devno=_NOT_YET,
        open_count=0,
        event_nr=0,
        suspended=False,
        live_table=True,
        inactive_table=False,
        read_only=False,
        deferred_remove=False,
    )
    nothing: Table = ()
    transaction = pool.metadata.transaction_id or 0
    status = PoolStatus(transaction, 0, 1, 0, 1, held_root=False, mode=PoolMode.RW, needs_check=False)
    return replace(pool, device=LiveDevice(info, table=nothing), status=status)


def is_pending(preview: Preview) -> bool:
    """Whether `plan` counts this as not as desired."""
    return preview.is_change or not preview.plan.condition.good
