"""docs/reference/healing.md, "Devices": one test or more for each row, in its order."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolFailure, PoolMode, PoolStatus
from reconciler.model.live import Below, LiveDevice
from reconciler.model.steps import AbortIntent, Activate, Clear, Remove, Resume, SaveDevice
from reconciler.model.stored import IntentKind, StoredDevice
from reconciler.planner.facts import PoolFacts, PruneVerdict
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

SUSPENDED = {Sign.SUSPENDED: LONG_AGO}
RESTING = ["Inactive", "Committed"]
DAMAGED = [a.status(PoolMode.RO), a.status(PoolMode.NEEDS_CHECK), PoolFailure(PoolMode.FAIL, "Fail")]


def in_pool(**changes: Any) -> PoolFacts:
    return a.pool_facts(live=a.live_pool(**changes))


@row("D01")
def test_a_paused_device_is_left_alone_and_its_drift_stays_visible() -> None:
    found = plan(facts(live=thin(suspended=True), seen=SUSPENDED, spec={"paused": True}))
    assert (found.reason, found.condition.beneath, found.steps) == (Reason.PAUSED, Reason.SUSPENDED, ())
    assert "whoever opens it hangs" in found.condition.message
    assert found.condition.message.endswith("(not done: tank/a is paused by its record; it would: resume tank-a)")


@row("D01")
@pytest.mark.parametrize(
    ("spec", "said"),
    [({}, "tank/a is paused by its record"), ({"size": "1MiB"}, "tank/a is paused by its record; what is found: ")],
)
def test_a_paused_device_about_which_nothing_would_be_done_says_so(spec: dict[str, Any], said: str) -> None:
    found = plan(facts(live=thin(), spec={"paused": True, **spec}))
    assert found.reason is Reason.PAUSED
    assert found.condition.message.startswith(said)


@row("D01")
def test_a_device_of_a_paused_pool_is_left_alone() -> None:
    found = plan(facts(pool=a.pool_facts(recorded=a.pool_record(paused=True))))
    assert (found.reason, found.condition.beneath) == (Reason.PAUSED, Reason.INACTIVE_BUT_DESIRED_ACTIVE)
    assert found.steps == ()


@row("D01")
def test_an_orphan_of_a_paused_pool_is_left_alone() -> None:
    paused = a.pool_facts(recorded=a.pool_record(paused=True))
    found = plan(a.orphan(PruneVerdict.DEACTIVATE, live=thin(), pool=paused))
    assert (found.reason, found.steps) == (Reason.PAUSED, ())


@row("D02")
@pytest.mark.parametrize("desired", ["Active", "Absent", None])
def test_a_private_device_left_by_a_crash_is_removed_before_its_intent_is_taken_up(desired: str | None) -> None:
    this = facts(desired, knowing=None, private=a.private(), intent=a.intent())
    assert steps(this) == (Remove(PRIVATE, f"{UUID}-private"),)


@row("D02")
def test_a_suspended_private_device_is_let_go_first() -> None:
    assert steps(facts(private=a.private(suspended=True))) == (Resume(PRIVATE), Remove(PRIVATE, f"{UUID}-private"))


@row("D02")
def test_an_open_private_device_is_waited_for() -> None:
    found = plan(facts(knowing=None, private=a.private(opened=1)))
    assert (found.reason, found.steps) == (Reason.BUSY, ())


@row("D02")
def test_a_private_device_of_another_store_is_foreign() -> None:
    found = plan(facts(knowing=None, private=a.private(uuid=f"{a.FOREIGN_UUID}-private")))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())


@row("D02", "D07")
def test_a_private_device_under_a_suspended_pool_is_not_touched() -> None:
    this = facts(private=a.private(suspended=True), pool=in_pool(device=a.pool_device(suspended=True)))
    assert steps(this) == ()


@pytest.mark.security("S18")
@row("D03")
@pytest.mark.parametrize("desired", ["Active", "Inactive", "Committed", "Absent"])
@pytest.mark.parametrize("uuid", ["LVM-x", a.FOREIGN_UUID, "CRYPT-x"])
def test_a_name_carried_by_a_foreign_device_is_a_conflict(desired: str, uuid: str) -> None:
    found = plan(facts(desired, live=thin(uuid=uuid, suspended=True), seen=SUSPENDED))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())


@row("D03")
@pytest.mark.parametrize(
    "live",
    [
        thin(uuid="", table=a.other_table()),
        thin(9, uuid=""),
        thin(uuid="", table=a.error_table(), opened=1),
        thin(uuid="", table=a.error_table(SIZE + 8)),
        a.shell(uuid=""),
    ],
)
def test_without_a_uuid_only_the_recorded_thin_is_ours(live: LiveDevice) -> None:
    assert plan(facts(live=live)).reason is Reason.CONFLICT


@row("D03")
@pytest.mark.parametrize(
    ("live", "said"),
    [
        (thin(7), "Take it in by `adopt: {deviceId: 7, dmName: tank-a}`"),
        (thin(7, uuid=f"DMR-{'9' * 32}-{'1' * 32}"), "Rename one of them"),
        (thin(table=a.other_table()), "Rename one of them"),
    ],
)
def test_what_this_store_made_and_does_not_know_is_to_be_taken_in_and_not_renamed(live: LiveDevice, said: str) -> None:
    """If the device were renamed, the record would be made anew, empty."""
    found = plan(facts(live=live, knowing=None))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())
    assert said in found.condition.message


@row("D03")
def test_without_a_uuid_the_recorded_thin_is_ours() -> None:
    assert plan(facts(live=thin(uuid=""))).reason is Reason.CONVERGED


@row("D03")
def test_without_a_uuid_a_closed_error_table_of_the_recorded_size_is_ours_if_it_was_active() -> None:
    live = thin(uuid="", table=a.error_table())
    assert plan(facts(live=live)).reason is Reason.WRONG_TABLE
    assert plan(facts(live=live, knowing=known(active=False))).reason is Reason.CONFLICT


@row("D03")
def test_a_shell_that_a_crash_left_of_an_adopted_device_without_a_uuid_is_ours() -> None:
    this = facts(live=a.shell(uuid=""), knowing=known(uuid="", adopted=True), seen={Sign.NO_TABLE: LONG_AGO})
    assert plan(this).reason is Reason.TABLELESS_SHELL


@row("D03")
def test_an_intent_is_ended_under_a_foreign_name_and_the_foreign_device_is_not_touched() -> None:
    this = facts(knowing=None, live=thin(uuid="LVM-x"), intent=a.intent(), ids={})
    assert steps(this) == (AbortIntent(KEY, a.TRANSACTION),)


@row("D04")
def test_our_thin_live_under_another_name_is_a_conflict() -> None:
    found = plan(facts(elsewhere=("copy",)))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())
    assert "copy" in found.condition.message


@row("D05")
def test_no_pool_record_on_this_host_is_waited_for() -> None:
    found = plan(facts(pool_record=None))
    assert (found.reason, found.steps) == (Reason.WAITING_FOR_POOL, ())


@row("D05")
@pytest.mark.parametrize("desired", ["Active", "Inactive", "Committed", "Absent"])
def test_a_pool_that_is_not_there_is_waited_for(desired: str) -> None:
    found = plan(facts(desired, pool=a.pool_facts(live=a.down())))
    assert (found.reason, found.steps) == (Reason.WAITING_FOR_POOL, ())


@row("D06")
def test_under_a_stuck_pool_nothing_is_done() -> None:
    found = plan(facts("Inactive", live=thin(), pool=a.pool_facts(stuck="no answer")))
    assert (found.reason, found.steps) == (Reason.STUCK, ())


@row("D06")
def test_over_a_suspended_disk_nothing_is_done() -> None:
    pool = in_pool(suspended_below=(Below("pv", "LVM-x"),))
    found = plan(facts(live=thin(suspended=True), seen=SUSPENDED, pool=pool))
    assert (found.reason, found.steps) == (Reason.STUCK, ())


@row("D07")
def test_under_a_suspended_pool_nothing_is_resumed() -> None:
    pool = in_pool(device=a.pool_device(suspended=True))
    found = plan(facts(live=thin(suspended=True), seen=SUSPENDED, pool=pool))
    assert (found.reason, found.steps) == (Reason.WAITING_FOR_POOL, ())


@row("D08")
@pytest.mark.parametrize("status", DAMAGED)
def test_in_a_damaged_pool_what_hangs_is_let_go(status: PoolStatus | PoolFailure) -> None:
    this = facts(live=thin(suspended=True, waiting=(a.table_of(),)), seen=SUSPENDED, pool=in_pool(of=status))
    assert steps(this) == (Clear(NAME), Resume(NAME))


@row("D08")
@pytest.mark.parametrize("status", DAMAGED)
def test_in_a_damaged_pool_nothing_is_brought_up_or_deleted(status: PoolStatus | PoolFailure) -> None:
    for desired in ("Active", "Absent"):
        found = plan(facts(desired, pool=in_pool(of=status)))
        assert (found.reason, found.steps) == (Reason.POOL_UNHEALTHY, ())


@row("D08")
@pytest.mark.parametrize("desired", ["Inactive", "Committed", "Absent"])
def test_in_a_damaged_pool_what_should_not_be_up_is_taken_down(desired: str) -> None:
    pool = in_pool(of=a.status(PoolMode.RO))
    assert steps(facts(desired, live=thin(), pool=pool)) == (Remove(NAME, UUID),)
    assert steps(facts(desired, live=thin(opened=1), pool=pool)) == ()


@row("D08")
def test_in_a_damaged_pool_a_suspended_shell_is_not_resumed() -> None:
    this = facts(live=a.shell(suspended=True), seen=SUSPENDED, pool=in_pool(of=a.status(PoolMode.RO)))
    assert steps(this) == ()


@row("D09")
def test_with_an_unexpected_transaction_nothing_is_made_or_loaded() -> None:
    pool = in_pool(of=a.status(transaction=9))
    for this in (facts(pool=pool), facts(knowing=None, pool=pool), facts(live=thin(9), pool=pool)):
        found = plan(this)
        assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())


@row("D09")
def test_with_an_unexpected_transaction_what_hangs_is_let_go() -> None:
    this = facts(live=thin(suspended=True), seen=SUSPENDED, pool=in_pool(of=a.status(transaction=9)))
    assert steps(this) == (Resume(NAME),)


@row("D10")
def test_without_data_space_no_snapshot_is_taken() -> None:
    pool = in_pool(of=a.status(PoolMode.OUT_OF_DATA_SPACE))
    this = facts(knowing=None, spec={"snapshotOf": "golden"}, origin=a.origin(a.golden()), ids={}, pool=pool)
    assert (plan(this).reason, steps(this)) == (Reason.POOL_UNHEALTHY, ())


@row("D11")
def test_in_a_pool_that_the_store_never_saw_nothing_is_made() -> None:
    unknown = a.pool_facts(knowing=None, live=a.live_pool(a.pool_device(uuid="")))
    found = plan(facts(knowing=None, ids=a.ids(1), pool=unknown))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())


@row("D12")
def test_in_a_pool_that_is_still_being_made_nothing_is_made() -> None:
    found = plan(facts(knowing=None, ids={}, pool=a.pool_facts(knowing=a.known_pool(created=False))))
    assert (found.reason, found.steps) == (Reason.WAITING_FOR_POOL, ())


EXTERNAL = a.pool_facts(recorded=a.pool_record(external=True), knowing=a.known_pool(external=True, transaction_id=0))


@row("D13")
def test_a_record_without_adopt_in_an_external_pool_is_an_invalid_change() -> None:
    found = plan(facts(knowing=None, pool=EXTERNAL, ids={}))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("D13")
def test_absent_in_an_external_pool_is_an_invalid_change() -> None:
    found = plan(facts("Absent", pool=EXTERNAL, spec={"adopt": a.ADOPT}, knowing=known(adopted=True)))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("D13", "D14")
def test_an_intent_in_a_pool_that_became_external_is_not_carried_out() -> None:
    this = facts("Absent", pool=EXTERNAL, intent=a.intent(IntentKind.DELETE, ID))
    assert (plan(this).reason, steps(this)) == (Reason.INVALID_CHANGE, ())


@row("D13")
def test_an_adopted_device_of_an_external_pool_is_healed() -> None:
    adopted: dict[str, Any] = {
        "pool": EXTERNAL,
        "spec": {"adopt": a.ADOPT},
        "knowing": known(adopted=True, uuid="LVM-x"),
    }
    assert steps(facts(**adopted)) == (Activate(NAME, "LVM-x", a.table_of()),)
    hanging = facts(live=thin(uuid="LVM-x", suspended=True), seen=SUSPENDED, **adopted)
    assert steps(hanging) == (Resume(NAME),)
    assert steps(facts("Inactive", live=thin(uuid="LVM-x"), **adopted)) == (Remove(NAME, "LVM-x"),)


@row("D15")
@pytest.mark.parametrize("desired", ["Active", "Inactive", "Committed"])
def test_a_lost_thin_is_never_replaced_by_an_empty_one(desired: str) -> None:
    found = plan(facts(desired, ids=a.ids(1)))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())
    assert "lost" in found.condition.message


@row("D15")
def test_a_lost_thin_that_is_to_be_absent_goes_its_way() -> None:
    assert plan(facts("Absent", ids=a.ids(1))).reason is Reason.PRESENT_BUT_DESIRED_ABSENT


@row("D16")
@pytest.mark.parametrize("desired", ["Active", "Inactive", "Committed", "Absent"])
def test_a_suspension_within_the_grace_is_let_be(desired: str) -> None:
    found = plan(facts(desired, live=thin(suspended=True), seen={Sign.SUSPENDED: 2}))
    assert (found.reason, found.steps) == (Reason.SUSPENDED, ())
    assert found.requeue_after == pytest.approx(3.0)


@row("D16")
def test_what_the_reconciler_itself_suspended_has_no_grace() -> None:
    this = facts(live=thin(suspended=True), knowing=known(frozen=True))
    assert steps(this) == (Resume(NAME), SaveDevice(KEY, known()))


@row("D17")
@pytest.mark.parametrize("state", ["Inactive", "Absent"])
def test_under_a_pool_on_its_way_down_nothing_is_brought_up(state: str) -> None:
    pool = a.pool_facts(recorded=a.pool_record(state=state))
    for this in (facts(pool=pool), facts(knowing=None, ids={}, pool=pool)):
        assert (plan(this).reason, steps(this)) == (Reason.WAITING_FOR_POOL, ())
    assert steps(facts("Inactive", live=thin(), pool=pool)) == (Remove(NAME, UUID),)


@row("D17")
@pytest.mark.parametrize("desired", RESTING)
def test_what_rests_in_an_inactive_pool_is_as_desired(desired: str) -> None:
    pool = a.pool_facts(recorded=a.pool_record(state="Inactive"), live=a.down())
    assert plan(facts(desired, pool=pool)).reason is Reason.CONVERGED


@row("D17")
def test_what_is_absent_is_carried_out_under_an_inactive_pool() -> None:
    pool = a.pool_facts(recorded=a.pool_record(state="Inactive"))
    assert plan(facts("Absent", pool=pool)).reason is Reason.PRESENT_BUT_DESIRED_ABSENT


@row("D18")
@pytest.mark.parametrize("desired", ["Active", "Inactive", "Committed"])
def test_a_device_never_shrinks(desired: str) -> None:
    smaller = {"size": f"{SIZE - 8}s"}
    for live in (None, thin()):
        found = plan(facts(desired, live=live, spec=smaller))
        assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("D18")
def test_a_device_that_somebody_made_longer_than_its_record_is_left_alone() -> None:
    found = plan(facts(live=thin(size=SIZE + 8)))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("D18")
def test_an_invalid_record_does_not_leave_a_device_hanging() -> None:
    live = thin(suspended=True, waiting=(a.table_of(9),))
    this = facts(live=live, seen=SUSPENDED, spec={"size": f"{SIZE - 8}s"})
    assert (plan(this).reason, steps(this)) == (Reason.INVALID_CHANGE, (Clear(NAME), Resume(NAME)))


@row("D19")
@pytest.mark.parametrize("desired", ["Active", "Inactive"])
def test_a_committed_device_stays_committed(desired: str) -> None:
    found = plan(facts(desired, knowing=known(committed=True, active=False)))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("D19")
@pytest.mark.parametrize(
    ("spec", "of_it"),
    [
        ({"snapshotOf": "golden"}, known()),
        ({"snapshotOf": "golden"}, known(origin="other")),
        ({"filesystem": {"type": "xfs"}}, known(filesystem="ext4")),
        ({"adopt": {"deviceId": 9, "dmName": NAME}}, known()),
        ({"adopt": {"deviceId": ID, "dmName": "elsewhere"}}, known()),
    ],
)
def test_what_is_fixed_when_a_device_is_made_cannot_change(spec: dict[str, object], of_it: StoredDevice) -> None:
    found = plan(facts(spec=spec, knowing=of_it))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("D19")
def test_a_missing_origin_is_no_error_once_the_snapshot_exists() -> None:
    this = facts(live=thin(), spec={"snapshotOf": "golden"}, knowing=known(origin="golden"))
    assert plan(this).reason is Reason.CONVERGED
