"""docs/reference/healing.md, "Pools": a pool that is to be taken down or deleted, or is half made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolFailure, PoolMode, PoolStatus
from reconciler.model.live import LivePool, Superblock
from reconciler.model.records import ThinPool
from reconciler.model.steps import (
    ActivatePool,
    ConfirmEmpty,
    DeleteFile,
    DetachLoop,
    ForgetRecord,
    RemovePool,
    SavePool,
    ZeroSuperblock,
)
from reconciler.planner.plan import Sign
from tests.unit.planner import builders as a
from tests.unit.planner.builders import (
    BACK,
    LONG_AGO,
    POOL_UUID,
    at_rest,
    down,
    known_pool,
    live_pool,
    missing,
    plan,
    pool_device,
    pool_facts,
    pool_record,
    row,
    shape,
    status,
    steps,
)

KEY = pool_record().key
DATA, META = "/srv/tank.data", "/srv/tank.meta"
BEGUN = known_pool(created=False, transaction_id=0)
"""The stored state while the pool is being made."""
GOING = known_pool(created=False)
"""The stored state while the pool is being deleted."""
NOTHING = LivePool(None, None, missing(), missing())
ABSENT, INACTIVE = pool_record(state="Absent"), pool_record(state="Inactive")
ZEROED = at_rest(superblock=Superblock.ZERO, transaction_id=None)


# Down


@row("P27")
@pytest.mark.parametrize("record", [INACTIVE, ABSENT])
def test_a_pool_with_live_devices_stays(record: ThinPool) -> None:
    found = plan(pool_facts(recorded=record, devices_live=("tank-a",), ids={}))
    assert (found.reason, found.steps) == (Reason.BUSY, ())
    assert "tank-a" in found.condition.message


@row("P27")
@pytest.mark.parametrize("record", [INACTIVE, ABSENT])
def test_a_pool_whose_own_device_is_open_stays(record: ThinPool) -> None:
    found = plan(pool_facts(recorded=record, live=live_pool(pool_device(opened=1)), ids={}))
    assert (found.reason, found.steps) == (Reason.BUSY, ())


DOWN = (RemovePool("tank", POOL_UUID), DetachLoop(DATA), DetachLoop(META))


@row("P28")
@pytest.mark.parametrize("found", [status(), status(PoolMode.RO), PoolFailure(PoolMode.FAIL, "Fail")])
def test_an_inactive_pool_is_taken_down_also_if_it_is_damaged(found: PoolStatus | PoolFailure) -> None:
    this = pool_facts(recorded=INACTIVE, live=live_pool(of=found))
    assert (plan(this).reason, steps(this)) == (Reason.ACTIVE_BUT_DESIRED_INACTIVE, DOWN)


@row("P28")
def test_an_inactive_pool_that_is_suspended_has_its_grace() -> None:
    this = pool_facts(recorded=INACTIVE, live=live_pool(pool_device(suspended=True)))
    assert plan(this).requeue_after == pytest.approx(a.GRACE)
    assert steps(this) == ()
    assert steps(replace(this, grace=a.grace_of({Sign.SUSPENDED: LONG_AGO}))) == DOWN


@row("P28")
def test_an_inactive_pool_that_is_down_keeps_nothing_but_its_files() -> None:
    assert steps(pool_facts(recorded=INACTIVE, live=down())) == DOWN[1:]
    rest = down(data=a.data(loops=()), metadata=at_rest(loops=()))
    assert plan(pool_facts(recorded=INACTIVE, live=rest)).reason is Reason.CONVERGED


@row("P28")
def test_a_loop_that_somebody_else_uses_stays() -> None:
    world = down(data=a.data(used_by=("device copy",)), metadata=at_rest(loops=()))
    assert steps(pool_facts(recorded=INACTIVE, live=world)) == ()


@row("P28")
def test_an_inactive_pool_that_the_store_never_saw_is_left_alone() -> None:
    world = live_pool(pool_device(uuid=""), of=status())
    found = plan(pool_facts(recorded=INACTIVE, knowing=None, live=world, ids=a.ids(1)))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())


@row("P29")
@pytest.mark.parametrize(
    ("record", "reason"),
    [(INACTIVE, Reason.ACTIVE_BUT_DESIRED_INACTIVE), (ABSENT, Reason.PRESENT_BUT_DESIRED_ABSENT)],
)
def test_a_pool_from_which_a_device_is_to_be_deleted_is_brought_up(record: ThinPool, reason: Reason) -> None:
    """It is not converged meanwhile, so that nobody who waits for the deletion goes on."""
    assert steps(pool_facts(recorded=record, live=down(), needed=True)) == BACK
    found = plan(pool_facts(recorded=record, needed=True))
    assert (found.reason, found.condition.good, found.steps) == (reason, False, ())


@row("P29")
@pytest.mark.parametrize("mode", [PoolMode.RO, PoolMode.NEEDS_CHECK, PoolMode.FAIL])
def test_a_pool_that_cannot_delete_goes_down_for_its_repair_though_a_device_waits(mode: PoolMode) -> None:
    of = PoolFailure(mode, "Fail") if mode is PoolMode.FAIL else status(mode)
    found = plan(pool_facts(recorded=INACTIVE, live=live_pool(of=of), needed=True))
    assert "RemovePool" in [type(step).__name__ for step in found.steps]


@row("P29")
def test_a_pool_whose_superblock_says_needs_check_stays_down_though_a_device_waits() -> None:
    ill = down(metadata=replace(at_rest(), needs_check=True))
    found = plan(pool_facts(recorded=INACTIVE, live=ill, needed=True))
    assert "ActivatePool" not in [type(step).__name__ for step in found.steps]


@row("P37")
def test_a_pool_that_fell_ill_while_it_was_made_says_how_it_is_repaired() -> None:
    """The thin ids of the pool cannot be read any more."""
    found = plan(pool_facts(knowing=BEGUN, live=live_pool(of=status(PoolMode.NEEDS_CHECK))))
    assert (found.reason, found.needs_ids) == (Reason.POOL_UNHEALTHY, False)
    assert "thin_check" in found.condition.message


@row("P30")
@pytest.mark.parametrize(
    "rest",
    [
        {"known_devices": ("a",), "ids": {}},
        {"ids": a.ids(3), "live": live_pool(of=status(data_used=0))},
        {"ids": {}, "live": live_pool(of=status(data_used=1))},
    ],
)
def test_a_pool_that_is_not_provably_empty_is_never_deleted(rest: dict[str, Any]) -> None:
    found = plan(pool_facts(recorded=ABSENT, **rest))
    assert (found.reason, found.steps) == (Reason.BUSY, ())


@row("P31")
def test_a_pool_that_is_to_go_is_brought_up_to_see_whether_it_is_empty() -> None:
    assert steps(pool_facts(recorded=ABSENT, live=down())) == BACK
    assert plan(pool_facts(recorded=ABSENT)).needs_ids


@row("P32")
@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (status(PoolMode.RO), Reason.POOL_UNHEALTHY),
        (PoolFailure(PoolMode.FAIL, "Fail"), Reason.POOL_UNHEALTHY),
        (status(transaction=9, data_used=0), Reason.METADATA_MISMATCH),
    ],
)
def test_a_pool_that_is_not_healthy_and_expected_is_never_deleted(
    found: PoolStatus | PoolFailure, reason: Reason
) -> None:
    this = pool_facts(recorded=ABSENT, live=live_pool(of=found), ids={})
    assert (plan(this).reason, steps(this)) == (reason, ())


VOID = live_pool(of=status(data_used=0))
REST = (DetachLoop(DATA), DetachLoop(META), DeleteFile(DATA), DeleteFile(META), ForgetRecord(KEY))


@row("P33")
def test_an_empty_pool_is_deleted_with_the_files_that_were_made_for_it() -> None:
    this = pool_facts(recorded=ABSENT, live=VOID, ids={})
    assert plan(this).reason is Reason.PRESENT_BUT_DESIRED_ABSENT
    begin = (ConfirmEmpty("tank"), SavePool(KEY, GOING), RemovePool("tank", POOL_UUID))
    assert steps(this) == (*begin, ZeroSuperblock(META), *REST)


@row("P33")
def test_a_file_that_was_there_before_is_not_deleted() -> None:
    this = pool_facts(recorded=ABSENT, knowing=known_pool(made_files=(META,)), live=VOID, ids={})
    assert DeleteFile(DATA) not in steps(this)


@row("P34")
def test_the_deletion_of_a_pool_whose_metadata_is_gone_says_how_to_end_it() -> None:
    found = plan(pool_facts(recorded=ABSENT, live=down(metadata=ZEROED), known_devices=("a",)))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())
    assert "forget pool tank" in found.condition.message


@row("P34")
def test_the_metadata_of_another_pool_is_never_zeroed() -> None:
    found = plan(pool_facts(recorded=ABSENT, knowing=GOING, live=down(metadata=at_rest(99))))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())


@row("P35")
def test_an_absent_pool_that_was_never_known_is_as_desired() -> None:
    assert plan(pool_facts(recorded=ABSENT, knowing=None, live=down())).reason is Reason.CONVERGED


@row("P35")
def test_an_absent_pool_that_is_live_and_was_never_known_is_left_alone() -> None:
    world = live_pool(pool_device(uuid=""), of=status(transaction=0, data_used=0))
    found = plan(pool_facts(recorded=ABSENT, knowing=None, live=world, ids={}))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())


# Crashes on the way


GONE = LivePool(None, None, missing(), missing())


@row("P33", "P36")
@pytest.mark.parametrize(
    ("world", "expected"),
    [
        (VOID, (RemovePool("tank", POOL_UUID), ZeroSuperblock(META), *REST)),
        (down(), (ZeroSuperblock(META), *REST)),
        (down(metadata=ZEROED), REST),
        (down(data=a.data(loops=()), metadata=replace(ZEROED, loops=())), REST[2:]),
        (down(data=missing(), metadata=replace(ZEROED, loops=())), (DeleteFile(META), ForgetRecord(KEY))),
        (GONE, (ForgetRecord(KEY),)),
    ],
)
@pytest.mark.parametrize("state", ["Absent", "Active", "Inactive"])
def test_a_deletion_goes_on_wherever_it_was_interrupted(world: LivePool, expected: object, state: str) -> None:
    this = pool_facts(recorded=pool_record(state=state), knowing=GOING, live=world, ids={})
    assert steps(this) == expected
    reason = Reason.PRESENT_BUT_DESIRED_ABSENT if state == "Absent" else Reason.INVALID_CHANGE
    assert plan(this).reason is reason


FRESH = a.metadata(superblock=Superblock.ZERO)
MADE = (ActivatePool("tank", POOL_UUID, shape(), 0, fresh=True), SavePool(KEY, replace(BEGUN, created=True)))


@row("P37")
@pytest.mark.parametrize(
    ("world", "expected"),
    [
        (NOTHING, ["MakeFile", "AttachLoop", "MakeFile", "AttachLoop"]),
        (LivePool(None, None, a.data(loops=()), missing()), ["AttachLoop", "MakeFile", "AttachLoop"]),
        (LivePool(None, None, a.data(), missing()), ["MakeFile", "AttachLoop"]),
        (LivePool(None, None, a.data(), replace(FRESH, loops=())), ["AttachLoop"]),
        (LivePool(None, None, a.data(), FRESH), []),
        (LivePool(None, None, a.data(), at_rest(0)), []),
    ],
)
def test_a_creation_goes_on_wherever_it_was_interrupted(world: LivePool, expected: list[str]) -> None:
    this = pool_facts(knowing=BEGUN, live=world)
    assert a.kinds(this) == [*expected, "ActivatePool", "SavePool"]
    assert steps(this)[-2:] == MADE


@row("P37")
def test_a_creation_interrupted_between_create_and_load_begins_with_the_shell() -> None:
    world = live_pool(pool_device(live_table=False))
    world = replace(world, status=None)
    this = pool_facts(knowing=BEGUN, live=world, seen={Sign.NO_TABLE: LONG_AGO})
    assert steps(this) == (RemovePool("tank", POOL_UUID),)


@row("P37")
def test_a_pool_that_is_live_and_not_noted_yet_is_noted() -> None:
    this = pool_facts(knowing=BEGUN, live=live_pool(of=status(transaction=0)), ids={})
    assert steps(this) == (SavePool(KEY, known_pool(transaction_id=0), empty=True),)


@row("P37")
@pytest.mark.parametrize(
    "world",
    [
        LivePool(None, None, a.data(signature="ext4"), FRESH),
        LivePool(None, None, a.data(), a.metadata(superblock=Superblock.OTHER)),
        LivePool(None, None, a.data(), at_rest(3)),
    ],
)
def test_what_somebody_put_in_the_place_of_a_half_made_pool_is_left_alone(world: LivePool) -> None:
    found = plan(pool_facts(knowing=BEGUN, live=world))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())


@row("P37")
def test_a_half_made_pool_that_is_not_wanted_any_more_is_cleared_away() -> None:
    former = replace(BEGUN, made_files=(DATA, META, "/srv/former"))
    this = pool_facts(recorded=ABSENT, knowing=former, live=LivePool(None, None, a.data(loops=()), missing()))
    assert steps(this) == (DeleteFile(DATA), DetachLoop("/srv/former"), DeleteFile("/srv/former"), ForgetRecord(KEY))
