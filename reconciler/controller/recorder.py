"""Records what was found and done: conditions become statuses, drift, events, metrics and log lines."""

from __future__ import annotations

import errno
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, Protocol

from reconciler.controller.clock import Clock
from reconciler.controller.drift import DriftTracker, LogThrottle, OpenDrift, times
from reconciler.model.conditions import (
    DRIFT,
    Condition,
    DeviceStatus,
    Event,
    EventType,
    PoolStatusReport,
    Reason,
    Status,
)
from reconciler.model.dm_tables import PoolFailure, PoolMode, PoolStatus, PoolTable, ThinStatus, read_table
from reconciler.model.errors import HostError, PreconditionError
from reconciler.model.live import LivePool, ThinEntry, ThinIds
from reconciler.model.names import Key
from reconciler.model.steps import LONG, HostStep, Step
from reconciler.model.units import SECTOR, Bytes, Sectors, in_bytes
from reconciler.planner.facts import DeviceFacts, PoolFacts
from reconciler.planner.pool_shape import METADATA_BLOCK, METADATA_MOST
from reconciler.store.errors import StoreUnusable
from reconciler.store.store import Store
from reconciler.telemetry.logs import log_context
from reconciler.telemetry.metrics import Metrics


def device_status(facts: DeviceFacts, condition: Condition, wall: float) -> DeviceStatus:
    live, known = facts.live, facts.known
    size = live.length if live is not None and live.table else (known.size if known is not None else None)
    return DeviceStatus(
        key=facts.key,
        live=condition.live,
        reason=condition.reason,
        message=condition.message,
        since=wall,
        good=condition.good,
        dm_name=facts.dm_name,
        uuid=live.info.uuid if live is not None else (known.uuid if known is not None else ""),
        beneath=condition.beneath,
        device_id=known.thin_id if known is not None else None,
        size=None if size is None else in_bytes(size),
        mapped=_mapped(facts),
        origin=known.origin if known is not None else "",
        holders=live.holders if live is not None else (),
    )


def _mapped(facts: DeviceFacts) -> Bytes | None:
    """The bytes that the device has mapped, from the live device or else the last reading of the thin ids."""
    if facts.live is not None and isinstance(facts.live.status, ThinStatus):
        return in_bytes(Sectors(facts.live.status.mapped))
    if facts.known is None or facts.ids is None or facts.known.thin_id not in facts.ids:
        return None
    return Bytes(facts.ids[facts.known.thin_id].mapped_blocks * block_bytes(facts.pool))


def block_bytes(pool: LivePool) -> int:
    """The size of one of the pool's data blocks in bytes; 0 if it is unknown."""
    table = read_table(pool.device.table) if pool.device is not None else None
    return table.block * SECTOR if isinstance(table, PoolTable) else 0


def leaked_ids(ids: ThinIds, named: frozenset[int]) -> dict[int, ThinEntry]:
    """The thin ids in the pool that nothing here names."""
    return {number: entry for number, entry in ids.items() if number not in named}


def pool_status(facts: PoolFacts, condition: Condition, wall: float, named: frozenset[int] | None) -> PoolStatusReport:
    """The status of a pool. `named` are the ids of devices, intents and adoptions; None if ids are
    not the pool's own.
    """
    live, status = facts.live, facts.live.status
    numbers = status if isinstance(status, PoolStatus) else None
    block = block_bytes(live)
    leaked = None if facts.ids is None or named is None else leaked_ids(facts.ids, named)
    data_size = None if numbers is None else Bytes(numbers.data_total * block)
    metadata_size = None if numbers is None else Bytes(numbers.metadata_total * METADATA_BLOCK)
    extend = facts.record.spec.extend if facts.record is not None else None
    return PoolStatusReport(
        key=Key(facts.name),
        live=condition.live,
        reason=condition.reason,
        message=condition.message,
        since=wall,
        good=condition.good,
        dm_name=facts.name,
        uuid=live.device.info.uuid
        if live.device is not None
        else (facts.known.uuid if facts.known is not None else ""),
        beneath=condition.beneath,
        mode=_mode(status),
        data_used=None if numbers is None else Bytes(numbers.data_used * block),
        data_size=data_size,
        data_limit=_limit(data_size, extend.max if extend is not None else None),
        metadata_used=None if numbers is None else Bytes(numbers.metadata_used * METADATA_BLOCK),
        metadata_size=metadata_size,
        metadata_limit=_limit(metadata_size, METADATA_MOST if extend is not None else None),
        transaction_id=None if numbers is None else numbers.transaction_id,
        leaked_ids=None if leaked is None else tuple(sorted(leaked)),
        leaked=None if leaked is None else Bytes(sum(entry.mapped_blocks for entry in leaked.values()) * block),
    )


def _limit(size: Bytes | None, most: Bytes | None) -> Bytes | None:
    """The size to which a backing device may grow by itself: the record's limit, or the present size."""
    return size if size is None or most is None else max(size, most)


def _mode(status: PoolStatus | PoolFailure | None) -> PoolMode:
    return PoolMode.MISSING if status is None else status.mode


_LATE: Final = 1000
"""How many events are kept in memory while the store cannot be written to."""
_GRAVE: Final = frozenset({Reason.POOL_UNHEALTHY, Reason.METADATA_MISMATCH, Reason.KERNEL_ERROR, Reason.STUCK})
_WAITING: Final = frozenset({Reason.WAITING_FOR_POOL, Reason.WAITING_FOR_ORIGIN})

_log = logging.getLogger(__name__)


class Progress(Protocol):
    """A command that shows progress. It is called in the pools' threads, one call at a time."""

    def found(self, key: Key, condition: Condition) -> None: ...

    def healed(self, key: Key, reason: Reason, seconds: float) -> None: ...

    def warned(self, key: Key, text: str) -> None: ...

    def step(self, key: Key, step: Step) -> None: ...

    def failed(self, key: Key, step: Step, fault: HostError) -> None: ...


class Recorder:
    """Records the results of all pools; thread-safe. Readers never wait for a kernel call."""

    def __init__(self, store: Store, metrics: Metrics, clock: Clock, progress: Progress | None = None) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._progress = progress
        self._lock = threading.RLock()
        self._flushing = threading.Lock()
        """Held from taking the pending statuses until they are written, so that no older status is written last."""
        self._statuses: dict[Key, Status] = dict(store.statuses())
        self._pending: dict[Key, Status] = {}
        self._current: set[Key] = set()
        self._dropped: set[Key] = set()
        self._late: deque[Event] = deque(maxlen=_LATE)
        self._drifts = DriftTracker()
        self._repeats = LogThrottle()
        self._leaked = {key: _leaked_of(status) for key, status in self._statuses.items()}
        self._desired: dict[Key, str] = {}
        self.revision = 0
        """A number that changes whenever the result of `statuses` has changed."""
        self.shown: frozenset[Key] | None = None
        """The keys that `progress` is told of; None for all."""
        self.changed: Callable[[], None] = lambda: None
        """Called after a pass, and when records were forgotten."""

    def record(self, status: Status, condition: Condition, desired: str) -> None:
        """Records the condition that one scan found for one record."""
        with self._lock:
            before = self._statuses.get(status.key)
            known_before = status.key in self._current
            if before is not None and (before.live, before.reason) == (status.live, status.reason):
                status = replace(status, since=before.since)
            self._open_drift(status, condition)
            if isinstance(status, PoolStatusReport):
                self._leaks(status)
            self._current.add(status.key)
            if status == before and known_before and self._desired.get(status.key) == desired:
                return
            self._say(before if known_before else None, status)
            self._statuses[status.key] = status
            self.revision += 1
            self._desired[status.key] = desired
            self._metrics.status(status, desired)
            self._pending[status.key] = status

    def forget(self, keys: Iterable[Key]) -> None:
        """Removes the statuses of records that are gone and have nothing left on the host."""
        gone = set(keys)
        with self._lock:
            for key in gone:
                self._statuses.pop(key, None)
                self._pending.pop(key, None)
                self._current.discard(key)
                self._drifts.forget(key)
                self._repeats.over(key)
                self._leaked.pop(key, None)
                self._metrics.forget(key)
            self._dropped |= gone
            self.revision += 1
        self.flush()
        self.changed()

    def statuses(self) -> dict[Key, Status]:
        """The statuses of all keys that were scanned since the start; older ones may be from before a reboot."""
        with self._lock:
            return {key: status for key, status in self._statuses.items() if key in self._current}

    def known_keys(self) -> set[Key]:
        with self._lock:
            return set(self._statuses)

    def is_converged(self, key: Key) -> bool:
        with self._lock:
            status = self._statuses.get(key)
            return status is not None and status.ready

    def flush(self) -> None:
        """Writes to the store what was recorded since the last call, in one transaction for a whole pass.

        If the store cannot be written to, the data waits for the next call. There is little of it, because no steps are
        taken meanwhile.
        """
        with self._flushing:
            with self._lock:
                dropped, self._dropped = self._dropped, set()
                pending, self._pending = self._pending, {}
            try:
                self._store.drop_statuses(dropped - pending.keys())
                self._store.put_statuses(pending.values())
                while self._late:
                    self._write_late()
            except StoreUnusable:
                with self._lock:
                    self._dropped |= dropped
                    self._pending = {**pending, **self._pending}

    def event(self, key: Key, kind: EventType, reason: str, message: str, seconds: float | None = None) -> None:
        event = Event(key, kind, reason, message, time=self._clock.wall(), seconds=seconds)
        if self._late:
            self._late.append(event)  # keeps the event behind earlier ones
            return
        try:
            self._store.add_event(event)
        except StoreUnusable:
            self._late.append(event)

    def _write_late(self) -> None:
        with self._lock:
            event = self._late.popleft() if self._late else None
        if event is None:
            return  # another pool's thread has written it already
        try:
            self._store.add_event(event)
        except StoreUnusable:
            with self._lock:
                self._late.appendleft(event)
            raise

    # What the executor reports of its steps.

    def warn(self, key: Key, reason: Reason, text: str) -> None:
        _log.warning("%s", text, extra=log_context(key, reason=reason))
        if self._progress is not None:
            self._progress.warned(key, text)

    def relieved(self, key: Key, reason: Reason, seconds: float) -> None:
        """Records that the cause of a hanging worker was found and mended after `seconds`, which no
        scan of it shows.
        """
        with self._lock:
            self._metrics.drift(key.kind, reason)
            self._metrics.healed(key.kind, reason, "success", seconds, key)
        _log.info("healed by a second worker", extra=log_context(key, reason=reason, seconds=seconds))
        self.event(key, EventType.HEALED, reason, f"{key} is no longer {reason}: resumed by a second worker", seconds)

    def begun(self, key: Key, step: Step) -> None:
        if isinstance(step, HostStep) and step.deadline >= LONG:
            self.flush()  # makes visible what takes so long
        if self._progress is not None:
            self._progress.step(key, step)

    def ended(self, key: Key, step: Step, seconds: float, fault: HostError | None, note: str = "") -> None:
        if not isinstance(step, HostStep):
            return
        what = f"{step.action} {step.subject}" + (f" ({note})" if note else "")
        with self._lock:
            self._metrics.action(step.action, "success" if fault is None else "error", seconds)
            open_drift = self._drifts.worked(key, what) if fault is None else self._drifts.told(key)
        reason = "" if open_drift is None else open_drift.reason
        if fault is None:
            self._worked(key, step, seconds, reason, what)
            return
        self._failed(key, step, seconds, fault, reason or fault.code)
        if open_drift is not None:
            with self._lock:
                self._metrics.healed(key.kind, open_drift.reason, "error", seconds, key)

    def had_no_effect(self, key: Key, action: str, fault: HostError) -> None:
        """Records that a step reported success, and that the scan after it finds the same drift."""
        with self._lock:
            count = self._repeats.again(key, (action, fault.subject, "no effect"))
            open_drift = self._drifts.told(key)
            if open_drift is not None:
                self._metrics.healed(key.kind, open_drift.reason, "error", self._clock.now() - open_drift.since, key)
        if count:
            reason = action if open_drift is None else open_drift.reason
            _log.error("%s%s", fault, times(count), extra=log_context(key, reason=reason, action=action))
        self.event(key, EventType.FAILED, action, str(fault))

    def _worked(self, key: Key, step: HostStep, seconds: float, reason: str, what: str) -> None:
        with self._lock:
            # Successes are throttled too: if a later step of the plan keeps failing, this one is repeated with it.
            count = self._repeats.again(key, (step.action, step.subject))
        if count:
            extra = log_context(key, reason=reason, action=step.action, seconds=seconds)
            _log.info("%s%s", what, times(count), extra=extra)

    def _failed(self, key: Key, step: HostStep, seconds: float, fault: HostError, reason: str) -> None:
        with self._lock:
            count = self._repeats.again(key, (step.action, step.subject, fault.code))
        if count:
            # A device in use by somebody else is no fault of the host.
            level = (
                logging.WARNING if fault.errno == errno.EBUSY or isinstance(fault, PreconditionError) else logging.ERROR
            )
            extra = log_context(key, reason=reason, action=step.action, seconds=seconds)
            _log.log(level, "%s%s", fault, times(count), extra=extra)
        self.event(key, EventType.FAILED, fault.code or step.action, str(fault))
        if self._progress is not None:
            self._progress.failed(key, step, fault)

    # What opens and closes drift.

    def _open_drift(self, status: Status, condition: Condition) -> None:
        drift = next((r for r in (condition.reason, condition.beneath) if r in DRIFT), None)
        for open_drift in self._drifts.over(status.key, drift, converged=condition.reason is Reason.CONVERGED):
            self._healed(status.key, open_drift)
        if drift is None:
            return
        is_new = self._drifts.found(status.key, drift, self._clock.now())
        # Within a grace the steps are not known yet, so they are reported after it.
        is_left = bool(condition.would) and self._drifts.left(status.key)
        if is_new:
            self._found(status.key, drift, condition)
        if is_new or is_left:
            # A device that is yet to be created is expected; all other drift is a fault or somebody's doing.
            level = logging.INFO if drift is Reason.NOT_CREATED else logging.WARNING
            _log.log(level, "%s", condition.message, extra=log_context(status.key, reason=drift))
            self.event(status.key, EventType.FOUND if is_new else EventType.BLOCKED, drift, condition.message)

    def _found(self, key: Key, drift: Reason, condition: Condition) -> None:
        self._metrics.drift(key.kind, drift)
        if self._progress is not None and self._is_shown(key):
            self._progress.found(key, condition)

    def _is_shown(self, key: Key) -> bool:
        return self.shown is None or key in self.shown

    def _leaks(self, status: PoolStatusReport) -> None:
        """Counts and reports leaked thin ids; only a person can say whose they are."""
        if status.leaked_ids is None:
            return
        known, self._leaked[status.key] = self._leaked.get(status.key, frozenset()), frozenset(status.leaked_ids)
        new = [number for number in status.leaked_ids if number not in known]
        if not new:
            return
        numbers = ", ".join(map(str, new[:20])) + (" ..." if len(new) > 20 else "")
        message = f"pool {status.key} holds thin ids that nothing names: {numbers}; see `dm-reconciler doctor`"
        self._metrics.drift(status.key.kind, Reason.LEAKED_THIN_ID)
        _log.warning("%s", message, extra=log_context(status.key, reason=Reason.LEAKED_THIN_ID))
        self.event(status.key, EventType.FOUND, Reason.LEAKED_THIN_ID, message)

    def _healed(self, key: Key, open_drift: OpenDrift) -> None:
        seconds = self._clock.now() - open_drift.since
        self._metrics.healed(key.kind, open_drift.reason, "success", seconds, key)
        if self._progress is not None and self._is_shown(key):
            self._progress.healed(key, open_drift.reason, seconds)
        _log.info("healed: %s", open_drift.how, extra=log_context(key, reason=open_drift.reason, seconds=seconds))
        message = f"{key} is no longer {open_drift.reason}: {open_drift.how}"
        self.event(key, EventType.HEALED, open_drift.reason, message, seconds)

    def _say(self, before: Status | None, status: Status) -> None:
        """Logs a condition without a remedy once, and again with its count if every attempt ends in it."""
        if status.ready:
            self._repeats.over(status.key)
        if status.good or status.reason in DRIFT or (before is not None and before.reason == status.reason):
            return
        count = self._repeats.again(status.key, status.reason)
        if count:
            level = logging.ERROR if status.reason in _GRAVE else logging.WARNING
            level = logging.INFO if status.reason in _WAITING else level
            _log.log(level, "%s%s", status.message, times(count), extra=log_context(status.key, reason=status.reason))
        self.event(status.key, EventType.BLOCKED, status.reason, status.message)


def _leaked_of(status: Status) -> frozenset[int]:
    return frozenset(status.leaked_ids or ()) if isinstance(status, PoolStatusReport) else frozenset()
