"""Devices that the store made and no record names any more: what becomes of them is their pool's `prune`."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.conditions import Reason
from reconciler.model.steps import KnowDevice
from reconciler.planner.conflicts import is_foreign, plan_claims, plan_private
from reconciler.planner.device_absent import delete
from reconciler.planner.device_findings import after_suspension, converged, find, hangs, let_go
from reconciler.planner.device_inactive import remove_live
from reconciler.planner.facts import Access, DeviceCase, PruneVerdict
from reconciler.planner.intents import plan_intent
from reconciler.planner.plan import Plan

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
    if case.known is None and case.intent is None:
        return converged(case, "as desired: absent")
    private = plan_private(case)
    if private is not None:
        return private
    if case.intent is not None and case.access.may_delete and not _is_external(case):
        return plan_claims(case) or plan_intent(case, None)
    plan = find(case, Reason.ORPHANED, _WORDS[case.prune].format(key=case.key))
    if case.prune not in {PruneVerdict.DEACTIVATE, PruneVerdict.DELETE}:
        return _left(case, plan)
    return _prune(case, plan)


def _prune(case: DeviceCase, plan: Plan) -> Plan:
    known, access = case.known, case.access
    if access.access is Access.NONE:
        return plan.under(access.reason, access.message)
    if known is None:
        return plan
    claimed = plan_claims(case)
    if claimed is not None:
        return claimed
    if case.live is not None:
        return remove_live(case, case.live, plan)
    if case.prune is PruneVerdict.DEACTIVATE:
        return _retained(
            find(case, Reason.ORPHANED, f"no record names {case.key}: it is inactive, and its data is kept")
        )
    if known.adopted or _is_external(case):
        message = f"no record names {case.key}, which was adopted: its thin is left to whoever made it"
        return _retained(find(case, Reason.ORPHANED, message))
    if not access.may_delete:
        return plan.under(access.reason, access.message)
    if case.ids is None:
        return Plan(plan.condition, needs_ids=True)
    return delete(case, known, plan, discard=False)


def _is_external(case: DeviceCase) -> bool:
    return case.pool_record is not None and case.pool_record.spec.external


def _retained(plan: Plan) -> Plan:
    return replace(plan, condition=replace(plan.condition, retained=True))


def _left(case: DeviceCase, plan: Plan) -> Plan:
    """Left alone on purpose; but nothing of ours stays suspended: whoever opens it would hang."""
    live, known = case.live, case.known
    if case.prune is not PruneVerdict.HELD_BACK:  # that one waits for a person
        plan = _retained(plan)
    if live is None or known is None or case.access.access is Access.NONE or is_foreign(case):
        return plan
    if hangs(live):
        return after_suspension(case, plan.but(*let_go(case, live)))
    return plan.but(KnowDevice(case.key, replace(known, frozen=False))) if known.frozen else plan
