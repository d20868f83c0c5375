"""One pass over one pool, in phases: observe the pool, converge it, converge those devices that may need it, note what
the pool lies on, and record what was found and done.

The keys that are due decide the scope of the scan: a device's key scans that device, the pool's own key all of it.
Devices that did not change since they converged are not planned again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from reconciler.controller.convergence import Convergence, DeviceTarget, PoolTarget
from reconciler.controller.execute import Executor
from reconciler.controller.fact_gatherer import FactGatherer
from reconciler.controller.failed_attempts import FailedAttempts
from reconciler.controller.observer import PoolObserver
from reconciler.controller.queue import WorkQueue
from reconciler.controller.recorder import Recorder
from reconciler.controller.rescue import Rescuer
from reconciler.kernel.worker.client import WorkerClient
from reconciler.model.names import Key
from reconciler.model.recordset import PoolRecords
from reconciler.planner.facts import Access, PoolAccess
from reconciler.planner.ownership import access_to
from reconciler.planner.pool_state import plan_note


class PoolReconciler:
    """Reconciles one pool. Not thread-safe: the keys of a pool are worked on one after the other."""

    def __init__(
        self,
        gatherer: FactGatherer,
        client: WorkerClient,
        recorder: Recorder,
        queue: WorkQueue,
        only: frozenset[Key] | None = None,
        latest: Callable[[], PoolRecords] | None = None,
    ) -> None:
        """`only` are the keys that may be touched, None for all. `latest` returns the records in force."""
        self._key = Key(gatherer.name)
        self._gatherer = gatherer
        self._recorder = recorder
        self._queue = queue
        self._observer = PoolObserver(client, gatherer)
        self._attempts = FailedAttempts(queue, gatherer.clock)
        self._pool = PoolTarget(gatherer, self._observer, recorder)
        executor = Executor(client, gatherer.store, recorder)
        self._convergence = Convergence(self._pool, executor, self._attempts, only)
        self._access: PoolAccess | None = None
        """What its pool allowed when the devices were last planned. None: all devices are to be planned anew."""
        self._unsettled: set[Key] = set()
        client.tell_of_waits(Rescuer(gatherer.another(), recorder, latest or (lambda: gatherer.records), only))

    def key_of(self, dm_name: str) -> Key | None:
        """The key of the device with this dm name, if it belongs to this pool. Thread-safe."""
        return self._observer.key_of(dm_name)

    def start_over(self) -> None:
        """Makes the next pass plan every device, because a pass was broken off."""
        self._access = None
        self._observer.start_over()

    def reconcile(self, keys: Iterable[Key], records: PoolRecords, loaded_at: float = -inf) -> None:
        """Works on these keys, and on whatever the scan shows to have changed. It does not raise for errors of the
        host.

        Raises StoreUnusable, after which the caller must call `start_over`.
        """
        due = set(keys)
        is_new = records is not self._gatherer.records
        self._gatherer.use(records, loaded_at)
        if is_new:
            self._take_over()
        whole = is_new or self._key in due
        trouble = self._observer.look(due, whole=whole)
        self._pool.refresh()
        if self._observer.take_pool_changed() or whole or trouble:
            self._converge(self._pool)
        for key in records.in_order(self._todo(due, access_to(self._pool.facts), whole=whole)):
            self._converge(DeviceTarget(key, self._pool))
            self._settle(key)
        self._note_pool()
        self._recorder.flush()

    def _converge(self, target: PoolTarget | DeviceTarget) -> None:
        outcome = self._convergence.converge(target)
        if outcome is not None:
            self._queue.finish(target.key, outcome)

    def _take_over(self) -> None:
        """Takes over new records: everything is planned anew, and devices without a record are noted with the time."""
        store, records = self._gatherer.store, self._gatherer.records
        for device in store.known_devices(self._key.pool).values():
            recorded = device.key in records.devices
            if recorded or device.gone_since is None:
                store.set_gone(device.key, None if recorded else self._gatherer.clock.wall())
        present = self._gatherer.scope().keys | {self._key}
        self._recorder.forget({k for k in self._recorder.known_keys() if k.pool == self._key.pool} - present)
        self._unsettled &= present
        self._access = None
        self._attempts.forget()

    def _todo(self, due: set[Key], access: PoolAccess, *, whole: bool) -> set[Key]:
        """The devices that have to be planned."""
        present = self._gatherer.scope().keys
        before, self._access = self._access, access
        if access != before:
            return set(present)
        todo = due | self._observer.take_changed() | self._lost()
        if whole and access.access is not Access.NONE:
            todo |= {key for key in self._unsettled if not self._queue.is_backing_off(key)}
        return todo & present

    def _lost(self) -> set[Key]:
        """Devices whose thin is not in the pool. If such a device is not live, nothing else shows it."""
        ids = self._observer.take_new_ids()
        if ids is None:
            return set()
        known = self._gatherer.store.known_devices(self._key.pool).values()
        return {device.key for device in known if device.thin_id not in ids}

    def _settle(self, key: Key) -> None:
        """Notes whether the device converged: if so, it is not planned again until something changes."""
        if self._recorder.is_converged(key):
            self._unsettled.discard(key)
        else:
            self._unsettled.add(key)

    def _note_pool(self) -> None:
        """Notes what the pool lies on again once its thins have changed: at the next boot it is recognised by that."""
        store = self._gatherer.store
        known = store.known_pool(self._key.pool)
        if known is None or known.noted is None or known.noted.transaction_id == known.transaction_id:
            return
        if store.intents(self._key.pool) or self._access is None or self._convergence.why_not(self._key):
            return
        self._observer.look_at_pool()
        self._pool.refresh()
        noted = plan_note(self._pool.facts) if access_to(self._pool.facts).access is Access.FULL else None
        if noted is not None:
            self._convergence.act(self._key, noted)
