"""Devices that the store made and no record names any more: what becomes of them is their pool's `prune`."""

from __future__ import annotations

from reconciler.model.condition import Condition, Reason
from reconciler.model.steps import Clear, Resume
from reconciler.planner.cases import Access, DeviceCase, PruneVerdict
from reconciler.planner.device_absent import delete
from reconciler.planner.device_inactive import remove_live
from reconciler.planner.device_words import after_grace, converged, find
from reconciler.planner.identity import owns_device
from reconciler.planner.intents import plan_intent
from reconciler.planner.plan import Plan, Sign

_WORDS = {
    PruneVerdict.WAIT: "no record names {key}; `prune` is waiting for the manifests to settle",
    PruneVerdict.RETAIN: "no record names {key}: it is retained, as its pool says (`prune: Retain`)",
    PruneVerdict.HELD_BACK: (
        "no record names {key}, but so many records vanished at once that nothing is pruned: bring them back, or "
        "`dm-reconciler apply --allow-mass-prune`"
    ),
    PruneVerdict.DEACTIVATE: "no record names {key}: deactivating it, as its pool says (`prune: Deactivate`)",
    PruneVerdict.DELETE: "no record names {key}: deleting it, as its pool says (`prune: Delete`)",
}


def plan_orphan(case: DeviceCase) -> Plan:
    """A device without a record. An operation that has begun on it is ended first."""
    if case.intent is not None and case.access.access is Access.FULL:
        return plan_intent(case, None)
    if case.known is None:
        return converged(case, "as desired: absent")
    plan = find(case, Reason.ORPHANED, _WORDS[case.prune].format(key=case.key))
    if case.prune not in {PruneVerdict.DEACTIVATE, PruneVerdict.DELETE}:
        return _left(case, plan)
    pool = case.pool.device
    devno = pool.info.devno if pool is not None else None
    if case.access.access is Access.NONE or case.elsewhere:
        return _retained(plan)
    if case.live is not None:
        if not owns_device(case.live, case.known, devno):
            return _retained(plan)
        return _past_grace(case, remove_live(case, case.live, plan))
    if case.prune is PruneVerdict.DEACTIVATE or case.known.adopted or case.access.access is not Access.FULL:
        return _retained(plan)
    if case.ids is None:
        return Plan(plan.condition, needs_ids=True)
    return delete(case, case.known, plan, discard=False)


def _retained(plan: Plan) -> Plan:
    condition = plan.condition
    return Plan(Condition(condition.reason, condition.message, condition.live, retained=True))


def _left(case: DeviceCase, plan: Plan) -> Plan:
    """Left alone on purpose; but what we ourselves suspended is let go."""
    live, known = case.live, case.known
    if live is None or known is None or not known.frozen or not live.info.suspended:
        return _retained(plan)
    clear = (Clear(live.info.name),) if live.info.inactive_table else ()
    return plan.but(*clear, Resume(live.info.name))


def _past_grace(case: DeviceCase, plan: Plan) -> Plan:
    if case.live is not None and case.live.info.suspended:
        return after_grace(case, Sign.SUSPENDED, plan)
    return plan
