"""One pass over one pool: look, then the pool, then those of its devices that something bears on.

The look's scope follows the keys that are due: a single device's key looks at that device, the pool's own key at all
of it. Devices that did not change since they converged are not planned again.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterable
from dataclasses import replace

from reconciler.controller.clock import Clock
from reconciler.controller.desired import Desired
from reconciler.controller.execute import Executor, Ran, condition_of
from reconciler.controller.fact_gatherer import FactGatherer, Settings
from reconciler.controller.failed_attempts import BURST, PACE, Circumstances, FailedAttempts, Pass, of_device, of_pool
from reconciler.controller.observer import PoolObserver
from reconciler.controller.queue import (
    BUSY_MOST,
    ERROR_MOST,
    Done,
    Outcome,
    RequeueWithBackoff,
    WorkQueue,
    after,
    after_fault,
)
from reconciler.controller.recorder import Recorder, device_status, pool_status
from reconciler.controller.rescue import Rescuer
from reconciler.kernel.worker.client import WorkerClient
from reconciler.model.conditions import Condition, EventType, Reason
from reconciler.model.errors import HostError, NothingDoneError, PreconditionError, VerificationError, answers_message
from reconciler.model.names import Key
from reconciler.model.steps import AbortIntent, CreateSnapshot, CreateThin, HostStep, MarkThinIdTaken, SaveDevice, Step
from reconciler.model.stored import Intent
from reconciler.planner.device import plan_device
from reconciler.planner.facts import Access, DeviceFacts, PoolAccess, PoolFacts
from reconciler.planner.ownership import access_to
from reconciler.planner.plan import Plan, suppressed
from reconciler.planner.pool import plan_pool
from reconciler.planner.pool_state import plan_note
from reconciler.store.store import Store

_ROUNDS = 12
"""Plans for one key in one pass: each round must lead on, so that this is never reached but by a bug or an adversary."""


class PoolReconciler:
    """Not for several threads: a pool's keys are worked on one after the other, in order."""

    def __init__(  # noqa: PLR0913  # the wiring of one pool, all by name
        self,
        name: str,
        *,
        client: WorkerClient,
        store: Store,
        recorder: Recorder,
        queue: WorkQueue,
        clock: Clock,
        rng: random.Random,
        settings: Settings,
        only: frozenset[Key] | None = None,
        latest: Callable[[], Desired] | None = None,
    ) -> None:
        """`only` these keys are touched; None: all of the pool. `latest` are the records in force at any moment."""
        self._key = Key(name)
        self._store = store
        self._recorder = recorder
        self._queue = queue
        self._clock = clock
        self._settings = settings
        self._only = only
        self._gatherer = FactGatherer(name, store, clock, rng, settings)
        self._observer = PoolObserver(client, self._gatherer, clock, settings)
        self._executor = Executor(client, store, recorder)
        self._desired = Desired()
        self._access: PoolAccess | None = None
        self._unsettled: set[Key] = set()
        self._attempts = FailedAttempts(queue, clock)
        self._pool = self._pool_facts()
        rescuer = Rescuer(
            name,
            store=store,
            recorder=recorder,
            clock=clock,
            rng=rng,
            settings=settings,
            only=only,
            latest=latest or (lambda: self._desired),
        )
        client.tell_of_waits(rescuer)

    def key_of(self, dm_name: str) -> Key | None:
        """The device that carries this name, if it is one of this pool. For any thread."""
        return self._observer.key_of(dm_name)

    def reconcile(self, keys: Iterable[Key], desired: Desired) -> None:
        """Work on these keys, and on whatever the look shows to have changed. Never raises for the host's faults.

        Raises StoreUnusable, after which `start_over` is called.
        """
        due = set(keys)
        whole = self._key in due
        if desired is not self._desired:
            self._take_over(desired)
            whole = True
        trouble = self._observer.look(desired, due, whole=whole)
        pool = self._gatherer.pool_facts(desired, self._observer.observed, trouble)
        if self._observer.take_pool_changed() or whole or trouble:
            pool = self._reconcile_pool(pool)
        self._pool = pool
        access = access_to(pool)
        everything = access != self._access
        self._access = access
        todo = self._todo(due, access, whole=whole, everything=everything)
        for key in desired.in_order(todo):
            outcome = self._reconcile_device(key)
            if outcome is not None:
                self._queue.finish(key, outcome)
        self._note_pool()
        self._recorder.flush()

    def _note_pool(self) -> None:
        """What the pool lies on is noted again once its thins have changed: at the next boot it is known by that."""
        known = self._store.known_pool(self._key.pool)
        if known is None or known.noted is None or known.noted.transaction_id == known.transaction_id:
            return
        if self._why_not(self._key) or self._store.intents(self._key.pool) or self._access is None:
            return
        self._observer.look_at_pool(self._desired)
        self._pool = self._pool_facts()
        noted = plan_note(self._pool) if access_to(self._pool).access is Access.FULL else None
        if noted is not None:
            self._act(self._key, noted)

    def _take_over(self, desired: Desired) -> None:
        """New records: everything is looked at anew, and who has lost its record is noted, with when."""
        for device in self._store.known_devices(self._key.pool).values():
            recorded = desired.device(device.key) is not None
            if recorded or device.gone_since is None:
                self._store.set_gone(device.key, None if recorded else self._clock.wall())
        present = self._gatherer.scope(desired).keys | {self._key}
        stale = {key for key in self._recorder.known_keys() if key.pool == self._key.pool} - present
        self._recorder.forget(stale)
        self._unsettled &= present
        self._desired, self._access = desired, None
        self._attempts.forget()

    def start_over(self) -> None:
        """A pass did not come to its end: the next one looks at every device."""
        self._access = None
        self._observer.start_over()

    def _todo(self, due: set[Key], access: PoolAccess, *, whole: bool, everything: bool) -> set[Key]:
        present = self._gatherer.scope(self._desired).keys
        if everything:
            return set(present)
        todo = (due | self._observer.take_changed() | self._lost()) & present
        if whole and access.access is not Access.NONE:
            todo |= {key for key in self._unsettled if not self._queue.is_backing_off(key)}
        return todo & present

    def _lost(self) -> set[Key]:
        """Devices whose thin is not in the pool: of one that is not live, only its missing id shows it."""
        ids = self._observer.take_new_ids()
        if ids is None:
            return set()
        return {d.key for d in self._store.known_devices(self._key.pool).values() if d.thin_id not in ids}

    # The pool

    def _reconcile_pool(self, facts: PoolFacts) -> PoolFacts:
        outcome: Outcome = Done()
        begun = Pass()
        for _ in range(_ROUNDS):
            plan = plan_pool(facts)
            if plan.needs_ids:
                if self._observer.read_ids(self._desired):
                    facts = self._pool = self._pool_facts()
                    continue
                plan = self._without_ids(plan)
            outcome = after(plan)
            circumstances = of_pool(facts, plan)
            if self._is_again(self._key, plan, circumstances, begun):
                condition = self._had_no_effect(self._key, plan, circumstances)
                self._record_pool(facts, condition)
                outcome = RequeueWithBackoff(BUSY_MOST)
                break
            standing = self._standing(self._key, plan, circumstances)
            held_back = self._held_back(self._key, plan, circumstances, standing)
            said = standing or held_back
            if said is not None or not self._is_only_noted(self._key, plan):
                self._record_pool(facts, said or suppressed(plan, self._why_not(self._key)))
            if held_back is not None or (standing is not None and self._attempts.is_too_early(self._key)):
                return facts
            if not self._may_act(self._key, plan):
                break
            ran = self._act(self._key, plan)
            facts = self._pool
            if ran.failed is not None and ran.fault is not None:
                condition = condition_of(plan.condition, ran.failed, ran.fault)
                self._record_pool(facts, condition)
                self._attempts.failed(self._key, circumstances, condition)
                outcome = after_fault(condition, ran.failed)
                break
            begun.did(circumstances)
        else:
            outcome = RequeueWithBackoff(ERROR_MOST)
        if begun.has_done and not isinstance(outcome, RequeueWithBackoff):
            self._attempts.worked(self._key)
        self._queue.finish(self._key, outcome)
        return facts

    def _pool_facts(self) -> PoolFacts:
        return self._gatherer.pool_facts(self._desired, self._observer.observed, self._observer.trouble)

    def _record_pool(self, facts: PoolFacts, condition: Condition) -> None:
        if facts.record is None and facts.known is None:
            self._recorder.forget([self._key])
            return
        desired = facts.record.spec.state.value if facts.record is not None else ""
        named = self._gatherer.named_ids() if self._observer.observed.ids_are_told else None
        condition = self._with_place(self._key, condition)
        status = pool_status(facts, condition, self._clock.wall(), named)
        self._recorder.record(status, condition, desired)

    # A device

    def _reconcile_device(self, key: Key) -> Outcome | None:
        """None: it waits for its next try."""
        fault: Condition | None = None
        failure: Outcome | None = None
        outcome: Outcome = Done()
        learned: set[int] = set()
        begun = Pass()
        for _ in range(_ROUNDS):
            facts, plan = self._planned(key)
            outcome = after(plan)
            circumstances = of_device(facts, plan)
            if self._is_again(key, plan, circumstances, begun):
                fault = fault or self._had_no_effect(key, plan, circumstances)
                failure = failure or RequeueWithBackoff(BUSY_MOST)
                self._record_device(facts, fault)
                break
            standing = None if fault is not None else self._standing(key, plan, circumstances)
            held_back = None if fault is not None else self._held_back(key, plan, circumstances, standing)
            said = fault or standing or held_back
            if said is not None or not self._is_only_noted(key, plan):
                self._record_device(facts, said or suppressed(plan, self._why_not(key)))
            if held_back is not None or (standing is not None and self._attempts.is_too_early(key)):
                self._settle(key)
                return None
            # After a fault only what it left half done is gone on with: it is undone, and the rest is tried later.
            if not self._may_act(key, plan) or (fault is not None and facts.intent is None):
                break
            ran = self._act(key, plan)
            if ran.failed is None or ran.fault is None:
                begun.did(circumstances)
                continue
            if self._learn(key, ran.failed, ran.fault, learned):
                continue
            if fault is not None:
                break
            fault = condition_of(plan.condition, ran.failed, ran.fault)
            failure = after_fault(fault, ran.failed)
            self._attempts.failed(key, circumstances, fault)
        else:
            outcome = RequeueWithBackoff(ERROR_MOST)
        if begun.has_done and fault is None:
            self._attempts.worked(key)
        self._settle(key)
        return failure or outcome

    def _planned(self, key: Key) -> tuple[DeviceFacts, Plan]:
        """With all that the plan needs to know."""
        for _ in range(_ROUNDS):
            facts = self._device_facts(key)
            plan = plan_device(facts)
            if plan.needs_ids:
                if self._observer.read_ids(self._desired):
                    continue
                plan = self._without_ids(plan)
            if not self._observer.wants_holders(facts, plan) or not self._observer.look_at_holders(facts):
                break
        return facts, plan

    def _device_facts(self, key: Key) -> DeviceFacts:
        return self._gatherer.device_facts(key, self._desired, self._observer.observed, self._pool)

    def _settle(self, key: Key) -> None:
        """Who is as desired is not planned again before something changes."""
        if self._recorder.is_converged(key):
            self._unsettled.discard(key)
        else:
            self._unsettled.add(key)

    def _learn(self, key: Key, step: Step, fault: HostError, learned: set[int]) -> bool:
        """What some faults teach, so that the next plan is another one. True if it is worth planning again at once."""
        if answers_message(fault, errno.EEXIST) and isinstance(step, CreateThin | CreateSnapshot):
            self._note_taken(key, step)
            return True
        if isinstance(fault, NothingDoneError):
            return self._let_filesystem_be(key, fault)
        if isinstance(fault, PreconditionError) and isinstance(step, CreateSnapshot):
            # Somebody else suspended the origin: the intent must not pass for our own freeze.
            self._abandon(key)
            return False
        if fault.errno == errno.ENODATA and errno.ENODATA not in learned:
            learned.add(errno.ENODATA)
            return self._observer.read_ids(self._desired)
        intent = self._intent(key)
        if intent is not None:  # half done: what is left is undone at once, by looking at the pool
            self._observer.read_ids(self._desired)
        return False

    def _let_filesystem_be(self, key: Key, fault: NothingDoneError) -> bool:
        """Nothing of that type is there to be grown, and no record says any more that there should be."""
        record, known = self._desired.device(key), self._store.known_devices(key.pool).get(key.device)
        if known is None or record is None or record.spec.filesystem is not None:
            return False
        message = f"{fault}, and none is from now on: its record names no filesystem"
        self._recorder.event(key, EventType.INFO, Reason.WRONG_SIZE, message)
        self._store.apply(SaveDevice(key, replace(known, filesystem="")))
        return True

    def _note_taken(self, key: Key, step: CreateThin | CreateSnapshot) -> None:
        intent = self._intent(key)
        if intent is None:
            return
        message = f"thin id {step.thin_id} of pool {key.pool} is somebody else's: taking the next one"
        self._recorder.warn(key, Reason.LEAKED_THIN_ID, message)
        self._store.apply(MarkThinIdTaken(key, step.thin_id))
        self._observer.know_id(step.thin_id)
        self._abandon(key)

    def _abandon(self, key: Key) -> None:
        """An intent of which nothing came true."""
        intent = self._intent(key)
        if intent is not None:
            self._store.apply(AbortIntent(key, intent.transaction_id))
            self._pool = self._pool_facts()

    def _intent(self, key: Key) -> Intent | None:
        return next((intent for intent in self._store.intents(key.pool) if intent.key == key), None)

    def _record_device(self, facts: DeviceFacts, condition: Condition) -> None:
        if facts.record is None and facts.known is None and facts.intent is None:
            self._recorder.forget([facts.key])
            return
        desired = facts.record.spec.state.value if facts.record is not None else ""
        condition = self._with_place(facts.key, condition)
        self._recorder.record(device_status(facts, condition, self._clock.wall()), condition, desired)

    # Both

    def _with_place(self, key: Key, condition: Condition) -> Condition:
        """What only another record ends says where the record is."""
        place = self._desired.records.places.get(key)
        if condition.reason is not Reason.INVALID_CHANGE or place is None:
            return condition
        return replace(condition, message=f"{condition.message} (its record: {place})")

    def _is_again(self, key: Key, plan: Plan, circumstances: Circumstances, begun: Pass) -> bool:
        """Whether a step that was answered with OK in this very pass is found to be needed as before."""
        return self._may_act(key, plan) and begun.is_again(circumstances)

    def _is_only_noted(self, key: Key, plan: Plan) -> bool:
        """So far it is as desired, and what is news is noted first: whether there is more only the next plan tells."""
        return plan.reason is Reason.CONVERGED and self._may_act(key, plan)

    def _had_no_effect(self, key: Key, plan: Plan, circumstances: Circumstances) -> Condition:
        """It counts as failed: else it would be done again and again, as fast as the host lets it."""
        step = next((step for step in reversed(plan.steps) if isinstance(step, HostStep)), plan.steps[-1])
        action, subject = (step.action, step.subject) if isinstance(step, HostStep) else ("note", str(step.key))
        detail = f"it was answered with OK, and the same is found again, or somebody undid it: {plan.condition.message}"
        fault = VerificationError(action, subject, 0, detail)
        self._recorder.had_no_effect(key, action, fault)
        condition = condition_of(plan.condition, step, fault)
        self._attempts.had_no_effect(key, circumstances, condition)
        return condition

    def _held_back(
        self, key: Key, plan: Plan, circumstances: Circumstances, standing: Condition | None
    ) -> Condition | None:
        """What is said where this was put right again and again, and somebody breaks it each time; None: go on."""
        if standing is not None or not self._may_act(key, plan):
            return None
        pause = self._attempts.pause(key, circumstances)
        if pause is None:
            return None
        self._queue.add(key, pause.seconds)
        often = f"it was put right {BURST} times in a row and is found again: from now on that is done every {PACE:g} s"
        condition = replace(plan.condition, message=f"{plan.condition.message}; {often}")
        if pause.is_news:
            self._recorder.warn(key, condition.reason, condition.message)
            self._recorder.event(key, EventType.BLOCKED, condition.reason, condition.message)
        return condition

    def _standing(self, key: Key, plan: Plan, circumstances: Circumstances) -> Condition | None:
        """What is said of a plan that has failed before; None: its own words, as it is new, or may not be tried."""
        return self._attempts.standing(key, circumstances) if self._may_act(key, plan) else None

    def _may_act(self, key: Key, plan: Plan) -> bool:
        return bool(plan.steps) and not self._why_not(key)

    def _why_not(self, key: Key) -> str:
        """Why nothing may be done about this key, whatever is found; empty if it may."""
        if self._settings.observe_only:
            return "--observe"
        if self._only is not None and key not in self._only:
            return "it was not asked for"
        # What is done must be noted first, so that a crash can be undone.
        return "" if self._store.trouble is None else "the store cannot be written to"

    def _without_ids(self, plan: Plan) -> Plan:
        """It cannot be decided: say why."""
        why = self._observer.ids_trouble or self._observer.trouble or "the pool is in no state to tell them"
        message = f"{plan.condition.message}; but the thin ids of pool {self._key} cannot be read: {why}"
        return plan.blocked(Reason.KERNEL_ERROR, message)

    def _act(self, key: Key, plan: Plan) -> Ran:
        ran = self._executor.run(key, plan.steps)
        self._observer.follow(ran.done)
        if any(isinstance(step, HostStep) for step in plan.steps):
            self._observer.look_after(self._desired, key)
        else:
            self._observer.rewatch(self._desired)
        self._pool = self._pool_facts()
        return ran
