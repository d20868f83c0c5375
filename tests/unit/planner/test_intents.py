"""docs/reference/healing.md, "Crash consistency": each state that a crash can leave an intent in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.live import LiveDevice, ThinEntry
from reconciler.model.steps import (
    AbortIntent,
    Clear,
    CompleteIntent,
    DeleteThin,
    MarkThinIdTaken,
    Remove,
    Resume,
    SaveDevice,
    SetTransactionId,
)
from reconciler.model.stored import Intent, IntentKind
from reconciler.planner.facts import DeviceFacts, PoolFacts, PruneVerdict
from tests.unit.planner import builders as a
from tests.unit.planner.builders import (
    ID,
    KEY,
    NAME,
    NEW_ID,
    NEW_UUID,
    TRANSACTION,
    UUID,
    facts,
    known,
    plan,
    row,
    steps,
)

MADE = known(uuid=NEW_UUID, thin_id=NEW_ID, created_at=TRANSACTION)
FRESH = ThinEntry(0, TRANSACTION)
"""What thin_ls shows of a thin that this intent made."""
CREATE, SNAPSHOT, DELETE = IntentKind
ABANDON = AbortIntent(KEY, TRANSACTION)
DELETE_NEW = DeleteThin("tank", NEW_ID, TRANSACTION)


def at(transaction: int) -> PoolFacts:
    return a.pool_facts(live=a.live_pool(of=a.status(transaction=transaction)))


def half_made(intent: Intent, desired: str | None = "Active", *, after: bool = False, **rest: Any) -> DeviceFacts:
    """A half-made device; with `after`, the transaction id was already set."""
    return facts(desired, knowing=None, intent=intent, pool=at(TRANSACTION + after), **rest)


@row("C01")
@pytest.mark.parametrize("after", [False, True])
def test_a_half_made_device_is_judged_by_the_pools_ids(after: bool) -> None:
    found = plan(half_made(a.intent(), after=after))
    assert (found.needs_ids, found.steps) == (True, ())


@row("C02")
@pytest.mark.parametrize("kind", [CREATE, SNAPSHOT])
def test_if_nothing_happened_the_intent_is_forgotten(kind: IntentKind) -> None:
    assert steps(half_made(a.intent(kind), ids=a.ids(3))) == (ABANDON,)


@row("C02")
def test_a_transaction_that_somebody_else_set_does_not_finish_a_create_that_never_happened() -> None:
    assert steps(half_made(a.intent(), after=True, ids=a.ids(3))) == (AbortIntent(KEY, TRANSACTION + 1),)


@row("C03")
@pytest.mark.parametrize("kind", [CREATE, SNAPSHOT])
def test_a_thin_made_before_the_transaction_was_set_is_deleted(kind: IntentKind) -> None:
    entry = FRESH if kind is CREATE else ThinEntry(500, TRANSACTION)
    this = half_made(a.intent(kind), ids={NEW_ID: entry})
    assert (plan(this).reason, steps(this)) == (Reason.NOT_CREATED, (DELETE_NEW, ABANDON))


@row("C04")
@pytest.mark.parametrize("desired", ["Active", "Inactive", "Committed"])
def test_a_device_whose_transaction_was_set_is_finished(desired: str) -> None:
    this = half_made(a.intent(), desired, after=True, ids={NEW_ID: FRESH})
    done = replace(MADE, active=desired == "Active", committed=desired == "Committed")
    assert steps(this) == (CompleteIntent(KEY, done),)


@row("C04")
def test_a_snapshot_whose_transaction_was_set_is_finished() -> None:
    intent = a.intent(SNAPSHOT, origin="golden")
    this = half_made(intent, after=True, ids={NEW_ID: ThinEntry(5, TRANSACTION)}, origin=a.origin())
    assert steps(this) == (CompleteIntent(KEY, replace(MADE, origin="golden")),)


@row("C05")
@pytest.mark.parametrize(("made", "mapped"), [(False, 0), (True, 0), (True, 900)])
def test_a_device_killed_around_its_mkfs_is_undone(made: bool, mapped: int) -> None:
    intent = a.intent(filesystem="ext4", made=made)
    this = half_made(intent, after=True, ids={NEW_ID: ThinEntry(mapped, TRANSACTION)})
    assert steps(this) == (DeleteThin("tank", NEW_ID, TRANSACTION + 1), AbortIntent(KEY, TRANSACTION + 1))


@row("C06")
def test_a_thin_with_data_that_the_intent_did_not_note_as_its_own_is_left() -> None:
    this = half_made(a.intent(), ids={NEW_ID: ThinEntry(1, TRANSACTION)})
    assert steps(this) == (MarkThinIdTaken(KEY, NEW_ID), ABANDON)


@row("C07")
@pytest.mark.parametrize("kind", [CREATE, SNAPSHOT])
def test_a_thin_of_another_transaction_is_left(kind: IntentKind) -> None:
    this = half_made(a.intent(kind), ids={NEW_ID: ThinEntry(0, TRANSACTION - 1)})
    assert steps(this) == (MarkThinIdTaken(KEY, NEW_ID), ABANDON)


@row("C08")
@pytest.mark.parametrize("after", [False, True])
def test_a_thin_that_was_there_before_the_create_is_left(after: bool) -> None:
    this = half_made(a.intent(), after=after, ids={NEW_ID: FRESH}, id_taken=True)
    assert steps(this) == (AbortIntent(KEY, TRANSACTION + after),)


@row("C09", "R08")
@pytest.mark.parametrize("desired", ["Absent", None])
def test_what_nobody_wants_any_more_is_undone(desired: str | None) -> None:
    this = half_made(a.intent(), desired, after=True, ids={NEW_ID: FRESH}, prune=PruneVerdict.RETAIN)
    assert steps(this) == (DeleteThin("tank", NEW_ID, TRANSACTION + 1), AbortIntent(KEY, TRANSACTION + 1))


FROZEN = a.intent(SNAPSHOT, origin="golden", suspended="tank-golden")
THAW = (
    SaveDevice(a.known_golden().key, a.known_golden(frozen=True)),
    Resume("tank-golden"),
    SaveDevice(a.known_golden().key, a.known_golden()),
)


@row("C10")
def test_an_origin_left_suspended_by_a_crash_is_resumed_before_anything_else() -> None:
    this = half_made(FROZEN, ids={}, origin=a.origin(a.golden(suspended=True, opened=1)))
    assert steps(this) == (*THAW, ABANDON)


@row("C10")
def test_an_origin_is_resumed_without_the_table_that_waits() -> None:
    this = half_made(FROZEN, ids={}, origin=a.origin(a.golden(suspended=True, waiting=a.error_table())))
    assert steps(this) == (THAW[0], Clear("tank-golden"), *THAW[1:], ABANDON)


@row("C10")
@pytest.mark.parametrize(
    "live", [None, a.golden(), a.golden(suspended=True, uuid="LVM-x"), a.golden(suspended=True, live_table=False)]
)
def test_nothing_else_is_resumed(live: LiveDevice | None) -> None:
    assert steps(half_made(FROZEN, ids={}, origin=a.origin(live))) == (ABANDON,)


@row("C10")
def test_an_origin_that_was_seen_to_run_again_is_somebody_elses_to_resume() -> None:
    this = half_made(replace(FROZEN, made=True), ids={}, origin=a.origin(a.golden(suspended=True, opened=1)))
    assert steps(this) == (ABANDON,)


@row("C10")
def test_an_origin_that_could_not_be_resumed_does_not_keep_the_intent_open() -> None:
    origin = a.origin(a.golden(suspended=True), a.known_golden(frozen=True))
    assert steps(half_made(FROZEN, ids={}, origin=origin)) == (ABANDON,)


def half_deleted(desired: str | None = "Absent", *, transaction: int = TRANSACTION, **rest: Any) -> DeviceFacts:
    return facts(desired, intent=a.intent(DELETE, ID, uuid=UUID), pool=at(transaction), **rest)


@row("C11", "R08")
@pytest.mark.parametrize("desired", ["Absent", None])
def test_a_deletion_goes_on(desired: str | None) -> None:
    this = half_deleted(desired)
    assert plan(this).reason is Reason.PRESENT_BUT_DESIRED_ABSENT
    assert steps(this) == (
        DeleteThin("tank", ID, TRANSACTION),
        SetTransactionId("tank", TRANSACTION),
        CompleteIntent(KEY, None),
    )


@row("C12")
def test_a_deletion_whose_transaction_was_set_is_finished() -> None:
    assert plan(half_deleted(transaction=TRANSACTION + 1)).needs_ids
    assert steps(half_deleted(transaction=TRANSACTION + 1, ids=a.ids(3))) == (CompleteIntent(KEY, None),)


@row("C13")
def test_an_id_is_not_freed_while_its_thin_is_there() -> None:
    assert steps(half_deleted(transaction=TRANSACTION + 1, ids=a.ids(ID))) == (AbortIntent(KEY, TRANSACTION + 1),)


@row("C13")
def test_a_deletion_in_a_pool_that_moved_on_is_begun_again() -> None:
    pool = a.pool_facts(live=a.live_pool(of=a.status(transaction=9)), knowing=a.known_pool(transaction_id=9))
    assert steps(facts("Absent", intent=a.intent(DELETE, ID), pool=pool)) == (AbortIntent(KEY, 9),)
    assert a.kinds(facts("Absent", pool=pool)) == ["BeginIntent", "DeleteThin", "SetTransactionId", "CompleteIntent"]


@row("C14")
@pytest.mark.parametrize("desired", ["Active", "Inactive", "Committed"])
def test_a_record_put_back_waits_for_the_end_of_the_deletion(desired: str) -> None:
    this = half_deleted(desired)
    assert (plan(this).reason, a.kinds(this)) == (
        Reason.INVALID_CHANGE,
        ["DeleteThin", "SetTransactionId", "CompleteIntent"],
    )


@row("C15")
def test_what_was_activated_in_the_middle_of_its_deletion_is_taken_down_first() -> None:
    assert steps(half_deleted(live=a.thin())) == (Remove(NAME, UUID),)
    assert plan(half_deleted(live=a.thin(opened=1))).reason is Reason.BUSY
    assert plan(half_deleted(live=a.thin(suspended=True))).requeue_after is not None


@row("C15", "D03")
def test_a_deletion_goes_on_under_a_foreign_name() -> None:
    assert a.kinds(half_deleted(live=a.thin(uuid="LVM-x"))) == ["DeleteThin", "SetTransactionId", "CompleteIntent"]


@row("R08")
def test_an_orphans_private_device_goes_before_its_intent_is_undone() -> None:
    private = a.thin(name=a.PRIVATE, uuid=f"{NEW_UUID}-private")
    this = half_made(a.intent(filesystem="ext4", made=True), None, ids={NEW_ID: FRESH}, private=private)
    assert steps(this) == (Remove(a.PRIVATE, f"{NEW_UUID}-private"),)
