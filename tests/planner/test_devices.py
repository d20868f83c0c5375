"""docs/reference/healing.md, "Devices": one test or more for each row, in its order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.condition import Reason
from reconciler.model.knowledge import IntentKind, KnownDevice
from reconciler.model.live import Below, LiveDevice
from reconciler.model.status import PoolFailure, PoolMode, PoolStatus, ThinFailure
from reconciler.model.steps import (
    Abandon,
    Activate,
    Begin,
    CancelDeferredRemove,
    Clear,
    DeleteThin,
    DiscardThin,
    Finish,
    GrowFilesystem,
    KnowDevice,
    Load,
    RefreshNodes,
    Remove,
    Resume,
    SetTransactionId,
)
from reconciler.model.table import Devno, Table
from reconciler.model.units import Sectors
from reconciler.planner.cases import PoolCase, PruneVerdict
from reconciler.planner.plan import Sign
from tests.planner import builders as a
from tests.planner.builders import ID, KEY, LONG_AGO, NAME, PRIVATE, SIZE, UUID, case, known, plan, row, steps, thin

TWICE = Sectors(2 * SIZE)
SUSPENDED = {Sign.SUSPENDED: LONG_AGO}
RESTING = ["Inactive", "Committed"]
DAMAGED = [a.status(PoolMode.RO), a.status(PoolMode.NEEDS_CHECK), PoolFailure(PoolMode.FAIL, "Fail")]


def in_pool(**changes: Any) -> PoolCase:
    return a.pool_case(live=a.live_pool(**changes))


@row("D01")
def test_a_paused_device_is_left_alone_and_its_drift_stays_visible() -> None:
    found = plan(case(live=thin(suspended=True), seen=SUSPENDED, spec={"paused": True}))
    assert (found.reason, found.condition.beneath, found.steps) == (Reason.PAUSED, Reason.SUSPENDED, ())


@row("D01")
def test_a_device_of_a_paused_pool_is_left_alone() -> None:
    found = plan(case(pool=a.pool_case(recorded=a.pool_record(paused=True))))
    assert (found.reason, found.condition.beneath) == (Reason.PAUSED, Reason.INACTIVE_BUT_DESIRED_ACTIVE)
    assert found.steps == ()


@row("D01")
def test_an_orphan_of_a_paused_pool_is_left_alone() -> None:
    paused = a.pool_case(recorded=a.pool_record(paused=True))
    found = plan(a.orphan(PruneVerdict.DEACTIVATE, live=thin(), pool=paused))
    assert (found.reason, found.steps) == (Reason.PAUSED, ())


def private(**changes: Any) -> LiveDevice:
    return thin(**{"name": PRIVATE, "uuid": f"{UUID}-private", **changes})


@row("D02")
@pytest.mark.parametrize("desired", ["Active", "Absent", None])
def test_a_private_device_left_by_a_crash_is_removed_before_its_intent_is_taken_up(desired: str | None) -> None:
    this = case(desired, knowing=None, private=private(), intent=a.intent())
    assert steps(this) == (Remove(PRIVATE, f"{UUID}-private"),)


@row("D02")
def test_a_suspended_private_device_is_let_go_first() -> None:
    assert steps(case(private=private(suspended=True))) == (Resume(PRIVATE), Remove(PRIVATE, f"{UUID}-private"))


@row("D02")
def test_an_open_private_device_is_waited_for() -> None:
    found = plan(case(knowing=None, private=private(opened=1)))
    assert (found.reason, found.steps) == (Reason.BUSY, ())


@row("D02")
def test_a_private_device_of_another_store_is_foreign() -> None:
    found = plan(case(knowing=None, private=private(uuid=f"{a.FOREIGN_UUID}-private")))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())


@row("D02", "D07")
def test_a_private_device_under_a_suspended_pool_is_not_touched() -> None:
    this = case(private=private(suspended=True), pool=in_pool(device=a.pool_device(suspended=True)))
    assert steps(this) == ()


@row("D03")
@pytest.mark.parametrize("desired", ["Active", "Inactive", "Committed", "Absent"])
@pytest.mark.parametrize("uuid", ["LVM-x", a.FOREIGN_UUID, "CRYPT-x"])
def test_a_name_carried_by_a_foreign_device_is_a_conflict(desired: str, uuid: str) -> None:
    found = plan(case(desired, live=thin(uuid=uuid, suspended=True), seen=SUSPENDED))
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
    assert plan(case(live=live)).reason is Reason.CONFLICT


@row("D03")
def test_without_a_uuid_the_recorded_thin_is_ours() -> None:
    assert plan(case(live=thin(uuid=""))).reason is Reason.CONVERGED


@row("D03")
def test_without_a_uuid_a_closed_error_table_of_the_recorded_size_is_ours_if_it_was_active() -> None:
    live = thin(uuid="", table=a.error_table())
    assert plan(case(live=live)).reason is Reason.WRONG_TABLE
    assert plan(case(live=live, knowing=known(active=False))).reason is Reason.CONFLICT


@row("D03")
def test_a_shell_that_a_crash_left_of_an_adopted_device_without_a_uuid_is_ours() -> None:
    this = case(live=a.shell(uuid=""), knowing=known(uuid="", adopted=True), seen={Sign.NO_TABLE: LONG_AGO})
    assert plan(this).reason is Reason.TABLELESS_SHELL


@row("D03")
def test_an_intent_is_ended_under_a_foreign_name_and_the_foreign_device_is_not_touched() -> None:
    this = case(knowing=None, live=thin(uuid="LVM-x"), intent=a.intent(), ids={})
    assert steps(this) == (Abandon(KEY, a.TRANSACTION),)


@row("D04")
def test_our_thin_live_under_another_name_is_a_conflict() -> None:
    found = plan(case(elsewhere=("copy",)))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())
    assert "copy" in found.condition.message


@row("D05")
def test_no_pool_record_on_this_host_is_waited_for() -> None:
    found = plan(case(pool_record=None))
    assert (found.reason, found.steps) == (Reason.WAITING_FOR_POOL, ())


@row("D05")
@pytest.mark.parametrize("desired", ["Active", "Inactive", "Committed", "Absent"])
def test_a_pool_that_is_not_there_is_waited_for(desired: str) -> None:
    found = plan(case(desired, pool=a.pool_case(live=a.down())))
    assert (found.reason, found.steps) == (Reason.WAITING_FOR_POOL, ())


@row("D06")
def test_under_a_stuck_pool_nothing_is_done() -> None:
    found = plan(case("Inactive", live=thin(), pool=a.pool_case(stuck="no answer")))
    assert (found.reason, found.steps) == (Reason.STUCK, ())


@row("D06")
def test_over_a_suspended_disk_nothing_is_done() -> None:
    pool = in_pool(suspended_below=(Below("pv", "LVM-x"),))
    found = plan(case(live=thin(suspended=True), seen=SUSPENDED, pool=pool))
    assert (found.reason, found.steps) == (Reason.STUCK, ())


@row("D07")
def test_under_a_suspended_pool_nothing_is_resumed() -> None:
    pool = in_pool(device=a.pool_device(suspended=True))
    found = plan(case(live=thin(suspended=True), seen=SUSPENDED, pool=pool))
    assert (found.reason, found.steps) == (Reason.WAITING_FOR_POOL, ())


@row("D08")
@pytest.mark.parametrize("status", DAMAGED)
def test_in_a_damaged_pool_what_hangs_is_let_go(status: PoolStatus | PoolFailure) -> None:
    this = case(live=thin(suspended=True, waiting=(a.table_of(),)), seen=SUSPENDED, pool=in_pool(of=status))
    assert steps(this) == (Clear(NAME), Resume(NAME))


@row("D08")
@pytest.mark.parametrize("status", DAMAGED)
def test_in_a_damaged_pool_nothing_is_brought_up_or_deleted(status: PoolStatus | PoolFailure) -> None:
    for desired in ("Active", "Absent"):
        found = plan(case(desired, pool=in_pool(of=status)))
        assert (found.reason, found.steps) == (Reason.POOL_UNHEALTHY, ())


@row("D08")
@pytest.mark.parametrize("desired", ["Inactive", "Committed", "Absent"])
def test_in_a_damaged_pool_what_should_not_be_up_is_taken_down(desired: str) -> None:
    pool = in_pool(of=a.status(PoolMode.RO))
    assert steps(case(desired, live=thin(), pool=pool)) == (Remove(NAME, UUID),)
    assert steps(case(desired, live=thin(opened=1), pool=pool)) == ()


@row("D08")
def test_in_a_damaged_pool_a_suspended_shell_is_not_resumed() -> None:
    this = case(live=a.shell(suspended=True), seen=SUSPENDED, pool=in_pool(of=a.status(PoolMode.RO)))
    assert steps(this) == ()


@row("D09")
def test_with_an_unexpected_transaction_nothing_is_made_or_loaded() -> None:
    pool = in_pool(of=a.status(transaction=9))
    for this in (case(pool=pool), case(knowing=None, pool=pool), case(live=thin(9), pool=pool)):
        found = plan(this)
        assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())


@row("D09")
def test_with_an_unexpected_transaction_what_hangs_is_let_go() -> None:
    this = case(live=thin(suspended=True), seen=SUSPENDED, pool=in_pool(of=a.status(transaction=9)))
    assert steps(this) == (Resume(NAME),)


@row("D10")
def test_without_data_space_no_snapshot_is_taken() -> None:
    pool = in_pool(of=a.status(PoolMode.OUT_OF_DATA_SPACE))
    this = case(knowing=None, spec={"snapshotOf": "golden"}, origin=a.origin(a.golden()), ids={}, pool=pool)
    assert (plan(this).reason, steps(this)) == (Reason.POOL_UNHEALTHY, ())


@row("D11")
def test_in_a_pool_that_the_store_never_saw_nothing_is_made() -> None:
    unknown = a.pool_case(knowing=None, live=a.live_pool(a.pool_device(uuid="")))
    found = plan(case(knowing=None, ids=a.ids(1), pool=unknown))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())


@row("D12")
def test_in_a_pool_that_is_still_being_made_nothing_is_made() -> None:
    found = plan(case(knowing=None, ids={}, pool=a.pool_case(knowing=a.known_pool(created=False))))
    assert (found.reason, found.steps) == (Reason.WAITING_FOR_POOL, ())


EXTERNAL = a.pool_case(recorded=a.pool_record(external=True), knowing=a.known_pool(external=True, transaction_id=0))
ADOPT = {"deviceId": ID, "dmName": NAME}


@row("D13")
def test_a_record_without_adopt_in_an_external_pool_is_an_invalid_change() -> None:
    found = plan(case(knowing=None, pool=EXTERNAL, ids={}))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("D13")
def test_absent_in_an_external_pool_is_an_invalid_change() -> None:
    found = plan(case("Absent", pool=EXTERNAL, spec={"adopt": ADOPT}, knowing=known(adopted=True)))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("D13", "D14")
def test_an_intent_in_a_pool_that_became_external_is_not_carried_out() -> None:
    this = case("Absent", pool=EXTERNAL, intent=a.intent(IntentKind.DELETE, ID))
    assert (plan(this).reason, steps(this)) == (Reason.INVALID_CHANGE, ())


@row("D13")
def test_an_adopted_device_of_an_external_pool_is_healed() -> None:
    adopted: dict[str, Any] = {"pool": EXTERNAL, "spec": {"adopt": ADOPT}, "knowing": known(adopted=True, uuid="LVM-x")}
    assert steps(case(**adopted)) == (Activate(NAME, "LVM-x", a.table_of()),)
    hanging = case(live=thin(uuid="LVM-x", suspended=True), seen=SUSPENDED, **adopted)
    assert steps(hanging) == (Resume(NAME),)
    assert steps(case("Inactive", live=thin(uuid="LVM-x"), **adopted)) == (Remove(NAME, "LVM-x"),)


@row("D15")
@pytest.mark.parametrize("desired", ["Active", "Inactive", "Committed"])
def test_a_lost_thin_is_never_replaced_by_an_empty_one(desired: str) -> None:
    found = plan(case(desired, ids=a.ids(1)))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())
    assert "lost" in found.condition.message


@row("D15")
def test_a_lost_thin_that_is_to_be_absent_goes_its_way() -> None:
    assert plan(case("Absent", ids=a.ids(1))).reason is Reason.PRESENT_BUT_DESIRED_ABSENT


@row("D16")
@pytest.mark.parametrize("desired", ["Active", "Inactive", "Committed", "Absent"])
def test_a_suspension_within_the_grace_is_let_be(desired: str) -> None:
    found = plan(case(desired, live=thin(suspended=True), seen={Sign.SUSPENDED: 2}))
    assert (found.reason, found.steps) == (Reason.SUSPENDED, ())
    assert found.look_again == pytest.approx(3.0)


@row("D16")
def test_what_the_reconciler_itself_suspended_has_no_grace() -> None:
    this = case(live=thin(suspended=True), knowing=known(frozen=True))
    assert steps(this) == (Resume(NAME), KnowDevice(KEY, known()))


@row("D17")
@pytest.mark.parametrize("state", ["Inactive", "Absent"])
def test_under_a_pool_on_its_way_down_nothing_is_brought_up(state: str) -> None:
    pool = a.pool_case(recorded=a.pool_record(state=state))
    for this in (case(pool=pool), case(knowing=None, ids={}, pool=pool)):
        assert (plan(this).reason, steps(this)) == (Reason.WAITING_FOR_POOL, ())
    assert steps(case("Inactive", live=thin(), pool=pool)) == (Remove(NAME, UUID),)


@row("D17")
@pytest.mark.parametrize("desired", RESTING)
def test_what_rests_in_an_inactive_pool_is_as_desired(desired: str) -> None:
    pool = a.pool_case(recorded=a.pool_record(state="Inactive"), live=a.down())
    assert plan(case(desired, pool=pool)).reason is Reason.CONVERGED


@row("D17")
def test_what_is_absent_is_carried_out_under_an_inactive_pool() -> None:
    pool = a.pool_case(recorded=a.pool_record(state="Inactive"))
    assert plan(case("Absent", pool=pool)).reason is Reason.PRESENT_BUT_DESIRED_ABSENT


@row("D18")
@pytest.mark.parametrize("desired", ["Active", "Inactive", "Committed"])
def test_a_device_never_shrinks(desired: str) -> None:
    smaller = {"size": f"{SIZE - 8}s"}
    for live in (None, thin()):
        found = plan(case(desired, live=live, spec=smaller))
        assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("D18")
def test_a_device_that_somebody_made_longer_than_its_record_is_left_alone() -> None:
    found = plan(case(live=thin(size=SIZE + 8)))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("D18")
def test_an_invalid_record_does_not_leave_a_device_hanging() -> None:
    live = thin(suspended=True, waiting=(a.table_of(9),))
    this = case(live=live, seen=SUSPENDED, spec={"size": f"{SIZE - 8}s"})
    assert (plan(this).reason, steps(this)) == (Reason.INVALID_CHANGE, (Clear(NAME), Resume(NAME)))


@row("D19")
@pytest.mark.parametrize("desired", ["Active", "Inactive"])
def test_a_committed_device_stays_committed(desired: str) -> None:
    found = plan(case(desired, knowing=known(committed=True, active=False)))
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
def test_what_is_fixed_when_a_device_is_made_cannot_change(spec: dict[str, object], of_it: KnownDevice) -> None:
    found = plan(case(spec=spec, knowing=of_it))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("D19")
def test_a_missing_origin_is_no_error_once_the_snapshot_exists() -> None:
    this = case(live=thin(), spec={"snapshotOf": "golden"}, knowing=known(origin="golden"))
    assert plan(this).reason is Reason.CONVERGED


@row("D20")
def test_an_active_device_without_a_thin_is_made_and_published() -> None:
    this = case(knowing=None, ids={})
    assert plan(this).reason is Reason.NOT_CREATED
    assert a.kinds(this) == ["Begin", "CreateThin", "SetTransactionId", "Finish", "Activate"]


@row("D21")
def test_an_active_device_that_is_gone_is_activated_with_a_warning() -> None:
    found = plan(case())
    assert found.reason is Reason.INACTIVE_BUT_DESIRED_ACTIVE
    assert found.steps == (Activate(NAME, UUID, a.table_of()),)
    assert found.condition.message == 'device "tank-a" is recorded as Active but is not active, activating it'


@row("D21")
def test_a_device_that_was_inactive_is_activated_without_a_warning() -> None:
    found = plan(case(knowing=known(active=False)))
    assert "recorded as Active" not in found.condition.message
    assert found.steps == (Activate(NAME, UUID, a.table_of()), KnowDevice(KEY, known()))


@row("D21", "D29")
def test_a_device_that_grew_while_it_was_inactive_is_activated_longer_and_its_filesystem_follows() -> None:
    before = known(active=False, filesystem="ext4")
    grown = replace(before, active=True, size=TWICE)
    assert steps(case(knowing=before, spec={"size": f"{TWICE}s"})) == (
        Activate(NAME, UUID, a.table_of(size=TWICE)),
        KnowDevice(KEY, grown),
        GrowFilesystem(NAME, "ext4"),
        KnowDevice(KEY, replace(grown, filesystem_size=TWICE)),
    )


@row("D22")
def test_a_shell_is_given_its_table_once_its_grace_is_over() -> None:
    assert plan(case(live=a.shell())).look_again == pytest.approx(a.GRACE)
    this = case(live=a.shell(), seen={Sign.NO_TABLE: LONG_AGO})
    assert (plan(this).reason, steps(this)) == (Reason.TABLELESS_SHELL, (Load(NAME, a.table_of()),))


@row("D22")
def test_a_suspended_shell_is_given_its_table_too() -> None:
    this = case(live=a.shell(suspended=True), seen={Sign.NO_TABLE: LONG_AGO, Sign.SUSPENDED: LONG_AGO})
    assert steps(this) == (Load(NAME, a.table_of()),)


@row("D23")
def test_a_suspended_device_is_resumed() -> None:
    this = case(live=thin(suspended=True, opened=3), seen=SUSPENDED)
    assert (plan(this).reason, steps(this)) == (Reason.SUSPENDED, (Resume(NAME),))


@row("D23")
def test_a_wanted_table_that_waits_goes_live_with_the_resume() -> None:
    assert steps(case(live=thin(suspended=True, waiting=(a.table_of(),)), seen=SUSPENDED)) == (Resume(NAME),)


@row("D23")
@pytest.mark.parametrize("waiting", [a.error_table(), (a.table_of(9),), (a.table_of(size=8),)])
def test_an_unwanted_table_that_waits_is_cleared_before_the_resume(waiting: Table) -> None:
    assert steps(case(live=thin(suspended=True, waiting=waiting), seen=SUSPENDED)) == (Clear(NAME), Resume(NAME))


@row("D24")
def test_a_table_left_in_the_inactive_slot_is_cleared_once_its_grace_is_over() -> None:
    live = thin(waiting=(a.table_of(9),))
    assert plan(case(live=live)).look_again == pytest.approx(a.GRACE)
    this = case(live=live, seen={Sign.INACTIVE_TABLE: LONG_AGO})
    assert (plan(this).reason, steps(this)) == (Reason.INACTIVE_TABLE_LEFT, (Clear(NAME),))


WRONG = [a.other_table(), (a.table_of(9),), (a.table_of(pool=Devno(253, 9)),)]


@row("D25")
@pytest.mark.parametrize("table", WRONG)
def test_a_closed_device_with_a_wrong_table_is_given_the_right_one(table: Table) -> None:
    this = case(live=thin(table=table))
    assert (plan(this).reason, steps(this)) == (Reason.WRONG_TABLE, (Load(NAME, a.table_of()),))


@row("D26")
@pytest.mark.parametrize("table", WRONG)
def test_under_an_open_device_no_other_table_is_ever_loaded(table: Table) -> None:
    found = plan(case(live=thin(table=table, opened=1, holders=("mounted at /mnt",))))
    assert (found.reason, found.condition.beneath, found.steps) == (Reason.BUSY, Reason.WRONG_TABLE, ())
    assert "mounted at /mnt" in found.condition.message


@row("D27")
@pytest.mark.parametrize("opened", [0, 1])
def test_an_error_table_is_replaced_also_under_an_open_device(opened: int) -> None:
    this = case(live=thin(table=a.error_table(), opened=opened))
    assert (plan(this).reason, steps(this)) == (Reason.WRONG_TABLE, (Load(NAME, a.table_of()),))


@row("D27")
def test_an_open_error_table_of_another_size_is_left() -> None:
    assert plan(case(live=thin(table=a.error_table(SIZE + 8), opened=1))).reason is Reason.BUSY


@row("D25", "D27")
def test_a_wrong_table_that_is_longer_than_the_device_is_no_reason_to_leave_it() -> None:
    assert steps(case(live=thin(table=a.error_table(SIZE + 8)))) == (Load(NAME, a.table_of()),)


@row("D28")
def test_a_device_becomes_read_only_only_when_it_is_closed() -> None:
    spec = {"readOnly": True}
    now = known(read_only=True)
    assert steps(case(live=thin(), spec=spec, knowing=now)) == (Load(NAME, a.table_of(), read_only=True),)
    assert plan(case(live=thin(opened=1), spec=spec)).reason is Reason.BUSY


@row("D28")
def test_a_device_becomes_writable_also_while_it_is_open() -> None:
    this = case(live=thin(opened=1, read_only=True))
    assert (plan(this).reason, steps(this)) == (Reason.WRONG_TABLE, (Load(NAME, a.table_of()),))


@row("D29")
def test_a_device_that_is_too_small_grows_and_its_filesystem_with_it() -> None:
    before = known(filesystem="xfs")
    grown = replace(before, size=TWICE)
    this = case(live=thin(opened=1), knowing=before, spec={"size": f"{TWICE}s"})
    assert plan(this).reason is Reason.WRONG_SIZE
    assert steps(this) == (
        Load(NAME, a.table_of(size=TWICE)),
        KnowDevice(KEY, grown),
        GrowFilesystem(NAME, "xfs"),
        KnowDevice(KEY, replace(grown, filesystem_size=TWICE)),
    )


@row("D29")
def test_a_record_without_a_size_follows_a_device_that_its_owner_made_longer() -> None:
    adopted = known(adopted=True)
    spec = {"adopt": ADOPT, "size": None}
    assert steps(case(live=thin(size=TWICE), knowing=adopted, spec=spec)) == (
        KnowDevice(KEY, replace(adopted, size=TWICE)),
    )


@row("D30")
def test_a_filesystem_that_is_smaller_than_its_device_is_grown() -> None:
    half = known(filesystem="ext4", filesystem_size=0)
    this = case(live=thin(), knowing=half)
    assert plan(this).reason is Reason.WRONG_SIZE
    assert steps(this) == (GrowFilesystem(NAME, "ext4"), KnowDevice(KEY, replace(half, filesystem_size=SIZE)))


@row("D30")
def test_a_filesystem_on_a_read_only_device_is_never_grown() -> None:
    half = known(filesystem="ext4", filesystem_size=0, read_only=True)
    assert steps(case(live=thin(read_only=True), knowing=half, spec={"readOnly": True})) == ()


@row("D31")
def test_a_deferred_removal_is_cancelled() -> None:
    this = case(live=thin(deferred_remove=True, opened=1))
    assert (plan(this).reason, steps(this)) == (Reason.DEFERRED_REMOVE_PENDING, (CancelDeferredRemove(NAME),))


@row("D32")
def test_a_missing_node_is_made_once_udev_had_its_time() -> None:
    live = thin(missing=("/dev/mapper/tank-a",))
    assert plan(case(live=live)).look_again == pytest.approx(1.0)
    this = case(live=live, seen={Sign.NODE: 2})
    assert (plan(this).reason, steps(this)) == (Reason.NODE_MISSING, (RefreshNodes(NAME, Devno(253, 1)),))


@row("D33")
def test_a_thin_that_answers_fail_is_reported() -> None:
    found = plan(case(live=thin(status=ThinFailure("Fail"))))
    assert (found.reason, found.steps) == (Reason.POOL_UNHEALTHY, ())


@row("D34")
@pytest.mark.parametrize("desired", RESTING)
def test_a_resting_device_is_made_and_never_published(desired: str) -> None:
    this = case(desired, knowing=None, ids={})
    assert a.kinds(this) == ["Begin", "CreateThin", "SetTransactionId", "Finish"]


REASONS = {
    "Inactive": Reason.ACTIVE_BUT_DESIRED_INACTIVE,
    "Committed": Reason.COMMITTED_BUT_ACTIVE,
    "Absent": Reason.PRESENT_BUT_DESIRED_ABSENT,
}


@row("D35", "D38")
@pytest.mark.parametrize("desired", REASONS)
def test_what_should_not_be_up_and_hangs_is_let_go_first(desired: str) -> None:
    this = case(desired, live=thin(suspended=True, opened=2, waiting=a.error_table()), seen=SUSPENDED)
    assert (plan(this).reason, steps(this)) == (REASONS[desired], (Clear(NAME), Resume(NAME)))


@row("D36", "D38")
@pytest.mark.parametrize("desired", REASONS)
def test_what_should_not_be_up_and_is_closed_is_removed(desired: str) -> None:
    this = case(desired, live=thin())
    assert (plan(this).reason, steps(this)) == (REASONS[desired], (Remove(NAME, UUID),))


@row("D36")
def test_a_suspended_shell_is_removed_without_a_resume_that_cannot_succeed() -> None:
    seen = {Sign.SUSPENDED: LONG_AGO, Sign.NO_TABLE: LONG_AGO}
    assert steps(case("Inactive", live=a.shell(suspended=True), seen=seen)) == (Remove(NAME, UUID),)


@row("D36")
def test_the_size_of_what_somebody_made_longer_is_noted_before_it_is_removed() -> None:
    this = case("Inactive", live=thin(size=TWICE), spec={"size": None, "adopt": ADOPT})
    assert steps(this) == (KnowDevice(KEY, known(size=TWICE)), Remove(NAME, UUID))


@row("D36")
@pytest.mark.parametrize(
    ("live", "sign"), [(thin(waiting=(a.table_of(),)), Sign.INACTIVE_TABLE), (a.shell(), Sign.NO_TABLE)]
)
def test_somebody_between_load_and_resume_is_not_disturbed(live: LiveDevice, sign: Sign) -> None:
    assert plan(case("Inactive", live=live)).look_again == pytest.approx(a.GRACE)
    assert steps(case("Inactive", live=live)) == ()
    assert steps(case("Inactive", live=live, seen={sign: LONG_AGO})) == (Remove(NAME, UUID),)


@row("D37", "D38")
@pytest.mark.parametrize("desired", REASONS)
def test_what_should_not_be_up_and_is_open_is_busy(desired: str) -> None:
    found = plan(case(desired, live=thin(opened=1, holders=("device dm-9",))))
    assert (found.reason, found.condition.beneath, found.steps) == (Reason.BUSY, REASONS[desired], ())
    assert "device dm-9" in found.condition.message


@row("D39")
def test_an_absent_device_is_deleted_with_its_intent_flushed_first() -> None:
    this = case("Absent")
    assert plan(this).reason is Reason.PRESENT_BUT_DESIRED_ABSENT
    assert steps(this) == (
        Begin(KEY, a.intent(IntentKind.DELETE, ID, uuid=UUID)),
        DeleteThin("tank", ID, a.TRANSACTION),
        SetTransactionId("tank", a.TRANSACTION),
        Finish(KEY, None),
    )


@row("D39")
def test_blocks_are_given_back_before_the_delete_where_asked() -> None:
    this = case("Absent", spec={"discardOnDelete": True})
    assert steps(this)[1] == DiscardThin(PRIVATE, f"{UUID}-private", a.table_of())


@row("D39")
def test_the_private_device_of_an_adopted_thin_is_known_as_ours_after_a_crash() -> None:
    spec = {"discardOnDelete": True, "adopt": ADOPT}
    this = case("Absent", spec=spec, knowing=known(adopted=True, uuid="LVM-x"))
    discard = steps(this)[1]
    assert isinstance(discard, DiscardThin)
    assert steps(replace(this, private=private(uuid=discard.uuid))) == (Remove(PRIVATE, discard.uuid),)


@row("D39")
def test_a_delete_waits_for_another_operation_on_the_pool() -> None:
    found = plan(case("Absent", other_intent="tank/other"))
    assert (found.reason, found.steps) == (Reason.WAITING_FOR_POOL, ())


@row("D40")
@pytest.mark.parametrize(
    "pool", [None, a.pool_case(live=a.down()), in_pool(of=a.status(PoolMode.RO)), a.pool_case(knowing=None)]
)
def test_an_absent_device_of_which_there_is_nothing_is_as_desired(pool: PoolCase | None) -> None:
    found = plan(case("Absent", knowing=None, pool=pool))
    assert (found.reason, found.steps) == (Reason.CONVERGED, ())


@row("D40")
def test_an_absent_record_never_adopts_as_its_id_may_be_somebody_elses_by_now() -> None:
    spec = {"adopt": ADOPT}
    assert steps(case("Absent", knowing=None, spec=spec, ids=a.ids(ID))) == ()
    live = plan(case("Absent", knowing=None, spec=spec, live=thin(uuid=""), ids=a.ids(ID)))
    assert (live.reason, live.steps) == (Reason.CONFLICT, ())


@row("D42")
def test_a_thin_that_nobody_names_is_never_touched() -> None:
    assert steps(a.pool_case(ids=a.ids(1, 2, 99))) == ()


@row("D43")
@pytest.mark.parametrize("desired", RESTING)
def test_a_resting_device_is_as_desired_and_what_is_news_is_noted(desired: str) -> None:
    resting = known(active=False, committed=desired == "Committed")
    assert steps(case(desired)) == (KnowDevice(KEY, resting),)
    done = plan(case(desired, knowing=resting))
    assert (done.reason, done.steps, done.condition.ready) == (Reason.CONVERGED, (), True)


@row("D43")
def test_an_active_device_is_as_desired() -> None:
    done = plan(case(live=thin(opened=1)))
    assert (done.reason, done.steps, done.look_again) == (Reason.CONVERGED, (), None)
