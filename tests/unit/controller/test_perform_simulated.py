"""Single steps on the host: each is done, and it is noticed where it was not; and what is around them decides how."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call
from reconciler.kernel.simulated.pool import CommitFault
from reconciler.kernel.steps.table import STEPS, run_step
from reconciler.model.dm_tables import Target, ThinTable
from reconciler.model.errors import HostError, NothingDoneError, VerificationError
from reconciler.model.live import DeviceInfo
from reconciler.model.steps import (
    Activate,
    ActivatePool,
    AttachLoop,
    CancelDeferredRemove,
    CheckMetadata,
    Clear,
    ConfirmEmpty,
    CreateSnapshot,
    CreateThin,
    DeleteFile,
    DeleteThin,
    DetachLoop,
    DiscardThin,
    GrowFile,
    GrowFilesystem,
    HostStep,
    Load,
    LoadPool,
    MakeFile,
    MakeFilesystem,
    MakeWritable,
    PoolShape,
    RefreshNodes,
    Remove,
    RemovePool,
    Resume,
    SetTransactionId,
    ZeroSuperblock,
)
from reconciler.model.units import Bytes, Sectors
from tests.simulation.house import POOL, House, a_house, device_record, pool_record

META, DATA = "/srv/tank.meta", "/srv/tank.data"
A, PRIVATE = "tank-a", "tank-b.private"
MIB = Sectors(2048)
KINDS = {kind.__name__: kind for kind in HostStep.__subclasses__()}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house(tmp_path / "state") as house:
        house.declare(pool_record(), device_record("a", filesystem={"type": "ext4"}))
        house.settle()
        yield house


# The table of steps: each kind by itself, on a kernel that at first says OK to a call, and does nothing


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_step_has_an_entry_and_a_test(kind: str) -> None:
    handlers = {step.__name__: handler for step, handler in STEPS.items()}
    assert kind in handlers, "it is in no table of kernel/steps/"
    assert callable(globals().get(handlers[kind].test)), f"there is no {handlers[kind].test} in this file"


def test_each_test_is_of_one_kind_of_step() -> None:
    assert len(KINDS) == len(STEPS) == len({handler.test for handler in STEPS.values()})


def done(house: House, step: HostStep) -> str:
    return run_step(house.kernel, step).note


def noticed(house: House, step: HostStep, *dropped: str, words: str) -> None:
    """The kernel says OK to these calls and drops them, for once: that is noticed, and told in these words."""
    house.calls.around = lambda call, do: None if call.name in dropped else do()
    with pytest.raises(VerificationError, match=words):
        done(house, step)
    house.calls.around = lambda _, do: do()


def refused(house: House, step: HostStep, number: int, words: str = "") -> None:
    with pytest.raises(HostError) as raised:
        done(house, step)
    assert (raised.value.errno, words in raised.value.detail) == (number, True)


def of(house: House, name: str = A) -> DeviceInfo:
    info = house.info(name)
    assert info is not None
    return info


def thin(house: House, thin_id: int | None = None) -> Target:
    return ThinTable(MIB, of(house, POOL).devno, house.known("a").thin_id if thin_id is None else thin_id).target()


def test_activate(house: House) -> None:
    step = Activate(A, of(house).uuid, thin(house), read_only=True)
    house.outside.dm.remove(A)
    noticed(house, step, "resume", words="does not show the table")
    house.outside.dm.remove(A)
    done(house, step)
    assert house.outside.dm.table(A) == (step.table,)
    assert of(house).read_only


def test_load(house: House) -> None:
    step = Load(A, ThinTable(Sectors(2 * MIB), of(house, POOL).devno, house.known("a").thin_id).target())
    noticed(house, step, "resume", words="does not show the table")
    done(house, step)
    assert house.outside.dm.table(A) == (step.table,)
    noticed(house, Load(A, step.table, read_only=True), "resume", words="can still be written to")
    done(house, Load(A, step.table, read_only=True))
    assert of(house).read_only


def test_make_writable(house: House) -> None:
    house.host.protect(A)
    noticed(house, MakeWritable(A, thin(house)), "set_writable", words="it is still read-only")
    done(house, MakeWritable(A, thin(house)))
    assert not of(house).read_only


def test_resume(house: House) -> None:
    house.outside.dm.suspend(A)
    noticed(house, Resume(A), "resume", words="it is still suspended")
    done(house, Resume(A))
    assert not of(house).suspended


def test_clear(house: House) -> None:
    house.outside.dm.load(A, (thin(house),))
    noticed(house, Clear(A), "clear", words="a table still waits")
    done(house, Clear(A))
    assert not of(house).inactive_table


def test_remove(house: House) -> None:
    step = Remove(A, of(house).uuid)
    noticed(house, step, "remove", words="it is still there")
    done(house, step)
    assert house.info(A) is None
    assert done(house, step) == "gone already"


def test_cancel_deferred_remove(house: House) -> None:
    house.host.open(A)
    house.host.remove_deferred(A)
    noticed(house, CancelDeferredRemove(A), "message", words="it is still to be removed")
    done(house, CancelDeferredRemove(A))
    assert not of(house).deferred_remove


def test_refresh_nodes(house: House) -> None:
    del house.host.nodes.paths[f"/dev/mapper/{A}"]
    step = RefreshNodes(A, of(house).devno)
    noticed(house, step, "trigger", "mknodes", words=f"/dev/mapper/{A} is missing")
    done(house, step)
    assert house.outside.udev.missing(of(house)) == ()


def test_make_filesystem(house: House) -> None:
    house.outside.dm.message(POOL, "create_thin 50")
    step = MakeFilesystem(PRIVATE, "mine", thin(house, 50), "ext4", "", Bytes(4096), discard=True)
    noticed(house, step, "resume", words="does not show the table")
    assert "mkfs" not in {call.name for call in house.calls.made[-8:]}
    house.outside.dm.remove(PRIVATE)
    done(house, step)
    assert house.info(PRIVATE) is None
    assert house.host.thin(POOL, 50).content[0] == f"ext4 {MIB}"


def test_discard_thin(house: House) -> None:
    number = house.known("a").thin_id
    step = DiscardThin(PRIVATE, "mine", thin(house))
    assert house.host.thin(POOL, number).mapped
    noticed(house, step, "remove", words="it is still there")
    house.outside.dm.remove(PRIVATE)
    done(house, step)
    assert house.info(PRIVATE) is None
    assert not house.host.thin(POOL, number).mapped


def test_grow_filesystem(house: House) -> None:
    house.host.io.write(A, 0, "xfs 1024")
    with pytest.raises(NothingDoneError, match="it holds xfs, not ext4"):
        done(house, GrowFilesystem(A, "ext4"))
    house.host.io.write(A, 0, "ext4 1024")
    done(house, GrowFilesystem(A, "ext4"))
    assert house.content("a")[0] == f"ext4 {MIB}"


def test_create_thin(house: House) -> None:
    done(house, CreateThin(POOL, 50))
    assert 50 in house.ids()
    house.host.fail_commits(POOL, CommitFault.READ_ONLY)  # the message itself is answered with OK
    refused(house, CreateThin(POOL, 51), errno.EROFS, "the pool is needs_check")


def test_create_snapshot(house: House) -> None:
    step = CreateSnapshot(POOL, 50, house.known("a").thin_id, A)
    noticed(house, step, "suspend", words="a snapshot of it would be torn")
    assert 50 not in house.ids()
    noticed(house, step, "resume", words="it is still suspended")
    house.outside.dm.resume(A)
    done(house, CreateSnapshot(POOL, 51, house.known("a").thin_id, A))
    assert {50, 51} <= house.ids()
    assert not of(house).suspended


def test_delete_thin(house: House) -> None:
    transaction = house.host.image(POOL).transaction_id
    for number in (50, 51):
        house.outside.dm.message(POOL, f"create_thin {number}")
    assert done(house, DeleteThin(POOL, 50, transaction)) == ""
    assert 50 not in house.ids()
    assert done(house, DeleteThin(POOL, 50, transaction)) == "gone already"
    house.host.fail_commits(POOL, CommitFault.READ_ONLY)  # the message itself is answered with OK
    refused(house, DeleteThin(POOL, 51, transaction), errno.EROFS, "the pool is needs_check")


def test_set_transaction_id(house: House) -> None:
    old = house.host.image(POOL).transaction_id
    noticed(house, SetTransactionId(POOL, old), "message", words=f"it is {old}, not {old + 1}")
    done(house, SetTransactionId(POOL, old))
    assert house.host.image(POOL).transaction_id == old + 1
    assert done(house, SetTransactionId(POOL, old)) == "set already"


def shape(house: House) -> PoolShape:
    block = house.host.image(POOL).block
    return PoolShape(META, DATA, block, 10, zero_new_blocks=True, discards="passdown", error_if_full=False)


def test_activate_pool(house: House) -> None:
    step = ActivatePool(POOL, of(house, POOL).uuid, shape(house), house.host.image(POOL).transaction_id)
    down(house)
    noticed(house, step, "resume", words="does not show the table")
    house.outside.dm.remove(POOL)
    done(house, step)
    assert of(house, POOL).live_table
    assert house.ids() == {house.known("a").thin_id}


def test_load_pool(house: House) -> None:
    step = LoadPool(POOL, shape(house))
    done(house, GrowFile(DATA, Bytes(32 << 20), allocate=False))
    noticed(house, step, "resume", words="does not show the table")
    done(house, step)
    assert house.outside.dm.table(POOL)[0].length == 32 * MIB


def test_confirm_empty(house: House) -> None:
    number = house.known("a").thin_id
    refused(house, ConfirmEmpty(POOL), errno.EBUSY, f"the pool holds the thin ids {number}:")
    house.outside.dm.remove(A)
    house.outside.dm.message(POOL, f"delete {number}")
    done(house, ConfirmEmpty(POOL))
    assert house.host.image(POOL).held is None


def test_remove_pool(house: House) -> None:
    step = RemovePool(POOL, of(house, POOL).uuid)
    refused(house, step, errno.EBUSY)
    house.outside.dm.remove(A)
    noticed(house, step, "remove", words="it is still there")
    done(house, step)
    assert house.info(POOL) is None


def test_make_file(house: House) -> None:
    step = MakeFile("/srv/new", Bytes(1 << 20), allocate=True)
    done(house, step)
    assert (house.host.files["/srv/new"].size, house.host.files["/srv/new"].allocated) == (1 << 20, 1 << 20)
    refused(house, step, errno.EEXIST)


def test_grow_file(house: House) -> None:
    done(house, GrowFile(DATA, Bytes(32 << 20), allocate=False))
    assert house.host.files[DATA].size == 32 << 20
    assert [loop.size for loop in house.outside.disks.loops_on(DATA)] == [32 << 20]
    house.host.free_space = 0
    refused(house, GrowFile(DATA, Bytes(64 << 20), allocate=True), errno.ENOSPC)


def test_attach_loop(house: House) -> None:
    done(house, MakeFile("/srv/new", Bytes(1 << 20), allocate=False))
    noticed(house, AttachLoop("/srv/new"), "attach", words="none is on it")
    done(house, AttachLoop("/srv/new"))
    assert len(house.outside.disks.loops_on("/srv/new")) == 1
    assert done(house, AttachLoop("/srv/new")) == "there is one on it already"


def test_detach_loop(house: House) -> None:
    refused(house, DetachLoop(META), errno.EBUSY, f"in use by {POOL}")
    down(house)
    assert done(house, DetachLoop(META)) == ""
    assert house.outside.disks.loops_on(META) == []
    assert done(house, DetachLoop(META)) == "gone already"


def test_check_metadata(house: House) -> None:
    refused(house, CheckMetadata(META), errno.EBUSY)
    down(house)
    assert done(house, CheckMetadata(META)) == ""


def test_zero_superblock(house: House) -> None:
    refused(house, ZeroSuperblock(META), errno.EBUSY, f"its loop is in use by {POOL}")
    down(house)
    done(house, ZeroSuperblock(META))
    assert house.host.files[META].is_zero


def test_delete_file(house: House) -> None:
    refused(house, DeleteFile(META), errno.EBUSY, "a loop is on it")
    down(house)
    done(house, DetachLoop(META))
    done(house, DeleteFile(META))
    assert META not in house.host.files


# A filesystem that is grown


def grown(house: House) -> Call:
    run_step(house.kernel, GrowFilesystem(A, "ext4"))
    return next(call for call in reversed(house.calls.made) if call.name == "grow_filesystem")


def test_a_filesystem_is_grown_where_it_is_mounted(house: House) -> None:
    house.host.mount(A, "/mnt")
    assert grown(house).args == ("/dev/mapper/tank-a", "/mnt")


def test_one_that_is_mounted_nowhere_is_grown_by_its_node(house: House) -> None:
    assert grown(house).args == ("/dev/mapper/tank-a", None)


@pytest.mark.parametrize(("places", "expected"), [(["swap"], None), (["swap", "/mnt"], "/mnt")])
def test_swap_is_no_place_at_which_a_filesystem_is_mounted(
    house: House, places: list[str], expected: str | None
) -> None:
    for place in places:
        house.host.mount(A, place)
    assert grown(house).args == ("/dev/mapper/tank-a", expected)


# What cannot be written


def test_what_is_to_be_read_only_never_comes_up_writable(house: House) -> None:
    house.also(device_record("b", readOnly=True))
    house.settle()
    loads = [call for call in house.calls.made if call.name == "load" and call.args[0] == "tank-b"]
    assert [call.args[-1] for call in loads] == [True]


# The check of a pool's metadata, before it comes up


def down(house: House) -> None:
    house.outside.dm.remove(A)
    house.outside.dm.remove(POOL)


def test_of_what_is_harmless_it_is_told_what_mends_it(house: House) -> None:
    down(house)
    house.host.files[META].leaks = "some metadata blocks have leaked"
    note = run_step(house.kernel, CheckMetadata(META)).note
    assert "leaked" in note
    assert f"thin_check --auto-repair {META}" in note


def test_of_damage_it_is_told_what_makes_a_repaired_copy(house: House) -> None:
    down(house)
    house.host.files[META].damage = "bad checksum in superblock"
    with pytest.raises(HostError, match=f"bad checksum in superblock; `thin_repair -i {META} -o NEW`") as raised:
        run_step(house.kernel, CheckMetadata(META))
    assert raised.value.errno == errno.EUCLEAN
