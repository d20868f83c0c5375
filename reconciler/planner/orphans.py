"""Devices that the store made and no record names any more: what becomes of them is their pool's `prune`.

Whether a device whose record is gone may be pruned. A vanished record is not a request to delete data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reconciler.model.conditions import Reason
from reconciler.model.records import Prune, ThinPool
from reconciler.model.steps import KnowDevice
from reconciler.planner.conflicts import is_foreign, plan_claims, plan_private
from reconciler.planner.device_findings import after_suspension, converged, find, hangs, let_go
from reconciler.planner.device_inactive import delete, remove_live
from reconciler.planner.facts import Access, DeviceCase, PruneVerdict
from reconciler.planner.making import plan_intent
from reconciler.planner.plan import Plan

WINDOW = 600.0
"""Seconds within which many vanished records count as vanished together."""


@dataclass(frozen=True, slots=True)
class PruneRules:
    delay: float = 60.0
    """Seconds that a record must have been gone, and the directory unchanged."""
    allow_mass: bool = False
    """The operator has said that they mean it."""


def prune_verdict(  # noqa: PLR0913  # a case in itself, all by name
    gone_since: float | None,
    *,
    pool: ThinPool | None,
    all_gone: Sequence[float],
    recorded: int,
    settled_for: float,
    now: float,
    rules: PruneRules,
) -> PruneVerdict:
    """What becomes of one orphan. Times are wall-clock seconds; `all_gone` those of all orphans of the pool."""
    if pool is None or pool.spec.prune is Prune.RETAIN:
        return PruneVerdict.RETAIN
    if not rules.allow_mass and _is_mass(all_gone, recorded):
        return PruneVerdict.HELD_BACK
    if gone_since is None or now - gone_since < rules.delay or settled_for < rules.delay:
        return PruneVerdict.WAIT
    return PruneVerdict.DEACTIVATE if pool.spec.prune is Prune.DEACTIVATE else PruneVerdict.DELETE


def _is_mass(all_gone: Sequence[float], recorded: int) -> bool:
    """More than half of all records vanished within the window: never a single one, unless it was the only one."""
    if all_gone and recorded == 0:
        return True  # whenever they vanished
    times = sorted(all_gone)
    together = max((sum(1 for time in times if start <= time <= start + WINDOW) for start in times), default=0)
    return together * 2 > recorded + len(all_gone)


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
