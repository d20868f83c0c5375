"""The repairs of `doctor --fix`, one at a time under the locks of state directory and pool, with a scan after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.controller.desired import Desired
from reconciler.controller.execute import Executor
from reconciler.daemon.app import host_client
from reconciler.doctor.checks import Check, PoolView, Repair, Severity
from reconciler.doctor.repairs import repairs_of
from reconciler.doctor.report import DoctorOptions, PoolInspector, checks_of, desired_of, pools_of
from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.kernel.worker.client import WorkerClient
from reconciler.model.conditions import Event, EventType
from reconciler.model.errors import HostError
from reconciler.model.names import Key
from reconciler.model.steps import ForgetRecord, Step
from reconciler.sources.manifests.read import load
from reconciler.store.database import NAME
from reconciler.store.errors import StoreDamaged, StoreError
from reconciler.store.lock import StateLock
from reconciler.store.quarantine import name_for_aside, recall, set_aside
from reconciler.store.store import Store


class RepairSession:
    """Holds the lock of the state directory, and that of each pool from its first scan, until the session is closed."""

    def __init__(self, options: DoctorOptions, store: Store, desired: Desired) -> None:
        self._options = options
        self._store = store
        self._desired = desired
        self._remembered = recall(store.instead_of)
        self._open: dict[str, tuple[WorkerClient, PoolInspector]] = {}

    @property
    def pools(self) -> list[str]:
        return pools_of(self._desired, self._store)

    def offers(self, pool: str) -> list[Repair]:
        """The repairs that the pool's present state allows."""
        return repairs_of(self._look(pool))

    def wrong(self, pool: str) -> list[Check]:
        """What is still to be done about the pool, or cannot be found out."""
        checks = checks_of(self._look(pool), self._options.fix)
        return [check for check in checks if check.mark in {Severity.WRONG, Severity.UNKNOWN}]

    def carry_out(self, pool: str, repair: Repair) -> HostError | None:
        """Carries out the repair, and records it as an event."""
        ran = Executor(self._opened(pool)[0], self._store, _Silent()).run(repair.key, repair.steps)
        if ran.fault is not None:
            return ran.fault
        if any(isinstance(step, ForgetRecord) for step in repair.steps):
            self._store.drop_statuses([repair.key])
        said = f"by `doctor --fix`: {repair.what}, as {repair.why}"
        self._store.add_event(Event(repair.key, EventType.INFO, "Mended", said, time.time()))
        return None

    def close(self) -> None:
        for client, _ in self._open.values():
            client.close()

    def _look(self, pool: str) -> PoolView:
        return self._opened(pool)[1].look(self._desired.of_pool(pool))

    def _opened(self, pool: str) -> tuple[WorkerClient, PoolInspector]:
        if pool not in self._open:
            client = host_client(self._options.state_dir, lock=True)(pool)
            inspector = PoolInspector(pool, client, self._store, alone=True, remembered=self._remembered.get(pool))
            self._open[pool] = client, inspector
        return self._open[pool]


@contextmanager
def repair_session(options: DoctorOptions, agreed: Callable[[Repair], bool]) -> Iterator[RepairSession]:
    """Opens a session. Raises LockHeld while the daemon runs, StoreError, and HostError if there is no device-mapper.

    A damaged store is quarantined first and a new one takes its place, if `agreed` says so; else its error is raised.
    """
    LibDm().versions()
    with StateLock(options.state_dir):
        aside = _set_damaged_aside(options, agreed)
        with Store.open(options.state_dir, wall_clock=time.time, instead_of=aside) as store:
            desired, _ = desired_of(options, store)
            at_work = RepairSession(options, store, desired)
            try:
                yield at_work
            finally:
                at_work.close()


def _set_damaged_aside(options: DoctorOptions, agreed: Callable[[Repair], bool]) -> Path | None:
    """Quarantines a damaged store, and returns the new path; None if the store is not damaged."""
    try:
        Store.examine(options.state_dir)
    except StoreDamaged as damage:
        target = name_for_aside(options.state_dir, time.time())
        if options.manifests is None:
            raise StoreError(f"{damage.what}, and is rebuilt by the manifests: add --manifests DIR") from damage
        problems = load(options.manifests).problems
        if problems:
            raise StoreError(
                f"{damage.what}, and is rebuilt by the manifests, which are invalid ({problems[0]}): put them right, "
                f"`dm-reconciler validate {options.manifests}` tells, then run this again"
            ) from damage
        if not agreed(_aside(options.state_dir, target, damage)):
            raise
        set_aside(options.state_dir, target)
        return target
    return None


def _aside(state_dir: Path, target: Path, damage: StoreDamaged) -> Repair:
    return Repair(
        key=Key(NAME),
        what=f"set the damaged store aside, as {target}",
        why=damage.what,
        effect=(
            "the file and its log are kept there as they are; nothing in any pool is changed",
            f"{state_dir / NAME} is made anew, empty; what the pools, and the damaged one, can prove is put into it next",
            "events, and which thin ids were made and forgotten, are not in it any more",
        ),
        steps=(),
    )


class _Silent:
    """Shows no progress: what is done was shown before it was agreed to."""

    def begun(self, key: Key, step: Step) -> None:
        del key, step

    def ended(self, key: Key, step: Step, seconds: float, fault: HostError | None, note: str = "") -> None:
        del key, step, seconds, fault, note
