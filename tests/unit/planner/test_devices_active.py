"""Devices whose records are Active: rows D20 to D32 of docs/reference/healing.md."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import Devno, Table
from reconciler.model.steps import (
    Activate,
    CancelDeferredRemove,
    Clear,
    GrowFilesystem,
    Load,
    MakeWritable,
    RefreshNodes,
    Resume,
    SaveDevice,
)
from reconciler.model.units import Sectors
from reconciler.planner.plan import Sign
from tests.unit.planner import builders as a
from tests.unit.planner.builders import KEY, LONG_AGO, NAME, SIZE, UUID, facts, known, plan, row, steps, thin

TWICE = Sectors(2 * SIZE)
SUSPENDED = {Sign.SUSPENDED: LONG_AGO}


@row("D20")
def test_an_active_device_without_a_thin_is_made_and_published() -> None:
    this = facts(knowing=None, ids={})
    assert plan(this).reason is Reason.NOT_CREATED
    assert a.kinds(this) == ["BeginIntent", "CreateThin", "SetTransactionId", "CompleteIntent", "Activate"]


@row("D21")
def test_an_active_device_that_is_gone_is_activated_with_a_warning() -> None:
    found = plan(facts())
    assert found.reason is Reason.INACTIVE_BUT_DESIRED_ACTIVE
    assert found.steps == (Activate(NAME, UUID, a.table_of()),)
    assert found.condition.message == 'device "tank-a" is recorded as Active but is not active, activating it'


@row("D21")
def test_a_device_that_was_inactive_is_activated_without_a_warning() -> None:
    found = plan(facts(knowing=known(active=False)))
    assert "recorded as Active" not in found.condition.message
    assert found.steps == (Activate(NAME, UUID, a.table_of()), SaveDevice(KEY, known()))


@row("D21", "D29")
def test_a_device_that_grew_while_it_was_inactive_is_activated_longer_and_its_filesystem_follows() -> None:
    before = known(active=False, filesystem="ext4")
    grown = replace(before, active=True, size=TWICE)
    assert steps(facts(knowing=before, spec={"size": f"{TWICE}s"})) == (
        Activate(NAME, UUID, a.table_of(size=TWICE)),
        SaveDevice(KEY, grown),
        GrowFilesystem(NAME, "ext4"),
        SaveDevice(KEY, replace(grown, filesystem_size=TWICE)),
    )


@row("D22")
def test_a_shell_is_given_its_table_once_its_grace_is_over() -> None:
    assert plan(facts(live=a.shell())).requeue_after == pytest.approx(a.GRACE)
    this = facts(live=a.shell(), seen={Sign.NO_TABLE: LONG_AGO})
    assert (plan(this).reason, steps(this)) == (Reason.TABLELESS_SHELL, (Load(NAME, a.table_of()),))


@row("D22")
def test_a_suspended_shell_is_given_its_table_too() -> None:
    this = facts(live=a.shell(suspended=True), seen={Sign.NO_TABLE: LONG_AGO, Sign.SUSPENDED: LONG_AGO})
    assert steps(this) == (Load(NAME, a.table_of()),)


@row("D23")
def test_a_suspended_device_is_resumed() -> None:
    this = facts(live=thin(suspended=True, opened=3), seen=SUSPENDED)
    assert (plan(this).reason, steps(this)) == (Reason.SUSPENDED, (Resume(NAME),))


@row("D23")
def test_a_wanted_table_that_waits_goes_live_with_the_resume() -> None:
    assert steps(facts(live=thin(suspended=True, waiting=(a.table_of(),)), seen=SUSPENDED)) == (Resume(NAME),)


@row("D23")
@pytest.mark.parametrize("waiting", [a.error_table(), (a.table_of(9),), (a.table_of(size=8),)])
def test_an_unwanted_table_that_waits_is_cleared_before_the_resume(waiting: Table) -> None:
    assert steps(facts(live=thin(suspended=True, waiting=waiting), seen=SUSPENDED)) == (Clear(NAME), Resume(NAME))


@row("D24")
def test_a_table_left_in_the_inactive_slot_is_cleared_once_its_grace_is_over() -> None:
    live = thin(waiting=(a.table_of(9),))
    assert plan(facts(live=live)).requeue_after == pytest.approx(a.GRACE)
    this = facts(live=live, seen={Sign.INACTIVE_TABLE: LONG_AGO})
    assert (plan(this).reason, steps(this)) == (Reason.INACTIVE_TABLE_LEFT, (Clear(NAME),))


WRONG = [a.other_table(), (a.table_of(9),), (a.table_of(pool=Devno(253, 9)),)]


@row("D25")
@pytest.mark.parametrize("table", WRONG)
def test_a_closed_device_with_a_wrong_table_is_given_the_right_one(table: Table) -> None:
    this = facts(live=thin(table=table))
    assert (plan(this).reason, steps(this)) == (Reason.WRONG_TABLE, (Load(NAME, a.table_of()),))


@row("D26")
@pytest.mark.parametrize("table", WRONG)
def test_under_an_open_device_no_other_table_is_ever_loaded(table: Table) -> None:
    found = plan(facts(live=thin(table=table, opened=1, holders=("mounted at /mnt",))))
    assert (found.reason, found.condition.beneath, found.steps) == (Reason.BUSY, Reason.WRONG_TABLE, ())
    assert "mounted at /mnt" in found.condition.message


@row("D27")
@pytest.mark.parametrize("opened", [0, 1])
def test_an_error_table_is_replaced_also_under_an_open_device(opened: int) -> None:
    this = facts(live=thin(table=a.error_table(), opened=opened))
    assert (plan(this).reason, steps(this)) == (Reason.WRONG_TABLE, (Load(NAME, a.table_of()),))


@row("D27")
def test_an_open_error_table_of_another_size_is_left() -> None:
    assert plan(facts(live=thin(table=a.error_table(SIZE + 8), opened=1))).reason is Reason.BUSY


@row("D25", "D27")
def test_a_wrong_table_that_is_longer_than_the_device_is_no_reason_to_leave_it() -> None:
    assert steps(facts(live=thin(table=a.error_table(SIZE + 8)))) == (Load(NAME, a.table_of()),)


@row("D28")
def test_a_device_becomes_read_only_only_when_it_is_closed() -> None:
    spec = {"readOnly": True}
    now = known(read_only=True)
    assert steps(facts(live=thin(), spec=spec, knowing=now)) == (Load(NAME, a.table_of(), read_only=True),)
    assert plan(facts(live=thin(opened=1), spec=spec)).reason is Reason.BUSY


@row("D28")
def test_a_device_that_is_too_small_and_not_writable_is_made_writable_first_and_then_longer() -> None:
    """The noted size is the one that was loaded; otherwise the filesystem would never be grown."""
    before = known(filesystem="ext4")
    live = a.thin(read_only=True)
    this = facts(live=live, knowing=before, spec={"size": f"{TWICE}s"})
    assert steps(this) == (MakeWritable(NAME, a.table_of(size=TWICE)),)
    grown = replace(before, size=TWICE)
    assert steps(replace(this, live=a.thin())) == (
        Load(NAME, a.table_of(size=TWICE)),
        SaveDevice(KEY, grown),
        GrowFilesystem(NAME, "ext4"),
        SaveDevice(KEY, replace(grown, filesystem_size=TWICE)),
    )


@row("D28")
def test_a_device_becomes_writable_also_while_it_is_open() -> None:
    this = facts(live=thin(opened=1, read_only=True))
    assert (plan(this).reason, steps(this)) == (Reason.WRONG_TABLE, (MakeWritable(NAME, a.table_of()),))


@row("D29")
def test_a_device_that_is_too_small_grows_and_its_filesystem_with_it() -> None:
    before = known(filesystem="xfs")
    grown = replace(before, size=TWICE)
    this = facts(live=thin(opened=1), knowing=before, spec={"size": f"{TWICE}s"})
    assert plan(this).reason is Reason.WRONG_SIZE
    assert steps(this) == (
        Load(NAME, a.table_of(size=TWICE)),
        SaveDevice(KEY, grown),
        GrowFilesystem(NAME, "xfs"),
        SaveDevice(KEY, replace(grown, filesystem_size=TWICE)),
    )


@row("D29")
def test_a_record_without_a_size_follows_a_device_that_its_owner_made_longer() -> None:
    adopted = known(adopted=True)
    spec = {"adopt": a.ADOPT, "size": None}
    assert steps(facts(live=thin(size=TWICE), knowing=adopted, spec=spec)) == (
        SaveDevice(KEY, replace(adopted, size=TWICE)),
    )


@row("D30")
def test_a_filesystem_that_is_smaller_than_its_device_is_grown() -> None:
    half = known(filesystem="ext4", filesystem_size=0)
    this = facts(live=thin(), knowing=half)
    assert plan(this).reason is Reason.WRONG_SIZE
    assert steps(this) == (GrowFilesystem(NAME, "ext4"), SaveDevice(KEY, replace(half, filesystem_size=SIZE)))


@row("D30")
def test_a_filesystem_on_a_read_only_device_is_never_grown() -> None:
    half = known(filesystem="ext4", filesystem_size=0, read_only=True)
    assert steps(facts(live=thin(read_only=True), knowing=half, spec={"readOnly": True})) == ()


@row("D31")
def test_a_deferred_removal_is_cancelled() -> None:
    this = facts(live=thin(deferred_remove=True, opened=1))
    assert (plan(this).reason, steps(this)) == (Reason.DEFERRED_REMOVE_PENDING, (CancelDeferredRemove(NAME),))


@row("D32")
def test_a_missing_node_is_made_once_udev_had_its_time() -> None:
    live = thin(missing=("/dev/mapper/tank-a",))
    assert plan(facts(live=live)).requeue_after == pytest.approx(1.0)
    this = facts(live=live, seen={Sign.NODE: 2})
    assert (plan(this).reason, steps(this)) == (Reason.NODE_MISSING, (RefreshNodes(NAME, Devno(253, 1)),))
