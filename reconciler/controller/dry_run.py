"""Shows what would be done: one scan and the plans that follow from it. It changes nothing and takes no lock."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

from reconciler.controller.clock import Clock
from reconciler.controller.fact_gatherer import FactGatherer, Settings
from reconciler.controller.observer import PoolObserver
from reconciler.kernel.steps.table import commands_of
from reconciler.kernel.worker.client import WorkerClient
from reconciler.model.dm_tables import Devno, PoolMode, PoolStatus, Table
from reconciler.model.live import DeviceInfo, LiveDevice, LivePool, ThinEntry
from reconciler.model.names import Key
from reconciler.model.records import ThinPool
from reconciler.model.recordset import PoolRecords
from reconciler.model.steps import Activate, ActivatePool, BeginIntent, CompleteIntent, HostStep, Step
from reconciler.model.stored import StoredDevice
from reconciler.planner.device import plan_device
from reconciler.planner.facts import Access, DeviceFacts, PoolAccess
from reconciler.planner.plan import Plan
from reconciler.planner.pool import plan_pool
from reconciler.store.store import Store

_NOT_YET = Devno(0, 0)
"""Stands for the device number of a pool that would have to be activated first."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The plan for one record."""

    key: Key
    plan: Plan
    record: ThinPool | None = None
    """The pool's record; only of a pool."""

    @property
    def is_change(self) -> bool:
        """Whether the plan would do anything on the host."""
        return any(isinstance(step, HostStep) for step in self.plan.steps)

    def commands(self) -> list[str]:
        """The command lines that do the same as the steps, in their order."""
        return [_named(line, self.key) for step in self.plan.steps for line in commands_of(step)]


def _named(line: str, key: Key) -> str:
    """The command line with the pool's node instead of its number, which an inactive pool does not have."""
    return line.replace(f"thin {_NOT_YET} ", f"thin /dev/mapper/{key.pool} ")


def preview_pool(
    records: PoolRecords,
    loaded_at: float = -inf,
    *,
    client: WorkerClient,
    store: Store,
    clock: Clock,
    rng: random.Random,
) -> Iterator[Preview]:
    """Yields the plans for a pool and its devices in the order in which they would be carried out.

    `loaded_at` has the meaning of `Desired.loaded_at`.
    """
    name = records.name
    settings = Settings(grace=0.0, observe_only=True)  # shows what would be done if the signs that are seen now lasted
    gatherer = FactGatherer(name, store, clock, rng, settings)
    gatherer.use(records, loaded_at)
    observer = PoolObserver(client, gatherer)
    trouble = observer.look([], whole=True)
    observer.read_ids()
    facts = gatherer.pool_facts(observer.observed, trouble)
    plan = plan_pool(facts)
    yield Preview(Key(name), plan, record=facts.record)
    activation = _activation(plan.steps)
    if activation is not None:
        observer.observed.pool = _as_if_active(observer.observed.pool, name)
        facts = replace(facts, live=observer.observed.pool, stuck=None)
    ahead = Ahead()
    for key in records.in_order(gatherer.scope().keys):
        device = gatherer.device_facts(key, observer.observed, facts)
        if activation is not None:
            device = replace(device, access=PoolAccess(Access.FULL))
        device = ahead.seen_from(device)
        found = plan_device(device)
        if observer.wants_holders(device, found) and observer.look_at_holders(device):
            found = plan_device(ahead.seen_from(gatherer.device_facts(key, observer.observed, facts)))
        ahead.take(found)
        yield Preview(key, found)


class Ahead:
    """What the earlier plans would have changed by then: the devices that they make, and the thin ids that they use."""

    def __init__(self) -> None:
        self._made: dict[str, StoredDevice] = {}
        self._active: dict[str, Activate] = {}
        self._operations = 0

    def take(self, plan: Plan) -> None:
        for step in plan.steps:
            if isinstance(step, BeginIntent):
                self._operations += 1
            elif isinstance(step, CompleteIntent) and step.device is not None:
                self._made[step.key.device] = step.device
            elif isinstance(step, Activate):
                self._active[step.subject] = step

    def seen_from(self, facts: DeviceFacts) -> DeviceFacts:
        status = facts.pool.status
        if isinstance(status, PoolStatus) and self._operations:
            later = replace(status, transaction_id=status.transaction_id + self._operations)
            facts = replace(facts, pool=replace(facts.pool, status=later), new_id=facts.new_id + self._operations)
        origin = facts.origin
        if origin is None or origin.known is not None or origin.name not in self._made:
            return facts
        known = self._made[origin.name]
        made = {known.thin_id: ThinEntry(0, 0)}
        ids = None if facts.ids is None else {**facts.ids, **made}
        return replace(facts, origin=replace(origin, known=known, live=self._live(known)), ids=ids)

    def _live(self, known: StoredDevice) -> LiveDevice | None:
        step = self._active.get(known.dm_name)
        return None if step is None else LiveDevice(_info(known.dm_name), table=(step.table,))


def _activation(steps: tuple[Step, ...]) -> ActivatePool | None:
    return next((step for step in steps if isinstance(step, ActivatePool)), None)


def _as_if_active(pool: LivePool, name: str) -> LivePool:
    """The pool as its own plan would leave it, so that the plans of its devices can be shown too."""
    nothing: Table = ()
    transaction = pool.metadata.transaction_id or 0
    status = PoolStatus(transaction, 0, 1, 0, 1, held_root=False, mode=PoolMode.RW, needs_check=False)
    return replace(pool, device=LiveDevice(_info(name), table=nothing), status=status)


def _info(name: str) -> DeviceInfo:
    """The information of a device that would be active by then."""
    return DeviceInfo(
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


def is_pending(preview: Preview) -> bool:
    """Whether `plan` counts this record as not converged."""
    return preview.is_change or not preview.plan.condition.good
