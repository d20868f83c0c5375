"""docs/reference/healing.md, "Pools": a pool that is not live, which is new, or is known and brought back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.live import LiveBacking, LivePool, PathKind, Superblock
from reconciler.model.steps import ActivatePool, AttachLoop, GrowFile, MakeFile, SavePool
from reconciler.model.stored import StoredPool
from reconciler.model.units import Bytes
from reconciler.planner.facts import PoolFacts
from tests.unit.planner import builders as a
from tests.unit.planner.builders import (
    BACK,
    DATA_SIZE,
    METADATA_SIZE,
    NEW_UUID,
    TRANSACTION,
    at_rest,
    down,
    known_pool,
    loop,
    missing,
    plan,
    pool_facts,
    pool_record,
    row,
    shape,
    steps,
)

KEY = pool_record().key
DATA, META = "/srv/tank.data", "/srv/tank.meta"
BEGUN = known_pool(created=False, transaction_id=0)
"""The stored state while the pool is being made."""
NOTHING = LivePool(None, None, missing(), missing())
ZEROED = at_rest(superblock=Superblock.ZERO, transaction_id=None)


def disk(**changes: Any) -> LiveBacking:
    usual = LiveBacking(PathKind.BLOCK, DATA_SIZE, a.DATA_DEVNO)
    return replace(usual, **changes)


def on_disks(data: LiveBacking, metadata: LiveBacking) -> PoolFacts:
    """Each backing is a disk of its own, unless `metadata` says otherwise."""
    record = pool_record(data={"device": "/dev/sdb"}, metadata={"device": "/dev/sdc"})
    metadata = replace(metadata, devno=a.METADATA_DEVNO) if metadata.devno == a.DATA_DEVNO else metadata
    return pool_facts(recorded=record, knowing=None, live=LivePool(None, None, data, metadata))


# A new pool


@row("P05")
def test_a_new_pool_is_made_from_nothing_with_its_files_noted_first() -> None:
    begun = replace(BEGUN, uuid=NEW_UUID)
    assert steps(pool_facts(knowing=None, live=NOTHING)) == (
        SavePool(KEY, begun),
        MakeFile(DATA, DATA_SIZE, allocate=False),
        AttachLoop(DATA),
        MakeFile(META, METADATA_SIZE, allocate=True),
        AttachLoop(META),
        ActivatePool("tank", NEW_UUID, shape(), 0, fresh=True),
        SavePool(KEY, replace(begun, created=True)),
    )


@row("P05")
def test_a_new_pool_on_empty_disks_makes_no_file() -> None:
    this = on_disks(disk(), disk(superblock=Superblock.ZERO))
    assert a.kinds(this) == ["SavePool", "ActivatePool", "SavePool"]


@row("P05")
def test_a_disk_that_is_not_there_yet_is_waited_for() -> None:
    found = plan(on_disks(missing(), disk(superblock=Superblock.ZERO)))
    assert (found.reason, found.steps) == (Reason.POOL_MISSING, ())


EMPTY = disk(superblock=Superblock.ZERO)


@row("P06")
@pytest.mark.parametrize(
    ("data", "metadata"),
    [
        (disk(signature="ext4"), EMPTY),
        (disk(used_by=("a mount at /daemon",)), EMPTY),
        (disk(), disk(superblock=Superblock.OTHER)),
        (disk(), disk(superblock=Superblock.UNREAD)),
        (disk(kind=PathKind.FILE), EMPTY),
        (disk(kind=PathKind.OTHER), EMPTY),
        (disk(size=Bytes(512)), EMPTY),
    ],
)
def test_a_disk_that_is_somebodys_is_a_conflict(data: LiveBacking, metadata: LiveBacking) -> None:
    found = plan(on_disks(data, metadata))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())


@row("P06")
@pytest.mark.parametrize(
    "data",
    [
        a.data(),
        a.data(allocated=Bytes(0), signature="xfs"),
        missing(folder_exists=False),
        a.data(allocated=Bytes(0), loops=(loop(a.DATA_DEVNO, 1), loop(a.METADATA_DEVNO, 1))),
        a.data(allocated=Bytes(0), loops=(loop(a.DATA_DEVNO, 1, offset=4096),)),
        a.data(allocated=Bytes(0), loops=(loop(a.DATA_DEVNO, DATA_SIZE, read_only=True),)),
        a.data(allocated=Bytes(0), loops=(loop(a.DATA_DEVNO, 4096, size_limit=Bytes(4096)),)),
        LiveBacking(PathKind.BLOCK, DATA_SIZE),
    ],
)
def test_a_file_that_is_somebodys_is_a_conflict(data: LiveBacking) -> None:
    found = plan(pool_facts(knowing=None, live=LivePool(None, None, data, missing())))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())


@row("P06")
@pytest.mark.parametrize("knowing", [None, known_pool()])
def test_one_device_under_two_names_is_a_conflict(knowing: StoredPool | None) -> None:
    both = LivePool(None, None, a.data(), a.metadata(devno=a.DATA_DEVNO))
    found = plan(pool_facts(knowing=knowing, live=both))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())
    assert "the same device" in found.condition.message


@row("P06")
def test_metadata_for_which_there_is_no_room_is_a_conflict() -> None:
    found = plan(pool_facts(knowing=None, live=LivePool(None, None, missing(), missing(free_space=Bytes(1)))))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())


@row("P06")
def test_an_empty_file_that_somebody_made_is_used_and_never_deleted() -> None:
    empty = a.data(4096, allocated=Bytes(0), loops=())
    found = steps(pool_facts(knowing=None, live=LivePool(None, None, empty, missing())))
    know = found[0]
    assert isinstance(know, SavePool)
    assert know.pool.made_files == (META,)
    assert GrowFile(DATA, DATA_SIZE, allocate=False) in found


@row("P07")
def test_metadata_of_a_pool_that_the_store_never_saw_is_left_alone() -> None:
    found = plan(pool_facts(knowing=None, live=down()))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())


@row("P08")
def test_a_pool_that_is_not_live_is_taken_over_where_its_record_says_so() -> None:
    this = pool_facts(recorded=pool_record(adopt=True), knowing=None, live=down())
    assert steps(this) == (SavePool(KEY, known_pool(uuid=NEW_UUID, made_files=())),)


# A known pool that is not there


@row("P09")
@pytest.mark.parametrize("state", ["Active", "Absent"])
@pytest.mark.parametrize(
    "world",
    [
        NOTHING,
        down(metadata=missing()),
        down(data=missing(folder_exists=False)),
        down(metadata=ZEROED),
        down(metadata=at_rest(superblock=Superblock.OTHER)),
        down(metadata=at_rest(superblock=Superblock.UNREAD)),
        down(metadata=at_rest(TRANSACTION - 1)),
        down(data=a.data(DATA_SIZE - 4096)),
    ],
)
def test_nothing_is_made_in_the_place_of_a_known_pool_that_is_not_whole(state: str, world: LivePool) -> None:
    found = plan(pool_facts(recorded=pool_record(state=state), live=world))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())
    assert "dm-reconciler" in found.condition.message


EMPTY_FILE = a.data(allocated=Bytes(0))


@row("P09")
@pytest.mark.parametrize("state", ["Active", "Absent"])
def test_an_empty_file_in_the_place_of_data_that_is_in_use_is_told_and_not_used(state: str) -> None:
    world = down(data=EMPTY_FILE, metadata=at_rest(data_blocks_used=10))
    found = plan(pool_facts(recorded=pool_record(state=state), live=world))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())
    for words in (DATA, "empty file", "10 blocks", "bring it back", "forget pool tank"):
        assert words in found.condition.message


@row("P10")
def test_a_detached_loop_is_attached_before_the_pool_comes_back() -> None:
    this = pool_facts(live=down(data=a.data(loops=(), devno=None), metadata=at_rest(loops=(), devno=None)))
    assert plan(this).reason is Reason.LOOP_DETACHED
    assert a.kinds(this) == ["AttachLoop", "AttachLoop", "CheckMetadata", "ActivatePool"]


@row("P11")
def test_a_known_pool_that_is_whole_is_checked_and_brought_back() -> None:
    this = pool_facts(live=down())
    assert (plan(this).reason, steps(this)) == (Reason.POOL_MISSING, BACK)


@row("P11")
def test_what_looks_like_a_filesystem_on_the_data_of_a_known_pool_is_its_first_thin() -> None:
    assert steps(pool_facts(live=down(data=a.data(signature="ext4")))) == BACK


@row("P11")
@pytest.mark.parametrize(
    ("data", "used"),
    [
        pytest.param(EMPTY_FILE, 0, id="never written to"),
        pytest.param(a.data(allocated=Bytes(512)), 10, id="written to"),
    ],
)
def test_a_data_file_is_as_it_was_left_where_what_is_in_use_has_room(data: LiveBacking, used: int) -> None:
    assert steps(pool_facts(live=down(data=data, metadata=at_rest(data_blocks_used=used)))) == BACK


@row("P11")
def test_a_disk_has_no_room_to_be_judged_by() -> None:
    this = on_disks(disk(), disk(superblock=Superblock.POOL, transaction_id=TRANSACTION, data_blocks_used=10))
    on_disk = known_pool(data="/dev/sdb", metadata="/dev/sdc", metadata_size=DATA_SIZE, made_files=())
    assert a.kinds(replace(this, known=on_disk)) == ["CheckMetadata", "ActivatePool"]


@row("P06", "P11")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"offset": 4096}, "only from byte 4096"),
        ({"size": 4096, "size_limit": Bytes(4096)}, "only the first 4096 bytes"),
        ({"read_only": True}, "is read-only"),
    ],
)
@pytest.mark.parametrize("word", ["data", "metadata"])
def test_a_loop_that_does_not_give_all_of_a_known_pool_is_a_conflict(
    changes: dict[str, Any], words: str, word: str
) -> None:
    this = loop(a.DATA_DEVNO, **{"size": DATA_SIZE, **changes})
    data: dict[str, Any] = {"loops": (this,)} if word == "data" else {}
    metadata: dict[str, Any] = {"loops": (this,)} if word == "metadata" else {}
    found = plan(pool_facts(live=down(data=a.data(**data), metadata=at_rest(**metadata))))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())
    assert words in found.condition.message
    assert "losetup -d /dev/loop0" in found.condition.message


@row("P11")
def test_a_limit_beyond_all_that_the_record_asks_for_is_none() -> None:
    limited = a.data(loops=(loop(a.DATA_DEVNO, DATA_SIZE, size_limit=DATA_SIZE),))
    assert steps(pool_facts(live=down(data=limited))) == BACK


@row("P11")
def test_a_known_pool_in_use_by_somebody_else_is_a_conflict() -> None:
    found = plan(pool_facts(live=down(data=a.data(used_by=("device copy",)))))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())


@row("P11")
def test_a_loop_that_lags_behind_its_file_would_give_a_table_that_is_too_short() -> None:
    world = down(data=a.data(2 * DATA_SIZE, loops=(loop(a.DATA_DEVNO, DATA_SIZE),)))
    this = pool_facts(knowing=known_pool(data_size=Bytes(2 * DATA_SIZE)), live=world)
    assert steps(this) == (GrowFile(DATA, Bytes(2 * DATA_SIZE), allocate=False), *BACK)


@row("P11", "P21")
def test_a_host_that_went_down_while_the_pool_grew_brings_it_back() -> None:
    """The file is grown before the store knows it, so it may be longer than stored, but never shorter."""
    assert steps(pool_facts(live=down(data=a.data(2 * DATA_SIZE)))) == BACK


@row("P06")
def test_metadata_at_a_transaction_that_was_not_made_here_is_a_conflict_with_the_way_on() -> None:
    metadata = a.metadata(superblock=Superblock.POOL, transaction_id=3)
    found = plan(pool_facts(knowing=BEGUN, live=LivePool(None, None, a.data(allocated=Bytes(0)), metadata)))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())
    assert "`dm-reconciler forget pool tank`, and `adopt: true`" in found.condition.message
