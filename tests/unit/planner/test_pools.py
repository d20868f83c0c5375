"""docs/reference/healing.md, "Pools": at least one test for each row about a live pool."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import Devno, PoolMode, PoolStatus, PoolTable
from reconciler.model.live import Below, LiveBacking, LiveDevice, LivePool, PathKind
from reconciler.model.steps import (
    CancelDeferredRemove,
    Clear,
    GrowFile,
    LoadPool,
    MakeWritable,
    RefreshNodes,
    RemovePool,
    Resume,
    SavePool,
)
from reconciler.model.stored import StoredPool
from reconciler.model.units import Bytes, Sectors
from reconciler.planner.facts import PoolFacts
from reconciler.planner.plan import Sign
from reconciler.planner.pool_shape import METADATA_MOST
from tests.unit.planner import builders as a
from tests.unit.planner.builders import (
    DATA_SIZE,
    LENGTH,
    LONG_AGO,
    METADATA_SIZE,
    POOL_UUID,
    known_pool,
    live_pool,
    loop,
    plan,
    pool_device,
    pool_facts,
    pool_record,
    pool_table,
    row,
    shape,
    status,
    steps,
)

GIB = 1024**3
KEY = pool_record().key
SUSPENDED = {Sign.SUSPENDED: LONG_AGO}
STATES = ["Active", "Inactive", "Absent"]


def live(device: LiveDevice | None = None, seen: dict[Sign, float] | None = None, **rest: Any) -> PoolFacts:
    return pool_facts(live=live_pool(device, **rest), seen=seen)


@row("P01")
def test_a_paused_pool_is_left_alone_and_its_drift_stays_visible() -> None:
    this = live(pool_device(suspended=True), SUSPENDED)
    found = plan(replace(this, record=pool_record(paused=True)))
    assert (found.reason, found.condition.beneath, found.steps) == (Reason.PAUSED, Reason.POOL_SUSPENDED, ())


@pytest.mark.security("S18")
@row("P02")
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    "device",
    [
        pool_device(uuid="LVM-x", suspended=True),
        pool_device(uuid=a.FOREIGN_UUID),
        pool_device(a.other_table(), uuid=""),
        pool_device(pool_table(data=Devno(8, 1)), uuid=""),
        pool_device(pool_table(block=Sectors(256)), uuid=""),
    ],
)
def test_a_name_carried_by_a_foreign_device_is_a_conflict(state: str, device: LiveDevice) -> None:
    found = plan(pool_facts(recorded=pool_record(state=state), live=live_pool(device), seen=SUSPENDED))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())


@row("P02")
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("device", [None, pool_device(uuid="LVM-x", suspended=True)])
def test_a_renamed_pool_is_ours_and_the_command_is_told(state: str, device: LiveDevice | None) -> None:
    world = replace(a.down() if device is None else live_pool(device), renamed="tonk")
    found = plan(pool_facts(recorded=pool_record(state=state), live=world, seen=SUSPENDED))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())
    assert "`dmsetup rename tonk tank` puts it right" in found.condition.message
    assert ("another device" in found.condition.message) == (device is not None)


@row("P02")
def test_without_a_uuid_the_pool_on_the_records_disks_is_ours() -> None:
    assert plan(live(pool_device(uuid=""))).reason is Reason.CONVERGED


@row("P03")
@pytest.mark.parametrize("state", STATES)
def test_a_pool_that_does_not_answer_is_stuck(state: str) -> None:
    found = plan(pool_facts(recorded=pool_record(state=state), stuck="no answer for 5 s"))
    assert (found.reason, found.steps) == (Reason.STUCK, ())


@row("P04")
@pytest.mark.parametrize("state", STATES)
def test_nothing_is_sent_to_a_pool_over_a_suspended_disk(state: str) -> None:
    this = live(pool_device(suspended=True), SUSPENDED, suspended_below=(Below("vg-pv", "LVM-x"),))
    found = plan(replace(this, record=pool_record(state=state)))
    assert (found.reason, found.steps) == (Reason.STUCK, ())
    assert "vg-pv" in found.condition.message


@row("P12")
@pytest.mark.parametrize("suspended", [False, True])
def test_a_shell_is_removed_so_that_the_pool_comes_back_with_all_checks(suspended: bool) -> None:
    device = pool_device(live_table=False, suspended=suspended)
    assert plan(live(device)).requeue_after == pytest.approx(a.GRACE)
    this = live(device, {Sign.NO_TABLE: LONG_AGO, Sign.SUSPENDED: LONG_AGO})
    assert (plan(this).reason, steps(this)) == (Reason.TABLELESS_SHELL, (RemovePool("tank", POOL_UUID),))


@row("P13")
def test_a_suspended_pool_is_resumed_after_its_grace() -> None:
    assert plan(live(pool_device(suspended=True))).requeue_after == pytest.approx(a.GRACE)
    this = live(pool_device(suspended=True), SUSPENDED)
    assert (plan(this).reason, steps(this)) == (Reason.POOL_SUSPENDED, (Resume("tank"),))


@row("P13")
def test_a_suspended_pool_is_not_resumed_into_the_table_that_waits() -> None:
    this = live(pool_device(suspended=True, waiting=a.error_table()), SUSPENDED)
    assert steps(this) == (Clear("tank"), Resume("tank"))


@row("P13")
def test_a_pool_suspended_under_a_table_that_is_too_short_is_given_a_good_one() -> None:
    this = live(pool_device(pool_table(LENGTH // 2), suspended=True), SUSPENDED)
    assert steps(this) == (LoadPool("tank", shape()),)


@row("P13")
def test_a_size_that_is_no_multiple_of_the_block_does_not_make_the_table_too_short() -> None:
    odd = known_pool(data_size=Bytes(DATA_SIZE + 4096))
    assert steps(replace(live(pool_device(suspended=True), SUSPENDED), known=odd)) == (Resume("tank"),)


@row("P14")
def test_a_table_left_in_the_inactive_slot_is_cleared_after_its_grace() -> None:
    device = pool_device(waiting=a.error_table())
    assert plan(live(device)).requeue_after == pytest.approx(a.GRACE)
    this = live(device, {Sign.INACTIVE_TABLE: LONG_AGO})
    assert (plan(this).reason, steps(this)) == (Reason.INACTIVE_TABLE_LEFT, (Clear("tank"),))


@row("P15")
def test_a_deferred_removal_is_cancelled() -> None:
    this = live(pool_device(deferred_remove=True))
    assert (plan(this).reason, steps(this)) == (Reason.DEFERRED_REMOVE_PENDING, (CancelDeferredRemove("tank"),))


@row("P41")
@pytest.mark.parametrize("state", STATES)
def test_the_flag_that_makes_a_pools_own_device_read_only_is_cleared(state: str) -> None:
    this = replace(live(pool_device(read_only=True)), record=pool_record(state=state))
    if state != "Inactive":
        assert (plan(this).reason, steps(this)) == (Reason.POOL_TABLE_WRONG, (MakeWritable("tank", None),))
    else:
        assert not any(isinstance(step, MakeWritable) for step in steps(this)), "it is going anyway"


@row("P16")
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    "spec",
    [
        {"blockSize": "128KiB"},
        {"data": {"file": "/srv/other", "size": "1GiB"}},
        {"metadata": {"file": "/srv/other", "size": "64MiB"}},
    ],
)
@pytest.mark.parametrize("world", [live_pool(), a.down()])
def test_what_is_fixed_when_a_pool_is_made_cannot_change(state: str, spec: dict[str, Any], world: LivePool) -> None:
    elsewhere = {name: replace(getattr(world, name), devno=Devno(7, 9)) for name in spec if name != "blockSize"}
    world = replace(world, **elsewhere)
    found = plan(pool_facts(recorded=pool_record(state=state, **spec), live=world, ids={}))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("P16")
def test_a_live_pool_whose_paths_lead_elsewhere_now_is_left_alone() -> None:
    found = plan(live(data=a.data(devno=Devno(7, 9))))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())
    assert "/srv/tank.data leads to 7:9 now" in found.condition.message
    assert "put back what was there" in found.condition.message


UNKNOWN_LIVE = live_pool(pool_device(uuid=""), of=status(transaction=0))


@row("P17")
def test_an_empty_pool_on_the_records_disks_becomes_known() -> None:
    this = pool_facts(knowing=None, live=UNKNOWN_LIVE)
    assert plan(this).needs_ids
    expected = known_pool(uuid="", transaction_id=0, made_files=())
    assert steps(replace(this, ids={})) == (SavePool(KEY, expected, empty=True),)


@pytest.mark.security("S42")
@row("P18")
@pytest.mark.parametrize("transaction", [0, 3])
def test_a_pool_that_the_store_never_saw_and_that_is_not_empty_is_left_alone(transaction: int) -> None:
    world = live_pool(pool_device(uuid=""), of=status(transaction=transaction))
    found = plan(pool_facts(knowing=None, live=world, ids=a.ids(1)))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())


@row("P18")
def test_a_pool_that_is_not_empty_is_taken_over_where_its_record_says_so() -> None:
    world = live_pool(pool_device(uuid="LVM-x"), of=status(transaction=3))
    this = pool_facts(recorded=pool_record(adopt=True), knowing=None, live=world)
    assert steps(this) == (SavePool(KEY, known_pool(uuid="LVM-x", transaction_id=3, made_files=())),)


@row("P21")
def test_a_pool_smaller_than_its_record_grows_file_first_then_knowledge_then_table() -> None:
    bigger = pool_record(
        data={"file": "/srv/tank.data", "size": "2GiB", "preallocate": True},
        metadata={"file": "/srv/tank.meta", "size": "128MiB"},
    )
    this = pool_facts(recorded=bigger)
    assert plan(this).reason is Reason.WRONG_SIZE
    assert steps(this) == (
        GrowFile("/srv/tank.data", Bytes(2 * GIB), allocate=True),
        GrowFile("/srv/tank.meta", Bytes(2 * METADATA_SIZE), allocate=True),
        SavePool(KEY, known_pool(data_size=Bytes(2 * GIB), metadata_size=Bytes(2 * METADATA_SIZE))),
        LoadPool("tank", shape()),
    )


@row("P21")
def test_a_pool_never_shrinks_to_a_smaller_record() -> None:
    smaller = pool_record(data={"file": "/srv/tank.data", "size": "512MiB"})
    assert plan(pool_facts(recorded=smaller)).reason is Reason.CONVERGED


@row("P21")
def test_a_pool_extended_before_a_crash_is_given_the_rest() -> None:
    extended = known_pool(data_size=Bytes(2 * GIB))
    this = replace(live(data=a.data(2 * GIB)), known=extended)
    assert steps(this) == (LoadPool("tank", shape()),)


@row("P21")
def test_a_loop_that_lags_behind_its_file_is_told_to_look() -> None:
    lagging = a.data(2 * GIB, loops=(loop(a.DATA_DEVNO, GIB),))
    this = replace(live(data=lagging), known=known_pool(data_size=Bytes(2 * GIB)))
    assert steps(this) == (
        GrowFile("/srv/tank.data", Bytes(2 * GIB), allocate=False),
        LoadPool("tank", shape()),
    )


@row("P21")
def test_a_device_that_grew_is_used_whole() -> None:
    record = pool_record(data={"device": "/dev/vg/data"})
    known = known_pool(data="/dev/vg/data", made_files=())
    disk = LiveBacking(PathKind.BLOCK, Bytes(2 * GIB), a.DATA_DEVNO)
    this = pool_facts(recorded=record, knowing=known, live=live_pool(data=disk))
    expected = replace(known, data_size=Bytes(2 * GIB))
    assert steps(this) == (SavePool(KEY, expected), LoadPool("tank", shape(data={"device": "/dev/vg/data"})))


@row("P21")
@pytest.mark.parametrize(("total", "grows"), [(16384, False), (16383, True)])
def test_metadata_is_used_to_its_last_whole_block(total: int, grows: bool) -> None:
    assert bool(steps(live(of=status(metadata_total=total)))) is grows


@row("P21", "P26")
def test_metadata_beyond_what_the_kernel_uses_is_no_drift() -> None:
    """On 6.1, a pool with 16 GiB of metadata shows 4161600 blocks."""
    record = pool_record(metadata={"file": "/srv/tank.meta", "size": "16GiB"})
    known = known_pool(metadata_size=Bytes(16 * GIB))
    world = live_pool(metadata=a.metadata(16 * GIB), of=status(metadata_total=4161600))
    assert plan(pool_facts(recorded=record, knowing=known, live=world)).reason is Reason.CONVERGED
    assert METADATA_MOST == 4161600 * 4096


@row("P22")
@pytest.mark.parametrize(
    "table",
    [
        pool_table(low_water=1),
        pool_table(zero_new_blocks=False),
        pool_table(discards="nopassdown"),
        pool_table(error_if_full=True),
    ],
)
def test_features_that_differ_are_loaded(table: PoolTable) -> None:
    this = live(pool_device(table))
    assert (plan(this).reason, steps(this)) == (Reason.POOL_TABLE_WRONG, (LoadPool("tank", shape()),))


@row("P22", "P26")
@pytest.mark.parametrize("percent", ["1%", "33%", "100%"])
def test_what_a_load_of_the_wanted_features_shows_is_no_drift(percent: str) -> None:
    loaded = shape(lowWaterMark=percent).table(LENGTH, a.METADATA_DEVNO, a.DATA_DEVNO)
    this = replace(live(pool_device(loaded)), record=pool_record(lowWaterMark=percent))
    assert a.plan(this).reason is not Reason.POOL_TABLE_WRONG


@row("P23")
@pytest.mark.parametrize(
    ("found", "wanted"), [("ignore", "passdown"), ("passdown", "ignore"), ("nopassdown", "ignore")]
)
def test_discards_never_go_to_or_from_ignore_while_live(found: str, wanted: str) -> None:
    this = replace(live(pool_device(pool_table(discards=found))), record=pool_record(discards=wanted))
    assert (plan(this).reason, steps(this)) == (Reason.INVALID_CHANGE, ())


EXTEND = {"threshold": "80%", "step": "50%", "max": "4GiB"}
FULL = status(PoolMode.OUT_OF_DATA_SPACE, data_used=16384)


def extending(*, knowing: StoredPool | None = None, **world: Any) -> PoolFacts:
    return pool_facts(recorded=pool_record(extend=EXTEND), knowing=knowing or known_pool(), live=live_pool(**world))


@row("P24")
@pytest.mark.parametrize("found", [FULL, status(data_used=13108)])
def test_a_pool_that_fills_up_extends_itself(found: PoolStatus) -> None:
    bigger = Bytes(GIB * 3 // 2)
    this = extending(of=found)
    assert plan(this).reason is Reason.POOL_LOW
    assert steps(this) == (
        GrowFile("/srv/tank.data", bigger, allocate=False),
        SavePool(KEY, known_pool(data_size=bigger)),
        LoadPool("tank", shape()),
    )


@row("P24")
def test_metadata_that_fills_up_is_extended_by_itself_and_allocated() -> None:
    bigger = Bytes(METADATA_SIZE * 3 // 2)
    this = extending(of=status(metadata_used=14000), data=a.data(free_space=Bytes(0)))
    assert steps(this) == (
        GrowFile("/srv/tank.meta", bigger, allocate=True),
        SavePool(KEY, known_pool(metadata_size=bigger)),
        LoadPool("tank", shape()),
    )


@row("P24")
def test_room_for_metadata_does_not_have_to_do_for_data_too() -> None:
    assert steps(extending(of=FULL, metadata=a.metadata(free_space=Bytes(0)))) != ()


@row("P24")
def test_an_extension_repeated_after_a_crash_ends_at_the_same_size() -> None:
    bigger = Bytes(GIB * 3 // 2)
    this = extending(of=FULL, data=a.data(bigger))
    assert steps(this) == (SavePool(KEY, known_pool(data_size=bigger)), LoadPool("tank", shape()))


@row("P24")
def test_an_extension_ends_at_its_maximum_in_whole_blocks() -> None:
    size = Bytes(3 * GIB)
    world: dict[str, Any] = {"data": a.data(size), "device": pool_device(pool_table(size // 512)), "of": FULL}
    know = next(
        step for step in steps(extending(knowing=known_pool(data_size=size), **world)) if isinstance(step, SavePool)
    )
    assert know.pool.data_size == 4 * GIB


@row("P25")
def test_a_pool_at_its_maximum_is_reported_and_not_loaded_for_ever() -> None:
    size = Bytes(4 * GIB)
    world: dict[str, Any] = {"data": a.data(size), "device": pool_device(pool_table(size // 512)), "of": FULL}
    found = plan(extending(knowing=known_pool(data_size=size), **world))
    assert (found.reason, found.steps) == (Reason.POOL_UNHEALTHY, ())
    assert "extend.max" in found.condition.message


@row("P25")
def test_a_pool_without_room_below_it_is_reported() -> None:
    found = plan(extending(of=FULL, data=a.data(free_space=Bytes(1))))
    assert (found.reason, found.steps) == (Reason.POOL_UNHEALTHY, ())
    nearly = plan(extending(of=status(data_used=16000), data=a.data(free_space=Bytes(1))))
    assert (nearly.reason, nearly.steps) == (Reason.POOL_LOW, ())


@row("P25")
@pytest.mark.parametrize(
    ("found_status", "reason"),
    [
        (status(data_used=15000), Reason.POOL_LOW),
        (status(metadata_used=13000), Reason.POOL_LOW),
        (FULL, Reason.POOL_UNHEALTHY),
    ],
)
def test_a_pool_that_does_not_extend_itself_is_reported(found_status: PoolStatus, reason: Reason) -> None:
    found = plan(live(of=found_status))
    assert (found.reason, found.steps) == (reason, ())
    assert "extend" in found.condition.message


@row("P26")
def test_a_pool_as_its_record_asks_is_converged() -> None:
    found = plan(pool_facts())
    assert (found.reason, found.steps, found.requeue_after) == (Reason.CONVERGED, (), None)


def without_node(**rest: Any) -> LivePool:
    return live_pool(replace(pool_device(), missing_nodes=("/dev/mapper/tank",)), **rest)


@row("P26a")
def test_a_pool_without_its_node_gets_it_after_a_moment() -> None:
    gone = without_node()
    assert (plan(pool_facts(live=gone)).reason, plan(pool_facts(live=gone)).steps) == (Reason.NODE_MISSING, ())
    found = plan(pool_facts(live=gone, seen={Sign.NODE: LONG_AGO}))
    assert (found.reason, found.steps) == (Reason.NODE_MISSING, (RefreshNodes("tank", Devno(253, 0)),))


@row("P26a")
def test_a_low_pool_grows_before_it_gets_its_node() -> None:
    record = pool_record(extend={"threshold": "80%", "step": "20%", "max": "4GiB"})
    low = without_node(of=status(data_used=15000))
    found = plan(pool_facts(recorded=record, live=low, seen={Sign.NODE: LONG_AGO}))
    assert found.reason is Reason.POOL_LOW
    assert found.steps
    told = plan(pool_facts(live=low, seen={Sign.NODE: LONG_AGO}))
    assert told.reason is Reason.NODE_MISSING


@row("P38")
@pytest.mark.parametrize("world", [live_pool(pool_device(suspended=True)), a.down()])
def test_a_pool_without_a_record_is_left_as_it_is(world: LivePool) -> None:
    found = plan(pool_facts(recorded=None, live=world, seen=SUSPENDED))
    assert (found.reason, found.steps, found.condition.good) == (Reason.ORPHANED, (), True)
