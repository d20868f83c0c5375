"""docs/reference/healing.md, "Prune"."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveDevice
from reconciler.model.steps import Clear, Remove, Resume, SaveDevice
from reconciler.planner.facts import PoolFacts, PruneVerdict
from reconciler.planner.orphans import PoolOrphans, PruneRules, prune_verdict
from reconciler.planner.plan import Sign
from tests.unit.planner import builders as a
from tests.unit.planner.builders import KEY, LONG_AGO, NAME, UUID, known, orphan, plan, row, steps, thin

RETAIN, WAIT, HELD_BACK = PruneVerdict.RETAIN, PruneVerdict.WAIT, PruneVerdict.HELD_BACK
DEACTIVATE, DELETE = PruneVerdict.DEACTIVATE, PruneVerdict.DELETE
SUSPENDED = {Sign.SUSPENDED: LONG_AGO}
ILL = a.pool_facts(live=a.live_pool(of=a.status(PoolMode.RO)))


@row("D41", "R01", "R02")
@pytest.mark.parametrize("verdict", [RETAIN, WAIT])
@pytest.mark.parametrize("live", [None, thin(), thin(uuid="LVM-x"), thin(uuid="LVM-x", suspended=True)])
def test_a_retained_orphan_is_left_as_it_is(verdict: PruneVerdict, live: LiveDevice | None) -> None:
    found = plan(orphan(verdict, live=live, seen=SUSPENDED))
    assert (found.reason, found.steps, found.condition.good) == (Reason.ORPHANED, (), True)


@row("D41", "R01", "R02", "R03")
@pytest.mark.parametrize("verdict", [RETAIN, WAIT, HELD_BACK])
def test_an_orphan_that_is_kept_and_hangs_is_let_go_after_its_grace(verdict: PruneVerdict) -> None:
    live = thin(suspended=True)
    assert plan(orphan(verdict, live=live)).requeue_after == pytest.approx(a.GRACE)
    assert steps(orphan(verdict, live=live, seen=SUSPENDED)) == (Resume(NAME),)


@row("R03")
def test_what_is_held_back_asks_for_a_person() -> None:
    found = plan(orphan(HELD_BACK, live=thin()))
    assert (found.reason, found.steps, found.condition.good) == (Reason.ORPHANED, (), False)
    assert "--allow-mass-prune" in found.condition.message


@row("R04", "R05")
@pytest.mark.parametrize("verdict", [DEACTIVATE, DELETE])
@pytest.mark.parametrize("pool", [None, ILL])
def test_an_orphan_that_is_live_is_taken_down(verdict: PruneVerdict, pool: PoolFacts | None) -> None:
    assert steps(orphan(verdict, live=thin(), pool=pool)) == (Remove(NAME, UUID),)
    assert plan(orphan(verdict, live=thin(opened=1), pool=pool)).reason is Reason.BUSY


@row("R04", "R05")
@pytest.mark.parametrize("verdict", [DEACTIVATE, DELETE])
def test_an_orphan_that_hangs_is_let_go_after_its_grace(verdict: PruneVerdict) -> None:
    live = thin(suspended=True, waiting=a.error_table())
    assert plan(orphan(verdict, live=live)).requeue_after == pytest.approx(a.GRACE)
    assert steps(orphan(verdict, live=live, seen=SUSPENDED)) == (Clear(NAME), Resume(NAME))


@row("R04")
def test_a_deactivated_orphan_keeps_its_data() -> None:
    found = plan(orphan(DEACTIVATE))
    assert (found.reason, found.steps, found.condition.good) == (Reason.ORPHANED, (), True)


@row("R05")
def test_an_orphan_is_deleted_after_a_look_at_the_ids() -> None:
    assert plan(orphan(DELETE)).needs_ids
    assert a.kinds(orphan(DELETE, ids=a.ids(a.ID))) == [
        "BeginIntent",
        "DeleteThin",
        "SetTransactionId",
        "CompleteIntent",
    ]


@row("R05")
@pytest.mark.parametrize("pool", [ILL, a.pool_facts(live=a.down())])
def test_an_orphan_in_a_pool_that_is_not_healthy_is_not_deleted(pool: PoolFacts) -> None:
    found = plan(orphan(DELETE, pool=pool, ids=a.ids(a.ID)))
    assert (found.steps, found.condition.good, found.condition.beneath) == ((), False, Reason.ORPHANED)


@row("R06")
def test_an_adopted_orphan_is_never_deleted() -> None:
    found = plan(orphan(DELETE, knowing=known(adopted=True), ids=a.ids(a.ID)))
    assert (found.reason, found.steps) == (Reason.ORPHANED, ())


@row("R06")
def test_nothing_is_deleted_in_an_external_pool() -> None:
    pool = a.pool_facts(recorded=a.pool_record(external=True))
    assert steps(orphan(DELETE, pool=pool, ids=a.ids(a.ID))) == ()


@row("R07")
@pytest.mark.parametrize("verdict", [RETAIN, WAIT, HELD_BACK])
def test_an_orphan_that_the_reconciler_itself_suspended_is_let_go(verdict: PruneVerdict) -> None:
    frozen = known(frozen=True)
    hanging = thin(suspended=True)
    assert steps(orphan(verdict, live=hanging, knowing=frozen)) == (Resume(NAME), SaveDevice(KEY, known()))
    assert steps(orphan(verdict, live=thin(), knowing=frozen)) == (SaveDevice(KEY, known()),)
    foreign = thin(suspended=True, uuid="LVM-x")
    assert steps(orphan(verdict, live=foreign, knowing=frozen)) == ()
    suspended_pool = a.pool_facts(live=a.live_pool(a.pool_device(suspended=True)))
    assert steps(orphan(verdict, live=hanging, knowing=frozen, pool=suspended_pool)) == ()


@row("R09")
@pytest.mark.parametrize("verdict", [DEACTIVATE, DELETE])
@pytest.mark.parametrize("how", [{"live": thin(uuid="LVM-x")}, {"elsewhere": ("copy",)}])
def test_an_orphan_mixed_up_with_a_foreign_device_is_a_conflict(verdict: PruneVerdict, how: dict[str, Any]) -> None:
    found = plan(orphan(verdict, ids=a.ids(a.ID), **how))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())


@row("D41")
def test_an_orphan_of_which_there_is_nothing_is_nothing() -> None:
    assert plan(orphan(RETAIN, knowing=None)).reason is Reason.CONVERGED


def verdict_of(
    gone: float | None = 0.0, *, prune: str = "Delete", now: float = 100.0, allow_mass: bool = False, **changes: Any
) -> PruneVerdict:
    all_gone = [gone] if gone is not None else []
    usual = PoolOrphans(a.pool_record(prune=prune), all_gone, recorded=5, settled_for=100.0)
    return prune_verdict(gone, replace(usual, **changes), now=now, rules=PruneRules(allow_mass=allow_mass))


@row("R01")
def test_without_a_pool_record_or_with_retain_everything_is_retained() -> None:
    assert verdict_of(pool=None) is RETAIN
    assert verdict_of(prune="Retain") is RETAIN


@row("R02")
@pytest.mark.parametrize("changes", [{"now": 59.0}, {"settled_for": 59.0}])
def test_pruning_waits_until_the_record_is_gone_and_the_directory_at_rest(changes: dict[str, Any]) -> None:
    assert verdict_of(**changes) is WAIT
    assert verdict_of(None) is WAIT


@row("R03")
def test_a_mass_of_vanished_records_is_held_back() -> None:
    assert verdict_of(recorded=0) is HELD_BACK
    assert verdict_of(all_gone=[0.0, 500.0, 590.0], recorded=2) is HELD_BACK
    assert verdict_of(recorded=0, allow_mass=True) is DELETE


@row("R03", "R04", "R05")
def test_a_few_vanished_records_are_pruned() -> None:
    assert verdict_of(all_gone=[0.0, 700.0, 1400.0], recorded=2) is DELETE
    assert verdict_of(recorded=1) is DELETE
    assert verdict_of(prune="Deactivate") is DEACTIVATE
