"""Plans devices that the store made and no record names any more, by the `prune` setting of their pool.

Also decides whether such a device may be pruned: a record that vanished is no request to delete data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reconciler.model.conditions import Reason
from reconciler.model.records import Prune, ThinPool
from reconciler.model.steps import SaveDevice
from reconciler.planner.conflicts import is_foreign, plan_claims, plan_private
from reconciler.planner.device_findings import after_suspension, converged, finding, hangs, resume_stalled
from reconciler.planner.device_inactive import delete, remove_live
from reconciler.planner.facts import Access, DeviceFacts, PruneVerdict
from reconciler.planner.making import plan_intent
from reconciler.planner.plan import Plan

WINDOW = 600.0
"""Seconds within which vanished records count as having vanished together."""


@dataclass(frozen=True, slots=True)
class PruneRules:
    delay: float = 60.0
    """Seconds for which the record must have been gone, and the directory unchanged."""
    allow_mass: bool = False
    """Whether the operator has allowed that many devices are pruned at once."""


@dataclass(frozen=True, slots=True)
class PoolOrphans:
    """What has vanished from a pool's records, and what is left."""

    pool: ThinPool | None
    """The pool's own record."""
    all_gone: Sequence[float]
    """When each of the pool's orphans lost its record, in wall-clock seconds."""
    recorded: int
    """The number of devices that have a record."""
    settled_for: float
    """Seconds since the records last changed."""


def prune_verdict(gone_since: float | None, orphans: PoolOrphans, *, now: float, rules: PruneRules) -> PruneVerdict:
    """The verdict on one orphan, whose record is gone since `gone_since`. Times are wall-clock seconds."""
    pool = orphans.pool
    if pool is None or pool.spec.prune is Prune.RETAIN:
        return PruneVerdict.RETAIN
    if not rules.allow_mass and _is_mass(orphans.all_gone, orphans.recorded):
        return PruneVerdict.HELD_BACK
    if gone_since is None or now - gone_since < rules.delay or orphans.settled_for < rules.delay:
        return PruneVerdict.WAIT
    return PruneVerdict.DEACTIVATE if pool.spec.prune is Prune.DEACTIVATE else PruneVerdict.DELETE


def _is_mass(all_gone: Sequence[float], recorded: int) -> bool:
    """Whether more than half of all records vanished within the window. One alone counts only if it
    was the only one.
    """
    if all_gone and recorded == 0:
        return True  # all records are gone, whenever they vanished
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


def plan_orphan(facts: DeviceFacts) -> Plan:
    """Plans a device without a record. An open intent of it is ended first."""
    if facts.known is None and facts.intent is None:
        return converged(facts, "as desired: absent")
    private = plan_private(facts)
    if private is not None:
        return private
    if facts.intent is not None and facts.access.may_delete and not _is_external(facts):
        return plan_claims(facts) or plan_intent(facts, None)
    plan = finding(facts, Reason.ORPHANED, _WORDS[facts.prune].format(key=facts.key))
    if facts.prune not in {PruneVerdict.DEACTIVATE, PruneVerdict.DELETE}:
        return _left(facts, plan)
    return _prune(facts, plan)


def _prune(facts: DeviceFacts, plan: Plan) -> Plan:
    known, access = facts.known, facts.access
    if access.access is Access.NONE:
        return plan.blocked(access.reason, access.message)
    if known is None:
        return plan
    claimed = plan_claims(facts)
    if claimed is not None:
        return claimed
    if facts.live is not None:
        return remove_live(facts, facts.live, plan)
    if facts.prune is PruneVerdict.DEACTIVATE:
        return _retained(
            finding(facts, Reason.ORPHANED, f"no record names {facts.key}: it is inactive, and its data is kept")
        )
    if known.adopted or _is_external(facts):
        message = f"no record names {facts.key}, which was adopted: its thin is left to whoever made it"
        return _retained(finding(facts, Reason.ORPHANED, message))
    if not access.may_delete:
        return plan.blocked(access.reason, access.message)
    if facts.ids is None:
        return Plan(plan.condition, needs_ids=True)
    return delete(facts, known, plan, discard=False)


def _is_external(facts: DeviceFacts) -> bool:
    return facts.pool_record is not None and facts.pool_record.spec.external


def _retained(plan: Plan) -> Plan:
    return replace(plan, condition=replace(plan.condition, retained=True))


def _left(facts: DeviceFacts, plan: Plan) -> Plan:
    """Leaves the device alone on purpose, but ends a suspension after its grace, so that nobody who opens it hangs."""
    live, known = facts.live, facts.known
    if facts.prune is not PruneVerdict.HELD_BACK:  # a device that is held back waits for the operator
        plan = _retained(plan)
    if live is None or known is None or facts.access.access is Access.NONE or is_foreign(facts):
        return plan
    if hangs(live):
        return after_suspension(facts, plan.with_steps(*resume_stalled(facts, live)))
    return plan.with_steps(SaveDevice(facts.key, replace(known, frozen=False))) if known.frozen else plan
