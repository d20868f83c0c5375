"""docs/reference/healing.md: what a pool was on, what it is to use now, and whether these are the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.doctor.checks import PoolView
from reconciler.doctor.repairs import repairs_of
from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import Devno, PoolMode
from reconciler.model.identity import ZEROS, Noted, Start
from reconciler.model.live import LiveBacking, LivePool, PathKind, Superblock
from reconciler.model.steps import ActivatePool, RemovePool, SavePool
from reconciler.model.stored import IntentKind, StoredPool
from reconciler.model.units import Bytes, Sectors, in_bytes
from reconciler.planner.facts import PoolFacts
from tests.unit.planner import builders as a
from tests.unit.planner.builders import (
    DATA_DEVNO,
    DATA_SIZE,
    METADATA_DEVNO,
    METADATA_SIZE,
    TRANSACTION,
    down,
    known_pool,
    live_pool,
    plan,
    pool_facts,
    pool_record,
    row,
    status,
    steps,
)

DATA, METADATA = ("wwn:naa.1",), ("wwn:naa.2",)
EXT4, OTHER = Start("1111", "ext4 aaaa"), Start("2222", "ext4 bbbb")
EMPTY = Start(ZEROS)
LIKE_A_DEVICE = replace(OTHER, size=in_bytes(a.SIZE))
WELL = Noted(DATA, METADATA, Start("", "ext4 aaaa"), TRANSACTION)
AT_REST = Noted(DATA, METADATA, EXT4, TRANSACTION, superblock="5555")
DISKS = {"data": {"device": "/dev/sdb"}, "metadata": {"device": "/dev/sdc"}}
KEY = pool_record().key


def disk(devno: Devno, size: int, **changes: Any) -> LiveBacking:
    return replace(LiveBacking(PathKind.BLOCK, Bytes(size), devno), **changes)


def data(**changes: Any) -> LiveBacking:
    return disk(DATA_DEVNO, DATA_SIZE, **{"marks": DATA, "start": EXT4, **changes})


def metadata(**changes: Any) -> LiveBacking:
    usual = {"marks": METADATA, "superblock": Superblock.POOL, "transaction_id": TRANSACTION}
    return disk(
        METADATA_DEVNO, METADATA_SIZE, **{**usual, "superblock_digest": "5555", "data_blocks_used": 3, **changes}
    )


def known(noted: Noted | None = WELL, **changes: Any) -> StoredPool:
    return known_pool(**{"data": "/dev/sdb", "metadata": "/dev/sdc", "made_files": (), "noted": noted, **changes})


def this(world: LivePool, noted: Noted | None = WELL, **rest: Any) -> PoolFacts:
    spec = rest.pop("spec", {})
    of = {"largest": in_bytes(a.SIZE), **rest}
    return pool_facts(recorded=pool_record(**{**DISKS, **spec}), knowing=known(noted), live=world, **of)


def at_rest(of_data: LiveBacking | None = None, of_metadata: LiveBacking | None = None) -> LivePool:
    return down(data=of_data or data(), metadata=of_metadata or metadata())


def running(of_data: LiveBacking | None = None, **rest: Any) -> LivePool:
    usual = {"superblock": Superblock.UNREAD, "transaction_id": None, "superblock_digest": "", "data_blocks_used": 0}
    return live_pool(data=of_data or data(), metadata=metadata(**usual), **rest)


@row("P09")
def test_another_disk_under_the_path_is_told_with_where_the_right_one_is() -> None:
    found = plan(this(at_rest(data(marks=("wwn:naa.9",), elsewhere="/dev/sdd"))))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())
    for words in ("WWN naa.1", "/dev/sdd now", "/dev/sdb is another one (WWN naa.9)", "doctor --fix"):
        assert words in found.condition.message


@row("P09")
def test_two_paths_that_were_swapped_are_told_and_nothing_is_brought_up() -> None:
    world = at_rest(data(marks=METADATA), metadata(marks=DATA, superblock=Superblock.OTHER, transaction_id=None))
    found = plan(this(world))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())
    assert "the data of pool tank was on the disk with WWN naa.1" in found.condition.message


@row("P09")
def test_a_path_that_leads_nowhere_says_where_its_disk_is() -> None:
    found = plan(this(at_rest(data(kind=PathKind.MISSING, elsewhere="/dev/sdd"))))
    assert found.reason is Reason.METADATA_MISMATCH
    assert "the disk that it was on is /dev/sdd now" in found.condition.message


@row("P09")
@pytest.mark.parametrize(
    ("noted", "found", "used"),
    [
        pytest.param(WELL, OTHER, 3, id="another filesystem than the one that was there"),
        pytest.param(WELL, Start("3333"), 3, id="no filesystem any more"),
        pytest.param(WELL, EMPTY, 3, id="zeros"),
        pytest.param(replace(WELL, start=Start("")), OTHER, 3, id="a filesystem where other bytes were"),
        pytest.param(replace(WELL, start=EMPTY), OTHER, 0, id="a filesystem, and no block is in use"),
        pytest.param(replace(WELL, start=EMPTY), replace(OTHER, size=Bytes(2**40)), 3, id="larger than any device"),
        pytest.param(AT_REST, replace(EXT4, digest="9"), 3, id="any other byte than when it was seen at rest"),
    ],
)
@pytest.mark.parametrize("marks", [DATA, ()], ids=["a disk that is known", "a disk without a mark"])
def test_a_disk_that_does_not_begin_as_it_did_is_not_used(
    noted: Noted, found: Start, used: int, marks: tuple[str, ...]
) -> None:
    world = at_rest(data(start=found, marks=marks), metadata(data_blocks_used=used))
    said = plan(this(world, replace(noted, data=marks)))
    assert (said.reason, said.steps) == (Reason.METADATA_MISMATCH, ())
    assert "/dev/sdb, begins with" in said.condition.message


@row("P11")
@pytest.mark.parametrize(
    ("noted", "found", "transaction"),
    [
        pytest.param(WELL, Start("9999", "ext4 aaaa"), TRANSACTION, id="its filesystem was written to"),
        pytest.param(replace(WELL, start=EMPTY), LIKE_A_DEVICE, TRANSACTION, id="its first block came into use"),
        pytest.param(WELL, OTHER, TRANSACTION + 1, id="a thin was made or deleted since"),
        pytest.param(replace(WELL, start=None), OTHER, TRANSACTION, id="its start could not be read then"),
        pytest.param(WELL, None, TRANSACTION, id="its start cannot be read now"),
        pytest.param(None, OTHER, TRANSACTION, id="nothing was noted yet"),
    ],
)
def test_what_may_have_changed_while_it_was_up_keeps_no_pool_down(
    noted: Noted | None, found: Start | None, transaction: int
) -> None:
    world = at_rest(data(start=found), metadata(transaction_id=transaction))
    facts = replace(this(world, noted), known=known(noted, transaction_id=transaction))
    activate = steps(facts)[-1]
    assert isinstance(activate, ActivatePool)
    assert (activate.transaction_id, activate.noted) == (transaction, noted)


FILE, COPY = ("file:u:7", "path:/srv/d", "offset:0"), ("file:u:8", "path:/srv/d", "offset:0")


@row("P09", "P11")
@pytest.mark.parametrize(
    ("before", "found", "used", "told"),
    [
        pytest.param(EXT4, EXT4, 3, False, id="a copy"),
        pytest.param(EXT4, replace(EXT4, digest="9"), 3, True, id="other bytes"),
        pytest.param(EXT4, EMPTY, 3, True, id="allocated, and zeros"),
        pytest.param(EMPTY, EMPTY, 3, True, id="zeros, though blocks are in use since"),
        pytest.param(EMPTY, EMPTY, 0, False, id="zeros, and nothing is in use"),
        pytest.param(EMPTY, LIKE_A_DEVICE, 3, False, id="written to since it was noted"),
    ],
)
def test_a_file_in_place_of_another_is_told_from_a_copy_of_it(
    before: Start, found: Start, used: int, told: bool
) -> None:
    noted = replace(WELL, data=FILE, start=before)
    facts = this(at_rest(data(marks=COPY, start=found), metadata(data_blocks_used=used)), noted)
    assert (plan(facts).reason is Reason.METADATA_MISMATCH) == told
    same_file = this(at_rest(data(marks=FILE, start=replace(before, digest="9")), metadata()), noted)
    assert plan(same_file).reason is Reason.POOL_MISSING, "its first block changes while it is up"


@row("P09")
def test_an_older_copy_of_the_metadata_is_told_from_the_one_that_was_taken_down() -> None:
    found = plan(this(at_rest(None, metadata(superblock_digest="4444")), AT_REST))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())
    assert "older copy" in found.condition.message
    assert steps(this(at_rest(None, metadata(superblock_digest="4444")), WELL)), "it may have been up since"


@row("P11")
def test_before_it_comes_up_it_is_noted_that_it_is_not_at_rest_any_more() -> None:
    first, *_, last = steps(this(at_rest(), AT_REST))
    assert first == SavePool(KEY, known(replace(AT_REST, superblock="")))
    assert isinstance(last, ActivatePool)
    assert last.noted == AT_REST


@row("P26")
def test_what_a_healthy_pool_lies_on_is_noted_once() -> None:
    found = plan(this(running(), None))
    assert found.reason is Reason.CONVERGED
    assert found.steps == (SavePool(KEY, known(WELL)),)
    assert steps(this(running(), WELL)) == ()
    assert steps(this(running(data(start=None)), WELL)) == (), "this look did not read it"


@row("P26")
@pytest.mark.parametrize(
    "world",
    [running(of=status(PoolMode.RO)), running(of=status(transaction=9)), running(replace(data(), devno=Devno(7, 9)))],
)
def test_of_a_pool_that_is_not_well_nothing_is_noted(world: LivePool) -> None:
    assert steps(this(world, None)) == ()


@row("P26")
def test_nothing_is_noted_in_the_midst_of_an_operation() -> None:
    assert steps(this(running(), None, intents=(a.intent(IntentKind.CREATE),))) == ()


@row("P28")
def test_a_pool_that_is_seen_down_is_noted_byte_by_byte_and_only_then() -> None:
    inactive = {"state": "Inactive"}
    assert steps(this(at_rest(), WELL, spec=inactive)) == (SavePool(KEY, known(AT_REST)),)
    assert steps(this(at_rest(), AT_REST, spec=inactive)) == ()
    assert steps(this(at_rest(None, metadata(superblock_digest="4444")), AT_REST, spec=inactive)) == ()
    assert steps(this(at_rest(data(marks=("wwn:naa.9",))), WELL, spec=inactive)) == ()
    assert steps(this(at_rest(None, metadata(needs_check=True)), WELL, spec=inactive)) == ()


@row("P28")
@pytest.mark.parametrize(
    ("mode", "noted", "then"),
    [
        (PoolMode.RW, AT_REST, replace(AT_REST, superblock="")),
        (PoolMode.NEEDS_CHECK, WELL, replace(WELL, in_repair=True)),
    ],
)
def test_one_that_goes_down_is_not_at_rest_before_it_is_seen_so(mode: PoolMode, noted: Noted, then: Noted) -> None:
    found = steps(this(running(of=status(mode)), noted, spec={"state": "Inactive"}))
    assert found[:2] == (SavePool(KEY, known(then)), RemovePool("tank", a.POOL_UUID))


@row("P28")
def test_a_damaged_pool_that_is_down_may_be_repaired() -> None:
    broken = replace(WELL, in_repair=True)
    assert steps(this(at_rest(), broken, spec={"state": "Inactive"})) == ()
    assert steps(this(at_rest(None, metadata(superblock_digest="repaired")), broken))


LINK = {"data": {"device": "/dev/disk/by-id/wwn-1"}}


@row("P16")
@pytest.mark.parametrize(
    "world",
    [
        pytest.param(running(), id="it is live on it"),
        pytest.param(at_rest(data(is_known_place=True, marks=())), id="the former path leads there too"),
        pytest.param(at_rest(), id="its marks are the same"),
    ],
)
@pytest.mark.parametrize("state", ["Active", "Inactive"])
def test_the_same_disk_by_another_path_is_taken_up(world: LivePool, state: str) -> None:
    noted = replace(WELL, data=world.data.marks)
    found = steps(this(world, noted, spec={**LINK, "state": state}))
    assert found == (SavePool(KEY, known(noted, data="/dev/disk/by-id/wwn-1")),)


@row("P16")
@pytest.mark.parametrize("of_data", [data(marks=()), data(marks=("wwn:naa.9",), is_known_place=True)])
def test_another_disk_by_another_path_is_an_invalid_change(of_data: LiveBacking) -> None:
    found = plan(this(at_rest(of_data), spec=LINK))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


def test_a_file_that_its_owner_moved_is_not_deleted_with_the_pool() -> None:
    noted = Noted(("file::7", "path:/srv/tank.data"), ("file::8", "path:/srv/tank.meta"))
    moved = a.data(marks=("file::7", "path:/mnt/tank.data"))
    record = pool_record(data={"file": "/mnt/tank.data", "size": "1GiB"})
    found = steps(pool_facts(recorded=record, knowing=known_pool(noted=noted), live=down(data=moved)))
    assert found == (SavePool(KEY, known_pool(noted=noted, data="/mnt/tank.data", made_files=("/srv/tank.meta",))),)


@pytest.mark.parametrize(
    "world",
    [
        at_rest(data(marks=("wwn:naa.9",))),
        at_rest(data(start=Start("9"))),
        at_rest(None, metadata(superblock_digest="4")),
    ],
)
def test_doctor_takes_what_is_there_if_somebody_says_so(world: LivePool) -> None:
    facts = this(world, AT_REST)
    (repair,) = repairs_of(PoolView(facts=facts))
    assert repair.steps == (SavePool(KEY, known(None)),)
    assert "/dev/sdb" in repair.what
    assert repairs_of(PoolView(facts=this(at_rest(), AT_REST))) == []


def test_doctor_does_not_offer_what_would_not_help() -> None:
    world = at_rest(data(marks=("wwn:naa.9",)), metadata(superblock=Superblock.ZERO, transaction_id=None))
    assert repairs_of(PoolView(facts=this(world))) == []


# Under a live pool


@row("P39")
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        pytest.param({"data": a.data(size=DATA_SIZE // 2)}, "data was cut off: 512MiB are left of the 1GiB", id="data"),
        pytest.param({"metadata": a.metadata(size=METADATA_SIZE // 2)}, "metadata was cut off", id="metadata"),
        pytest.param({"data": a.data(allocated=Bytes(0), start=EMPTY)}, "data was emptied", id="emptied"),
        pytest.param({"data": data(file_size=Bytes(4096))}, "data was cut off", id="the file behind a loop"),
        pytest.param({"data": disk(DATA_DEVNO, 4096)}, "data was cut off", id="a volume that was reduced"),
    ],
)
@pytest.mark.parametrize("extend", [{}, {"extend": {"threshold": "1%", "step": "20%", "max": "100GiB"}}])
def test_what_was_cut_off_under_a_live_pool_is_told_and_never_grown(
    changed: dict[str, Any], words: str, extend: dict[str, Any]
) -> None:
    facts = pool_facts(recorded=pool_record(**extend), live=replace(live_pool(), **changed))
    found = plan(facts)
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())
    assert words in found.condition.message
    assert plan(a.facts(pool=facts, knowing=None, ids={})).reason is Reason.POOL_UNHEALTHY, "nothing is made in it"


@row("P40")
@pytest.mark.parametrize("word", ["data", "metadata"])
def test_a_pool_that_is_live_on_a_read_only_disk_is_not_as_desired(word: str) -> None:
    backing = replace(getattr(live_pool(), word), read_only=True)
    found = plan(pool_facts(live=replace(live_pool(), **{word: backing})))
    assert (found.reason, found.steps) == (Reason.POOL_UNHEALTHY, ())
    assert "read-only" in found.condition.message
    assert "blockdev --setrw /dev/loop" in found.condition.message


@row("P06")
@pytest.mark.parametrize("word", ["data", "metadata"])
@pytest.mark.parametrize("noted", [None, WELL])
def test_a_pool_does_not_come_up_on_a_read_only_disk(word: str, noted: Noted | None) -> None:
    world = at_rest()
    world = replace(world, **{word: replace(getattr(world, word), read_only=True)})
    found = plan(this(world, noted))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())
    assert f"blockdev --setrw /dev/sd{'b' if word == 'data' else 'c'}" in found.condition.message


@row("D44")
@pytest.mark.parametrize("knowing", [None, a.known(size=Sectors(20481))])
def test_a_size_off_the_grid_of_the_disk_names_the_sizes_that_fit(knowing: Any) -> None:
    large = pool_facts(live=live_pool(data=a.data(sector=4096)))
    found = plan(a.facts(pool=large, knowing=knowing, spec={"size": "20481s"}, ids={a.ID: a.ids(a.ID)[a.ID]}))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())
    assert "size: 20488s" in found.condition.message
    assert ("size: 20480s" in found.condition.message) == (knowing is None), "a device never shrinks"
    assert plan(a.facts(pool=pool_facts(), knowing=None, spec={"size": "20481s"}, ids={})).steps


@row("D44")
def test_a_filesystem_has_no_smaller_blocks_than_its_disk_has_sectors() -> None:
    large = pool_facts(live=live_pool(data=a.data(sector=4096)))
    small = {"filesystem": {"type": "ext4", "blockSize": "1KiB"}}
    assert plan(a.facts(pool=large, knowing=None, spec=small, ids={})).reason is Reason.INVALID_CHANGE
