"""Carries out a plan, one step after the other; each step is flushed or verified before the next one begins.

A failed step becomes a condition by its errno, never by the text of its message.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from reconciler.kernel.steps.dm_operations import may_be_reserved
from reconciler.kernel.steps.table import commands_of
from reconciler.kernel.worker.client import WorkerClient
from reconciler.model.conditions import DRIFT, Condition, Reason
from reconciler.model.errors import HostError, NothingDoneError, PreconditionError, WorkerTimeoutError
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.steps import (
    Activate,
    CheckMetadata,
    ConfirmEmpty,
    CreateSnapshot,
    HostStep,
    Load,
    Step,
    StoreStep,
)
from reconciler.store.store import Store

_ADVICE = "it is tried again, each time a little later; `dm-reconciler doctor` looks for causes"


def condition_of(found: Condition, step: Step, fault: HostError) -> Condition:
    """The condition while a step fails. The condition that the step was to mend stays visible beneath it."""
    beneath = found.reason if found.reason in DRIFT else found.beneath
    if isinstance(fault, WorkerTimeoutError):
        return Condition(Reason.STUCK, str(fault), LiveState.UNKNOWN, beneath=beneath)
    if isinstance(step, CreateSnapshot) and isinstance(fault, PreconditionError) and fault.errno != errno.EIO:
        return Condition(Reason.WAITING_FOR_ORIGIN, str(fault), found.live, beneath=beneath)
    if isinstance(fault, NothingDoneError):
        # The record names a filesystem that is not on the device, and only a person knows which of the two is right.
        advice = "put the type in its record right, or take `filesystem` out of it, and nothing is grown"
        return Condition(Reason.INVALID_CHANGE, f"{fault}; {advice}", found.live, beneath=beneath)
    if isinstance(step, CheckMetadata) and fault.errno == errno.EUCLEAN:
        return Condition(Reason.POOL_UNHEALTHY, str(fault), found.live, beneath=beneath)
    if isinstance(step, Activate | Load) and fault.errno == errno.ENODATA:
        message = f"{fault}: its thin is not in the pool, so its data is lost; nothing is made in its place"
        return Condition(Reason.METADATA_MISMATCH, message, found.live, beneath=beneath)
    if fault.errno in {errno.EBUSY, errno.EAGAIN}:
        return Condition(Reason.BUSY, f"{fault}; it is tried again", found.live, beneath=beneath)
    return Condition(Reason.KERNEL_ERROR, f"{fault}; {_ADVICE}", found.live, beneath=beneath)


_log = logging.getLogger(__name__)


class ActionWatcher(Protocol):
    """An observer that is told of each step: the metrics, and commands that show progress."""

    def begun(self, key: Key, step: Step) -> None: ...

    def ended(self, key: Key, step: Step, seconds: float, fault: HostError | None, note: str = "") -> None:
        """A step has ended after `seconds`. `note` says what the step found already in place."""


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of a plan's steps."""

    done: Sequence[Step]
    failed: Step | None = None
    fault: HostError | None = None


class Executor:
    """Runs the steps of one pool: host steps go to its worker, store steps to the store."""

    def __init__(self, client: WorkerClient, store: Store, watcher: ActionWatcher) -> None:
        self._client = client
        self._store = store
        self._watcher = watcher

    def run(self, key: Key, steps: Iterable[Step]) -> Ran:
        """Runs the steps in order until one fails. Steps after that are not begun."""
        done: list[Step] = []
        for step in steps:
            fault = self._run(key, step)
            if fault is not None:
                return Ran(done, step, fault)
            done.append(step)
        return Ran(done)

    def _run(self, key: Key, step: Step) -> HostError | None:
        self._watcher.begun(key, step)
        begun = time.monotonic()
        note, fault = self._confirm_empty(step) if isinstance(step, ConfirmEmpty) else self._carry_out(step)
        self._watcher.ended(key, step, time.monotonic() - begun, fault, note)
        if fault is None and isinstance(step, HostStep):
            _log.debug("%s: %s", step.action, "; ".join(commands_of(step)))
        return fault

    def _carry_out(self, step: Step) -> tuple[str, HostError | None]:
        if isinstance(step, StoreStep):
            # An unwritable store raises here, and stops the daemon before anything else is done.
            self._store.apply(step)
            return "", None
        try:
            return self._client.run(step).note, None
        except HostError as fault:
            return "", fault

    def _confirm_empty(self, step: ConfirmEmpty) -> tuple[str, HostError | None]:
        """Runs a step that reads the thin ids, and flushes before that a metadata snapshot is reserved for it."""
        reserved = self._store.reserved
        ours = step.subject in reserved
        reserved.note(step.subject, reserved=True)
        note, fault = self._carry_out(replace(step, ours=ours))
        if fault is None or not (ours or may_be_reserved(fault)):
            reserved.note(step.subject, reserved=False)
        return note, fault
