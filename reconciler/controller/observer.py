"""Scans one pool through its worker, and keeps what was seen."""

from __future__ import annotations

from collections.abc import Container, Iterable

from reconciler.controller.fact_gatherer import FactGatherer, ObservedPool, Scope
from reconciler.kernel.locks import PoolLocked
from reconciler.kernel.steps.dm_operations import held_by_another, may_be_reserved
from reconciler.kernel.worker.client import WorkerClient
from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolStatus
from reconciler.model.errors import HostError
from reconciler.model.live import DeviceInfo, PoolScan, ScanRequest, ScanScope, ThinEntry
from reconciler.model.names import Key
from reconciler.model.steps import CreateSnapshot, CreateThin, DeleteThin, SaveDevice, Step
from reconciler.planner.facts import DeviceFacts
from reconciler.planner.plan import Plan

_IDS_EVERY = 15.0
"""Seconds between two readings of the thin ids while the pool's metadata changes."""
_IDS_SHARE = 50
"""A reading of the thin ids may take at most one part in this many of the time."""
_HOLDERS_EVERY = 5.0
_LOCKED_FOR = 2.0
"""Seconds until a pool that another worker has locked is tried again."""


class PoolObserver:
    def __init__(self, client: WorkerClient, gatherer: FactGatherer, *, observe_only: bool = False) -> None:
        """With `observe_only`, nothing is done that writes, not even reading the thin ids, for
        which the kernel writes.
        """
        self.observed = ObservedPool()
        self.trouble: str | None = None
        """Why the pool cannot be scanned; None if it can."""
        self.ids_trouble: str | None = None
        """Why the thin ids could not be read at the last attempt."""
        self._client = client
        self.gatherer = gatherer
        self._clock = gatherer.clock
        self._observe_only = observe_only or gatherer.settings.observe_only
        self._scope: Scope | None = None
        self._watched: ScanScope | None = None
        """The scan scope that the worker was given and has accepted."""
        self._changed: set[Key] = set()
        self._pool_changed = False
        self._held_until = 0.0
        self._thorough = False
        self._ids_cost = 0.0
        self._ids_taken_at = 0.0
        self._is_reserved = False
        """Whether the metadata snapshot of the last scan may still be held."""
        self._ids_mark: tuple[int, int] | None = None
        self._holders_at: dict[str, tuple[float, DeviceInfo | None]] = {}

    def key_of(self, dm_name: str) -> Key | None:
        return self._scope.by_name.get(dm_name) if self._scope is not None else None

    def look(self, due: Iterable[Key], *, whole: bool) -> str | None:
        """Scans the whole pool, or only the devices of these keys. Returns why that failed, or None."""
        if self._clock.now() < self._held_until:
            return self.trouble
        whole |= self._thorough
        names = None if whole else frozenset(self._names_of(due))
        if not self._ask(ScanRequest(names=names, thorough=self._thorough)):
            return self.trouble
        self._thorough = False
        self._note_released()
        if whole and self._ids_are_due():
            self.read_ids()
        return self.trouble

    def start_over(self) -> None:
        """Makes the next scan thorough, because steps may have been taken that no scan has followed."""
        self.observed.ids = None
        self._thorough = True

    def look_after(self, key: Key) -> None:
        """Scans what the steps for `key` were about: a device, or the whole pool."""
        self._ask(ScanRequest(names=frozenset(self._names_of([key])) if key.device else None, thorough=True))

    def look_at_pool(self) -> None:
        """Scans the pool closely, and none of its devices."""
        self._ask(ScanRequest(names=frozenset(), thorough=True))

    def rewatch(self) -> None:
        """Updates the scan scope after steps on the store, which may have changed what is to be scanned."""
        if self._scope is None or self.gatherer.scope().watched != self._scope.watched:
            self._ask(ScanRequest())

    def take_changed(self) -> set[Key]:
        """Returns the devices that changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def take_pool_changed(self) -> bool:
        """Returns whether the pool itself changed since the last call."""
        changed, self._pool_changed = self._pool_changed, False
        return changed

    def take_new_ids(self) -> Container[int] | None:
        """Returns the pool's thin ids if they were read since the last call."""
        if self.observed.ids_at == self._ids_taken_at:
            return None
        self._ids_taken_at = self.observed.ids_at
        return self.observed.ids

    def read_ids(self) -> bool:
        """Reads the pool's thin ids anew. False if that is not possible."""
        if self._observe_only or self._is_somebody_elses():
            return self._assume_ids()
        begun = self._clock.now()
        self.observed.ids = None  # the ids that were read before may be the very reason to read them again
        if not self._ask_ids():
            return False
        self._ids_cost = self._clock.now() - begun
        self._ids_mark = self._mark()
        return self.observed.ids is not None

    def _ask_ids(self) -> bool:
        """Reads the ids. A note of the reserved metadata snapshot is flushed first, by which it is
        ours after a crash.
        """
        store, pool = self.gatherer.store, self.gatherer.name
        if store.read_only:  # with a read-only store nothing can be noted, so a held snapshot is only reported
            return self._ask(ScanRequest(ids=True))
        if store.trouble is not None:
            self.ids_trouble = "that they are read cannot be noted, as the store cannot be written to"
            return False
        ours, status = pool in store.reserved, self.observed.pool.status
        if isinstance(status, PoolStatus) and status.held_root and not ours:
            self.ids_trouble = str(held_by_another(pool))
            return False
        store.reserved.note(pool, reserved=True)
        answered = self._ask(ScanRequest(ids=True, ours=ours))
        unread = not answered or self.observed.ids is None  # without an answer, a snapshot of ours may still be held
        store.reserved.note(pool, reserved=unread and (ours or self._is_reserved))
        return answered

    def _note_released(self) -> None:
        """Notes that the snapshot was released: whoever reserves one from now on is another program."""
        store, pool, status = self.gatherer.store, self.gatherer.name, self.observed.pool.status
        if pool not in store.reserved or store.read_only or store.trouble is not None:
            return
        if self._observe_only:  # the first worker may be in a call that hangs, about to reserve a snapshot
            return
        if isinstance(status, PoolStatus) and not status.held_root:
            store.reserved.note(pool, reserved=False)

    def know_id(self, thin_id: int) -> None:
        """Adds a thin id of somebody else that a create ran into."""
        if self.observed.ids is not None:
            self.observed.ids.setdefault(thin_id, ThinEntry(0, 0))

    def follow(self, done: Iterable[Step]) -> None:
        """Updates the known thin ids by the steps that were done, so that they need not be read again."""
        ids = self.observed.ids
        if ids is None:
            return
        for step in done:
            if isinstance(step, CreateThin | CreateSnapshot):
                ids.setdefault(step.thin_id, ThinEntry(0, 0))
            elif isinstance(step, DeleteThin):
                ids.pop(step.thin_id, None)
            elif isinstance(step, SaveDevice):  # an adopted device, which was seen live
                ids.setdefault(step.device.thin_id, ThinEntry(0, 0))

    def wants_holders(self, facts: DeviceFacts, plan: Plan) -> bool:
        """Whether somebody has the device open who should be named in its status, and was not looked up lately."""
        if plan.reason is not Reason.BUSY or facts.live is None or not facts.live.info.open_count:
            return False
        at, seen = self._holders_at.get(facts.live.info.name, (-_HOLDERS_EVERY, None))
        return self._clock.now() - at >= _HOLDERS_EVERY or seen != facts.live.info

    def look_at_holders(self, facts: DeviceFacts) -> bool:
        assert facts.live is not None  # noqa: S101  # somebody has it open
        name = facts.live.info.name
        self._holders_at[name] = self._clock.now(), facts.live.info
        return self._ask(ScanRequest(names=frozenset({name}), holders=True), same_scope=True)

    def _ask(self, request: ScanRequest, *, same_scope: bool = False) -> bool:
        try:
            if not same_scope:
                self._watch()
            look = self._client.look(request)
        except PoolLocked as held:
            self._is_reserved = False
            self._held_until = self._clock.now() + _LOCKED_FOR
            self.trouble = f"{held}: waiting for it to end"
        except HostError as fault:
            self._is_reserved = may_be_reserved(fault)
            self.trouble = str(fault)
        else:
            self._absorb(look)
        return not self.trouble

    def _absorb(self, look: PoolScan) -> None:
        before = self.observed.pool
        changed = self.observed.absorb(look, self._clock.now())
        by_name = self._scope.by_name if self._scope is not None else {}
        self._changed |= {by_name[name] for name in changed if name in by_name}
        # A foreign device that shows the thin of a device concerns that device, though the device itself did not
        # change.
        shown = [ids for name, ids in self.observed.take_shown().items() if name not in by_name]
        if shown:
            self._changed |= self.gatherer.keys_of(frozenset().union(*shown))
        self._pool_changed |= self.observed.pool != before
        self.ids_trouble, self._is_reserved = look.ids_trouble, look.reserved
        self.trouble = None

    def _watch(self) -> None:
        scope = self.gatherer.scope()
        if scope is self._scope:
            return
        if self._watched != scope.watched:
            self._watched = None  # until the worker answers, the scope that it uses is unknown
            self._client.watch(scope.watched)
            self._watched = scope.watched
        self._scope = scope

    def _names_of(self, keys: Iterable[Key]) -> list[str]:
        names = self._scope.names if self._scope is not None else {}
        return [name for key in keys for name in names.get(key, ())]

    def _ids_are_due(self) -> bool:
        """Whether to read the thin ids: at first, and then when the pool's metadata has changed, but not too often."""
        mark = self._mark()
        if mark is None or self._observe_only:
            return False
        if self.observed.ids is None:
            return True
        pause = max(_IDS_EVERY, self._ids_cost * _IDS_SHARE)
        return mark != self._ids_mark and self._clock.now() - self.observed.ids_at >= pause

    def _mark(self) -> tuple[int, int] | None:
        status = self.observed.pool.status
        if not isinstance(status, PoolStatus) or self._scope is None or self._scope.watched.metadata is None:
            return None
        return status.transaction_id, status.metadata_used

    def _is_somebody_elses(self) -> bool:
        """Whether the pool is external; the devices below it are then unknown too."""
        return self._scope is not None and self._scope.watched.metadata is None

    def _assume_ids(self) -> bool:
        """Takes the ids that the store names, where reading them is ruled out as it writes. False if there are ids already."""
        if self.observed.ids is not None:
            return False
        self.observed.ids = {number: ThinEntry(0, 0) for number in self.gatherer.named_ids()}
        self.observed.ids_are_told = False
        return True
