"""Devices that are to be inactive or deleted: the rows from D33 on of docs/reference/healing.md."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolMode, ThinFailure
from reconciler.model.live import LiveDevice
from reconciler.model.steps import (
    BeginIntent,
    Clear,
    CompleteIntent,
    DeleteThin,
    DiscardThin,
    Remove,
    Resume,
    SaveDevice,
    SetTransactionId,
)
from reconciler.model.stored import IntentKind
from reconciler.model.units import Sectors
from reconciler.planner.facts import PoolFacts
from reconciler.planner.plan import Sign
from tests.unit.planner import builders as a
from tests.unit.planner.builders import (
    ID,
    KEY,
    LONG_AGO,
    NAME,
    PRIVATE,
    SIZE,
    UUID,
    facts,
    known,
    plan,
    row,
    steps,
    thin,
)

TWICE = Sectors(2 * SIZE)
SUSPENDED = {Sign.SUSPENDED: LONG_AGO}
RESTING = ["Inactive", "Committed"]


def in_pool(**changes: Any) -> PoolFacts:
    return a.pool_facts(live=a.live_pool(**changes))


@row("D33")
def test_a_thin_that_answers_fail_is_reported() -> None:
    found = plan(facts(live=thin(status=ThinFailure("Fail"))))
    assert (found.reason, found.steps) == (Reason.POOL_UNHEALTHY, ())


@row("D34")
@pytest.mark.parametrize("desired", RESTING)
def test_a_resting_device_is_made_and_never_published(desired: str) -> None:
    this = facts(desired, knowing=None, ids={})
    assert a.kinds(this) == ["BeginIntent", "CreateThin", "SetTransactionId", "CompleteIntent"]


REASONS = {
    "Inactive": Reason.ACTIVE_BUT_DESIRED_INACTIVE,
    "Committed": Reason.COMMITTED_BUT_ACTIVE,
    "Absent": Reason.PRESENT_BUT_DESIRED_ABSENT,
}


@row("D35", "D38")
@pytest.mark.parametrize("desired", REASONS)
def test_what_should_not_be_up_and_hangs_is_let_go_first(desired: str) -> None:
    this = facts(desired, live=thin(suspended=True, opened=2, waiting=a.error_table()), seen=SUSPENDED)
    assert (plan(this).reason, steps(this)) == (REASONS[desired], (Clear(NAME), Resume(NAME)))


@row("D36", "D38")
@pytest.mark.parametrize("desired", REASONS)
def test_what_should_not_be_up_and_is_closed_is_removed(desired: str) -> None:
    this = facts(desired, live=thin())
    assert (plan(this).reason, steps(this)) == (REASONS[desired], (Remove(NAME, UUID),))


@row("D36")
def test_a_suspended_shell_is_removed_without_a_resume_that_cannot_succeed() -> None:
    seen = {Sign.SUSPENDED: LONG_AGO, Sign.NO_TABLE: LONG_AGO}
    assert steps(facts("Inactive", live=a.shell(suspended=True), seen=seen)) == (Remove(NAME, UUID),)


@row("D36")
def test_the_size_of_what_somebody_made_longer_is_noted_before_it_is_removed() -> None:
    this = facts("Inactive", live=thin(size=TWICE), spec={"size": None, "adopt": a.ADOPT})
    assert steps(this) == (SaveDevice(KEY, known(size=TWICE)), Remove(NAME, UUID))


@row("D36")
@pytest.mark.parametrize(
    ("live", "sign"), [(thin(waiting=(a.table_of(),)), Sign.INACTIVE_TABLE), (a.shell(), Sign.NO_TABLE)]
)
def test_somebody_between_load_and_resume_is_not_disturbed(live: LiveDevice, sign: Sign) -> None:
    assert plan(facts("Inactive", live=live)).requeue_after == pytest.approx(a.GRACE)
    assert steps(facts("Inactive", live=live)) == ()
    assert steps(facts("Inactive", live=live, seen={sign: LONG_AGO})) == (Remove(NAME, UUID),)


@row("D37", "D38")
@pytest.mark.parametrize("desired", REASONS)
def test_what_should_not_be_up_and_is_open_is_busy(desired: str) -> None:
    found = plan(facts(desired, live=thin(opened=1, holders=("device dm-9",))))
    assert (found.reason, found.condition.beneath, found.steps) == (Reason.BUSY, REASONS[desired], ())
    assert "device dm-9" in found.condition.message


@row("D39")
def test_an_absent_device_is_deleted_with_its_intent_flushed_first() -> None:
    this = facts("Absent")
    assert plan(this).reason is Reason.PRESENT_BUT_DESIRED_ABSENT
    assert steps(this) == (
        BeginIntent(KEY, a.intent(IntentKind.DELETE, ID, uuid=UUID)),
        DeleteThin("tank", ID, a.TRANSACTION),
        SetTransactionId("tank", a.TRANSACTION),
        CompleteIntent(KEY, None),
    )


@row("D39")
def test_blocks_are_given_back_before_the_delete_where_asked() -> None:
    this = facts("Absent", spec={"discardOnDelete": True})
    assert steps(this)[1] == DiscardThin(PRIVATE, f"{UUID}-private", a.table_of())


@row("D39")
def test_the_private_device_of_an_adopted_thin_is_known_as_ours_after_a_crash() -> None:
    spec = {"discardOnDelete": True, "adopt": a.ADOPT}
    this = facts("Absent", spec=spec, knowing=known(adopted=True, uuid="LVM-x"))
    discard = steps(this)[1]
    assert isinstance(discard, DiscardThin)
    assert steps(replace(this, private=a.private(uuid=discard.uuid))) == (Remove(PRIVATE, discard.uuid),)


@row("D39")
def test_a_delete_waits_for_another_operation_on_the_pool() -> None:
    found = plan(facts("Absent", other_intent="tank/other"))
    assert (found.reason, found.steps) == (Reason.WAITING_FOR_POOL, ())


@row("D40")
@pytest.mark.parametrize(
    "pool", [None, a.pool_facts(live=a.down()), in_pool(of=a.status(PoolMode.RO)), a.pool_facts(knowing=None)]
)
def test_an_absent_device_of_which_there_is_nothing_is_as_desired(pool: PoolFacts | None) -> None:
    found = plan(facts("Absent", knowing=None, pool=pool))
    assert (found.reason, found.steps) == (Reason.CONVERGED, ())


@row("D40")
def test_an_absent_record_never_adopts_as_its_id_may_be_somebody_elses_by_now() -> None:
    spec = {"adopt": a.ADOPT}
    assert steps(facts("Absent", knowing=None, spec=spec, ids=a.ids(ID))) == ()
    live = plan(facts("Absent", knowing=None, spec=spec, live=thin(uuid=""), ids=a.ids(ID)))
    assert (live.reason, live.steps) == (Reason.CONFLICT, ())


@row("D42")
def test_a_thin_that_nobody_names_is_never_touched() -> None:
    assert steps(a.pool_facts(ids=a.ids(1, 2, 99))) == ()


@row("D43")
@pytest.mark.parametrize("desired", RESTING)
def test_a_resting_device_is_as_desired_and_what_is_news_is_noted(desired: str) -> None:
    resting = known(active=False, committed=desired == "Committed")
    assert steps(facts(desired)) == (SaveDevice(KEY, resting),)
    done = plan(facts(desired, knowing=resting))
    assert (done.reason, done.steps, done.condition.ready) == (Reason.CONVERGED, (), True)


@row("D43")
def test_an_active_device_is_as_desired() -> None:
    done = plan(facts(live=thin(opened=1)))
    assert (done.reason, done.steps, done.requeue_after) == (Reason.CONVERGED, (), None)
