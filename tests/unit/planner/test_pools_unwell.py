"""Live pools in trouble, P19 to P20: each cause on its own, and what may be done to the devices then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolFailure, PoolMode, PoolStatus
from reconciler.model.live import LiveBacking, LiveDevice, PathKind, ThinEntry
from reconciler.model.records import ThinPool
from reconciler.model.steps import DeleteThin, GrowFile, LoadPool, SavePool
from reconciler.model.stored import IntentKind
from reconciler.model.units import Bytes
from reconciler.planner.facts import Access, PoolFacts, PruneVerdict
from reconciler.planner.ownership import access_to
from tests.unit.planner import builders as a
from tests.unit.planner.builders import (
    DATA_SIZE,
    LENGTH,
    METADATA_SIZE,
    known_pool,
    live_pool,
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
EXTEND = {"threshold": "80%", "step": "50%", "max": "4GiB"}
METADATA_FULL = status(PoolMode.RO, metadata_used=16384)
DATA_FULL = status(PoolMode.OUT_OF_DATA_SPACE, data_used=16384)
FAIL = PoolFailure(PoolMode.FAIL, "Fail")
READ_ONLY = pool_table(read_only=True)


def live(device: LiveDevice | None = None, *, record: ThinPool | None = None, **world: Any) -> PoolFacts:
    return pool_facts(recorded=record or pool_record(), live=live_pool(device, **world))


@row("P19")
@pytest.mark.parametrize("found_status", [status(PoolMode.NEEDS_CHECK), FAIL])
def test_a_damaged_pool_is_not_written_to_and_its_repair_is_told(found_status: PoolStatus | PoolFailure) -> None:
    found = plan(live(pool_device(pool_table(LENGTH // 2)), of=found_status))
    assert (found.reason, found.steps) == (Reason.POOL_UNHEALTHY, ())
    assert "thin_check" in found.condition.message
    # it stays Busy as long as one device is live
    assert "in its record and in those of its devices" in found.condition.message


@row("P19")
def test_of_one_that_is_full_besides_the_repair_comes_first() -> None:
    found = plan(live(of=status(PoolMode.NEEDS_CHECK, metadata_used=16384), record=pool_record(extend=EXTEND)))
    assert (found.reason, found.steps) == (Reason.POOL_UNHEALTHY, ())
    assert "It is full besides" in found.condition.message


@row("P19")
def test_what_is_not_understood_is_left_alone() -> None:
    found = plan(live(of=PoolFailure(PoolMode.ERROR, "later words")))
    assert (found.reason, found.steps) == (Reason.POOL_UNHEALTHY, ())
    assert "`later words`" in found.condition.message


@row("P19")
def test_a_pool_that_is_ro_and_does_not_tell_why_is_left_alone() -> None:
    found = plan(live(of=status(PoolMode.RO)))
    assert (found.reason, found.steps) == (Reason.POOL_UNHEALTHY, ())
    assert "thin_check" not in found.condition.message


@row("P19a")
def test_a_table_that_says_read_only_is_loaded_without() -> None:
    found = plan(live(pool_device(READ_ONLY), of=status(PoolMode.RO)))
    assert (found.reason, found.steps) == (Reason.POOL_TABLE_WRONG, (LoadPool("tank", shape()),))


@row("P19a")
def test_a_flag_counts_before_the_table() -> None:
    assert steps(live(pool_device(READ_ONLY), of=status(PoolMode.NEEDS_CHECK))) == ()


@row("P19b")
def test_metadata_that_is_full_grows_with_its_record() -> None:
    bigger = pool_record(metadata={"file": "/srv/tank.meta", "size": "128MiB"})
    assert steps(live(of=METADATA_FULL, record=bigger)) == (
        GrowFile("/srv/tank.meta", Bytes(2 * METADATA_SIZE), allocate=True),
        SavePool(KEY, known_pool(metadata_size=Bytes(2 * METADATA_SIZE))),
        LoadPool("tank", shape()),
    )


@row("P19b")
def test_metadata_that_is_full_grows_by_extend() -> None:
    bigger = Bytes(METADATA_SIZE * 3 // 2)
    found = plan(live(of=METADATA_FULL, record=pool_record(extend=EXTEND)))
    assert found.reason is Reason.POOL_LOW
    assert found.steps == (
        GrowFile("/srv/tank.meta", bigger, allocate=True),
        SavePool(KEY, known_pool(metadata_size=bigger)),
        LoadPool("tank", shape()),
    )


@row("P19b")
def test_metadata_that_somebody_made_longer_by_hand_is_taken_up() -> None:
    this = live(of=METADATA_FULL, metadata=a.metadata(2 * METADATA_SIZE))
    bigger = known_pool(metadata_size=Bytes(2 * METADATA_SIZE))
    assert steps(this) == (SavePool(KEY, bigger), LoadPool("tank", shape()))


def on_devices(**sizes: int) -> PoolFacts:
    """A pool with data and metadata on /dev/vg/data and /dev/vg/meta."""
    disks: dict[str, Any] = {
        name: LiveBacking(PathKind.BLOCK, Bytes(sizes.get(name, size)), devno)
        for name, size, devno in (("data", DATA_SIZE, a.DATA_DEVNO), ("metadata", METADATA_SIZE, a.METADATA_DEVNO))
    }
    record = pool_record(data={"device": "/dev/vg/data"}, metadata={"device": "/dev/vg/meta"})
    knowing = known_pool(data="/dev/vg/data", metadata="/dev/vg/meta", made_files=())
    return pool_facts(recorded=record, knowing=knowing, live=live_pool(**disks))


@row("P19b", "P25")
@pytest.mark.parametrize(
    ("found_status", "node"),
    [(METADATA_FULL, "/dev/vg/meta"), (DATA_FULL, "/dev/vg/data"), (status(data_used=16000), "/dev/vg/data")],
)
def test_on_devices_only_what_works_is_advised(found_status: PoolStatus, node: str) -> None:
    this = on_devices()
    found = plan(replace(this, live=replace(this.live, status=found_status)))
    assert found.steps == ()
    assert f"make {node} larger" in found.condition.message
    assert ".size" not in found.condition.message
    assert "`extend`" not in found.condition.message


@row("P19b")
def test_a_metadata_device_that_grew_is_taken_up_while_the_pool_is_ro() -> None:
    this = on_devices(metadata=2 * METADATA_SIZE)
    found = plan(replace(this, live=replace(this.live, status=METADATA_FULL)))
    assert [type(step) for step in found.steps] == [SavePool, LoadPool]


@row("P19b")
def test_metadata_that_is_full_without_a_way_to_grow_is_told_with_the_field() -> None:
    found = plan(live(of=METADATA_FULL))
    assert (found.reason, found.steps) == (Reason.POOL_UNHEALTHY, ())
    assert "raise `metadata.size`" in found.condition.message
    assert "data.size` and" not in found.condition.message
    assert "thin_check" not in found.condition.message


@pytest.mark.security("S42")
@row("P20")
def test_an_unexpected_transaction_is_told() -> None:
    found = plan(live(of=status(transaction=9)))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())


@row("P20")
@pytest.mark.parametrize("found_status", [status(transaction=9), replace(DATA_FULL, transaction_id=9)])
def test_at_an_unexpected_transaction_a_pool_grows_all_the_same(found_status: PoolStatus) -> None:
    table = pool_table(LENGTH // 2) if found_status.mode is PoolMode.RW else pool_table()
    found = plan(live(pool_device(table), of=found_status, record=pool_record(extend=EXTEND)))
    assert found.reason is Reason.METADATA_MISMATCH
    assert isinstance(found.steps[-1], LoadPool)
    assert all(isinstance(step, GrowFile | SavePool | LoadPool) for step in found.steps)


@row("P20")
def test_what_an_old_store_knows_is_no_reason_to_grow_by_less() -> None:
    """The pool has been extended since that copy of the store was made."""
    size = Bytes(2 * GIB)
    world: dict[str, Any] = {"data": a.data(size), "of": replace(DATA_FULL, transaction_id=9, data_total=32768)}
    found = plan(live(pool_device(pool_table(size // 512)), record=pool_record(extend=EXTEND), **world))
    known = next(step for step in found.steps if isinstance(step, SavePool))
    assert known.pool.data_size == 3 * GIB


@row("P20")
@pytest.mark.parametrize("transaction", [4, 5])
def test_the_transaction_of_an_operation_under_way_is_expected(transaction: int) -> None:
    this = live(of=status(transaction=transaction))
    assert plan(replace(this, intents=(a.intent(IntentKind.CREATE),))).reason is Reason.CONVERGED


@row("P22")
def test_a_pool_that_went_on_failing_writes_lets_them_wait_again() -> None:
    late = status(errors_when_full=True)
    assert steps(live(of=late)) == (LoadPool("tank", shape()),)
    told = plan(live(of=replace(DATA_FULL, errors_when_full=True)))
    assert "no_space_timeout" in told.condition.message


# What may be done to the devices


@row("D10")
def test_a_full_pool_lets_go_of_what_is_absent() -> None:
    pool = live(of=DATA_FULL)
    assert access_to(pool).access is Access.RELEASE
    deleting = plan(a.facts("Absent", pool=pool))
    assert any(isinstance(step, DeleteThin) for step in deleting.steps)
    pruned = plan(a.orphan(PruneVerdict.DELETE, pool=pool, ids=a.ids(a.ID)))
    assert any(isinstance(step, DeleteThin) for step in pruned.steps)


@row("D10")
def test_in_a_full_pool_nothing_is_made_or_loaded() -> None:
    pool = live(of=DATA_FULL)
    assert plan(a.facts(pool=pool, knowing=None, ids={})).steps == ()
    assert plan(a.facts(pool=pool)).steps == ()


@row("D10")
def test_what_a_crash_left_half_made_in_a_full_pool_is_undone() -> None:
    pool = live(of=DATA_FULL)
    this = a.facts(pool=pool, knowing=None, intent=a.intent(), ids=a.ids(_8=ThinEntry(0, a.TRANSACTION)))
    assert any(isinstance(step, DeleteThin) for step in plan(this).steps)


@row("D08")
def test_a_pool_whose_metadata_is_full_says_so_to_its_devices() -> None:
    found = plan(a.facts("Absent", pool=live(of=METADATA_FULL)))
    assert (found.reason, found.steps) == (Reason.POOL_UNHEALTHY, ())
    assert "its metadata is full" in found.condition.message


@row("M14")
@pytest.mark.parametrize(("used", "makes"), [(15565, True), (15566, False)])
def test_with_the_last_of_the_metadata_nothing_is_made(used: int, makes: bool) -> None:
    pool = live(of=status(metadata_used=used))
    new = plan(a.facts(pool=pool, knowing=None, ids={}))
    assert bool(new.steps) is makes
    assert makes or new.reason is Reason.WAITING_FOR_POOL
    copy = a.facts(
        pool=pool, knowing=None, ids=a.ids(3), origin=a.origin(), spec={"snapshotOf": "golden", "size": None}
    )
    assert bool(plan(copy).steps) is makes
    assert plan(a.facts(pool=pool)).steps, "what is there is brought up"
    assert plan(a.facts("Absent", pool=pool)).steps, "and deleted"


@row("M14")
def test_metadata_that_is_down_to_its_last_is_extended_whatever_the_threshold() -> None:
    late = pool_record(extend={**EXTEND, "threshold": "99%"})
    assert isinstance(steps(live(of=status(metadata_used=15566), record=late))[0], GrowFile)


@row("P19b")
def test_one_that_was_only_begun_is_ours_and_grows_too() -> None:
    bigger = pool_record(metadata={"file": "/srv/tank.meta", "size": "128MiB"})
    this = replace(live(of=METADATA_FULL, record=bigger), known=known_pool(created=False, transaction_id=0), ids=None)
    assert "GrowFile" in a.kinds(this)
    assert steps(replace(this, known=None)) == ()
