"""Brings one key to its desired state: plan, act and verify, round after round, until a plan has nothing more to do.

A pool and a device differ in how their facts are gathered and planned, in what is recorded, and in what a fault
teaches. Two targets, `PoolTarget` and `DeviceTarget`, hold those differences.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from math import inf
from typing import Final

from reconciler.controller.execute import Executor, Ran, condition_of
from reconciler.controller.fact_gatherer import FactGatherer
from reconciler.controller.failed_attempts import BURST, PACE, Circumstances, FailedAttempts, Pass, of_device, of_pool
from reconciler.controller.observer import PoolObserver
from reconciler.controller.queue import (
    BUSY_MOST,
    ERROR_MOST,
    Done,
    Outcome,
    RequeueAfter,
    RequeueWithBackoff,
    after,
    after_fault,
)
from reconciler.controller.recorder import Recorder, device_status, pool_status
from reconciler.model.conditions import Condition, EventType, Reason
from reconciler.model.errors import HostError, NothingDoneError, PreconditionError, VerificationError, answers_message
from reconciler.model.names import Key
from reconciler.model.recordset import PERMITTED
from reconciler.model.steps import AbortIntent, CreateSnapshot, CreateThin, HostStep, MarkThinIdTaken, SaveDevice, Step
from reconciler.model.stored import Intent
from reconciler.planner.device import plan_device
from reconciler.planner.facts import DeviceFacts
from reconciler.planner.plan import Plan, forbidden, suppressed
from reconciler.planner.pool import plan_pool

_ROUNDS: Final = 12
"""Plans that one key may have in one pass. Each must make progress, so only a bug or an adversary gets so far."""


class PoolTarget:
    """The pool as a target. Its facts are shared by the plans of its devices."""

    circumstances: Circumstances
    """The circumstances of the last plan."""

    def __init__(self, gatherer: FactGatherer, observer: PoolObserver, recorder: Recorder) -> None:
        self.key = Key(gatherer.name)
        self.gatherer = gatherer
        self.observer = observer
        self.recorder = recorder
        self.facts = gatherer.pool_facts(observer.observed)

    def refresh(self) -> None:
        """Gathers the pool's facts anew, after a scan or after a note in the store."""
        self.facts = self.gatherer.pool_facts(self.observer.observed, self.observer.trouble)

    def plan(self) -> Plan:
        """Plans the pool, and reads its thin ids first if the plan needs them."""
        plan = plan_pool(self.facts)
        if plan.needs_ids and self.observer.read_ids():
            self.refresh()
            plan = plan_pool(self.facts)
        if plan.needs_ids:
            plan = self.without_ids(plan)
        self.circumstances = of_pool(self.facts, plan)
        return plan

    def without_ids(self, plan: Plan) -> Plan:
        """The plan, blocked because the thin ids that it needs cannot be read, and why."""
        why = self.observer.ids_trouble or self.observer.trouble or "the pool is in no state to tell them"
        message = f"{plan.condition.message}; but the thin ids of pool {self.key} cannot be read: {why}"
        return plan.blocked(Reason.KERNEL_ERROR, message)

    def record(self, condition: Condition) -> None:
        facts = self.facts
        if facts.record is None and facts.known is None:
            self.recorder.forget([self.key])
            return
        named = self.gatherer.named_ids() if self.observer.observed.ids_are_told else None
        condition = with_place(condition, self.key, self.gatherer)
        status = pool_status(facts, condition, self.gatherer.clock.wall(), named)
        self.recorder.record(status, condition, "" if facts.record is None else facts.record.spec.state.value)

    def learn(self, step: Step, fault: HostError) -> bool:
        """Learns nothing, and returns False: a pool's steps are planned anew in the next pass."""
        del step, fault
        return False

    def is_half_done(self) -> bool:
        return False


class DeviceTarget:
    """One device of the pool as a target."""

    _facts: DeviceFacts
    """The facts of the last plan."""
    circumstances: Circumstances
    """The circumstances of the last plan."""

    def __init__(self, key: Key, pool: PoolTarget) -> None:
        self.key = key
        self._pool = pool
        self._observer = pool.observer
        self._recorder = pool.recorder
        self._store = pool.gatherer.store
        self._has_reread = False

    def plan(self) -> Plan:
        """Plans the device, once the pool's thin ids and the device's holders are known where the plan needs them."""
        for _ in range(_ROUNDS):
            self._facts = self._pool.gatherer.device_facts(self.key, self._observer.observed, self._pool.facts)
            plan = plan_device(self._facts)
            if plan.needs_ids:
                if self._observer.read_ids():
                    continue
                plan = self._pool.without_ids(plan)
            if not self._observer.wants_holders(self._facts, plan) or not self._observer.look_at_holders(self._facts):
                break
        self.circumstances = of_device(self._facts, plan)
        return plan

    def record(self, condition: Condition) -> None:
        facts = self._facts
        if facts.record is None and facts.known is None and facts.intent is None:
            self._recorder.forget([self.key])
            return
        condition = with_place(condition, self.key, self._pool.gatherer)
        status = device_status(facts, condition, self._pool.gatherer.clock.wall())
        self._recorder.record(status, condition, "" if facts.record is None else facts.record.spec.state.value)

    def learn(self, step: Step, fault: HostError) -> bool:
        """Takes in what a fault teaches, so that the next plan differs. True if it is worth planning again at once."""
        if answers_message(fault, errno.EEXIST) and isinstance(step, CreateThin | CreateSnapshot):
            self._note_taken(step)
            return True
        if isinstance(fault, NothingDoneError):
            return self._let_filesystem_be(fault)
        if isinstance(fault, PreconditionError) and isinstance(step, CreateSnapshot):
            # Somebody else suspended the origin: the intent must not let their freeze pass for the reconciler's own.
            self._abandon()
            return False
        if fault.errno == errno.ENODATA and not self._has_reread:
            self._has_reread = True
            return self._observer.read_ids()
        if self.is_half_done():  # with the ids, the next plan undoes at once what is left
            self._observer.read_ids()
        return False

    def is_half_done(self) -> bool:
        return self._intent() is not None

    def _let_filesystem_be(self, fault: NothingDoneError) -> bool:
        """Gives up on growing a filesystem that is not there, if the record asks for none. Returns whether it did."""
        record, known = self._facts.record, self._store.known_devices(self.key.pool).get(self.key.device)
        if known is None or record is None or record.spec.filesystem is not None:
            return False
        message = f"{fault}, and none is from now on: its record names no filesystem"
        self._recorder.event(self.key, EventType.INFO, Reason.WRONG_SIZE, message)
        self._store.apply(SaveDevice(self.key, replace(known, filesystem="")))
        return True

    def _note_taken(self, step: CreateThin | CreateSnapshot) -> None:
        if not self.is_half_done():
            return
        message = f"thin id {step.thin_id} of pool {self.key.pool} is somebody else's: taking the next one"
        self._recorder.warn(self.key, Reason.LEAKED_THIN_ID, message)
        self._store.apply(MarkThinIdTaken(self.key, step.thin_id))
        self._observer.know_id(step.thin_id)
        self._abandon()

    def _abandon(self) -> None:
        """Aborts the device's intent, of which nothing came true."""
        intent = self._intent()
        if intent is not None:
            self._store.apply(AbortIntent(self.key, intent.transaction_id))
            self._pool.refresh()

    def _intent(self) -> Intent | None:
        return next((intent for intent in self._store.intents(self.key.pool) if intent.key == self.key), None)


Target = PoolTarget | DeviceTarget


class Convergence:
    """Converges the keys of one pool, one at a time."""

    def __init__(
        self, pool: PoolTarget, executor: Executor, attempts: FailedAttempts, only: frozenset[Key] | None
    ) -> None:
        self._pool = pool
        self._executor = executor
        self._attempts = attempts
        self._only = only

    def converge(self, target: Target) -> Outcome | None:
        """Converges the target. Returns the outcome for its key; None if the queue already holds its next attempt."""
        fault: Condition | None = None
        failure: Outcome | None = None
        outcome: Outcome = Done()
        begun = Pass()
        for _ in range(_ROUNDS):
            plan = target.plan()
            why_not = self.why_not(target.key, plan)
            may_act = bool(plan.steps) and not why_not
            outcome = self._after(target.key, plan)
            if may_act and begun.is_again(target.circumstances):
                fault = fault or self._had_no_effect(target, plan)
                failure = failure or RequeueWithBackoff(BUSY_MOST)
                target.record(fault)
                break
            told, is_too_early = (fault, False) if fault is not None or not may_act else self._former(target, plan)
            # The steps of a converged plan only note news. Only the next plan shows whether there is more, so it
            # records instead.
            if told is not None or not (may_act and plan.reason is Reason.CONVERGED):
                target.record(told or suppressed(plan, why_not))
            if is_too_early:
                return None
            # After a fault, only half-done work goes on, so that it is undone; everything else is tried again later.
            if not may_act or (fault is not None and not target.is_half_done()):
                break
            ran = self.act(target.key, plan)
            if ran.failed is None or ran.fault is None:
                begun.did(target.circumstances)
                continue
            if target.learn(ran.failed, ran.fault):
                continue
            if fault is not None:
                break
            fault = condition_of(plan.condition, ran.failed, ran.fault)
            failure = after_fault(fault, ran.failed)
            self._attempts.failed(target.key, target.circumstances, fault)
        else:
            outcome = RequeueWithBackoff(ERROR_MOST)
        if begun.has_done and fault is None:
            self._attempts.worked(target.key)
        return failure or outcome

    def act(self, key: Key, plan: Plan) -> Ran:
        """Carries out a plan, and scans what came of it."""
        observer = self._pool.observer
        ran = self._executor.run(key, plan.steps)
        observer.follow(ran.done)
        if any(isinstance(step, HostStep) for step in plan.steps):
            observer.look_after(key)
        else:
            observer.rewatch()
        self._pool.refresh()
        return ran

    def why_not(self, key: Key, plan: Plan | None = None) -> str | None:
        """Why neither this plan nor any other may be carried out now, whatever was found; None if it may."""
        gatherer = self._pool.gatherer
        if gatherer.settings.observe_only:
            return "--observe"
        if self._only is not None and key not in self._only:
            return "it was not asked for"
        # A step is noted before it is done, so that a crash can be undone; without a writable store nothing is done.
        if gatherer.store.trouble is not None:
            return "the store cannot be written to"
        if plan is None:
            return None
        return forbidden(plan, gatherer.records.permissions.get(key, PERMITTED), gatherer.clock.now())

    def _after(self, key: Key, plan: Plan) -> Outcome:
        """The outcome of a plan, carried out or not. A plan that is not permitted yet is requeued until it is."""
        permissions = self._pool.gatherer.records.permissions.get(key, PERMITTED)
        left = permissions.not_before - self._pool.gatherer.clock.now()
        return RequeueAfter(left) if plan.steps and 0 < left < inf else after(plan)

    def _had_no_effect(self, target: Target, plan: Plan) -> Condition:
        """Counts the plan's steps as failed, because they would otherwise be repeated without a pause."""
        step = next((step for step in reversed(plan.steps) if isinstance(step, HostStep)), plan.steps[-1])
        action, subject = (step.action, step.subject) if isinstance(step, HostStep) else ("note", str(step.key))
        detail = f"it was answered with OK, and the same is found again, or somebody undid it: {plan.condition.message}"
        fault = VerificationError(action, subject, 0, detail)
        self._pool.recorder.had_no_effect(target.key, action, fault)
        condition = condition_of(plan.condition, step, fault)
        self._attempts.had_no_effect(target.key, target.circumstances, condition)
        return condition

    def _former(self, target: Target, plan: Plan) -> tuple[Condition | None, bool]:
        """What earlier attempts say of this plan, and whether it is too early for the next attempt.

        The condition of a failed attempt stands until an attempt works, also while one is made. A plan that mends what
        is broken anew each time waits too.
        """
        standing = self._attempts.standing(target.key, target.circumstances)
        if standing is not None:
            return standing, self._attempts.is_too_early(target.key)
        pause = self._attempts.pause(target.key, target.circumstances)
        if pause is None:
            return None, False
        often = f"it was put right {BURST} times in a row and is found again: from now on that is done every {PACE:g} s"
        condition = replace(plan.condition, message=f"{plan.condition.message}; {often}")
        if pause.is_news:
            recorder = self._pool.recorder
            recorder.warn(target.key, condition.reason, condition.message)
            recorder.event(target.key, EventType.BLOCKED, condition.reason, condition.message)
        return condition, True


def with_place(condition: Condition, key: Key, gatherer: FactGatherer) -> Condition:
    """The condition, with the place of its record where only an edit of that record ends the condition."""
    place = gatherer.records.places.get(key)
    if condition.reason is not Reason.INVALID_CHANGE or place is None:
        return condition
    return replace(condition, message=f"{condition.message} (its record: {place})")
