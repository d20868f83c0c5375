"""Single steps on the host: each is done, its failure is noticed, and its surroundings decide how it is done."""

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
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, a_simulated_daemon, device_record, pool_record

META, DATA = "/srv/tank.meta", "/srv/tank.data"
A, PRIVATE = "tank-a", "tank-b.private"
MIB = Sectors(2048)
KINDS = {kind.__name__: kind for kind in HostStep.__subclasses__()}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    with a_simulated_daemon(tmp_path / "state") as daemon:
        daemon.declare(pool_record(), device_record("a", filesystem={"type": "ext4"}))
        daemon.settle()
        yield daemon


# The table of steps: each kind on its own, on a kernel that first reports success for a call without doing it


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_step_has_an_entry_and_a_test(kind: str) -> None:
    handlers = {step.__name__: handler for step, handler in STEPS.items()}
    assert kind in handlers, "it is in no table of kernel/steps/"
    assert callable(globals().get(handlers[kind].test)), f"there is no {handlers[kind].test} in this file"


def test_each_test_is_of_one_kind_of_step() -> None:
    assert len(KINDS) == len(STEPS) == len({handler.test for handler in STEPS.values()})


def done(daemon: SimulatedDaemon, step: HostStep) -> str:
    return run_step(daemon.kernel, step).note


def noticed(daemon: SimulatedDaemon, step: HostStep, *dropped: str, words: str) -> None:
    """Has the kernel drop these calls once and report success; that must be noticed and reported with these words."""
    daemon.calls.around = lambda call, do: None if call.name in dropped else do()
    with pytest.raises(VerificationError, match=words):
        done(daemon, step)
    daemon.calls.around = lambda _, do: do()


def refused(daemon: SimulatedDaemon, step: HostStep, number: int, words: str = "") -> None:
    with pytest.raises(HostError) as raised:
        done(daemon, step)
    assert (raised.value.errno, words in raised.value.detail) == (number, True)


def of(daemon: SimulatedDaemon, name: str = A) -> DeviceInfo:
    info = daemon.info(name)
    assert info is not None
    return info


def thin(daemon: SimulatedDaemon, thin_id: int | None = None) -> Target:
    return ThinTable(MIB, of(daemon, POOL).devno, daemon.known("a").thin_id if thin_id is None else thin_id).target()


def test_activate(daemon: SimulatedDaemon) -> None:
    step = Activate(A, of(daemon).uuid, thin(daemon), read_only=True)
    daemon.outside.dm.remove(A)
    noticed(daemon, step, "resume", words="does not show the table")
    daemon.outside.dm.remove(A)
    done(daemon, step)
    assert daemon.outside.dm.table(A) == (step.table,)
    assert of(daemon).read_only


def test_load(daemon: SimulatedDaemon) -> None:
    step = Load(A, ThinTable(Sectors(2 * MIB), of(daemon, POOL).devno, daemon.known("a").thin_id).target())
    noticed(daemon, step, "resume", words="does not show the table")
    done(daemon, step)
    assert daemon.outside.dm.table(A) == (step.table,)
    noticed(daemon, Load(A, step.table, read_only=True), "resume", words="can still be written to")
    done(daemon, Load(A, step.table, read_only=True))
    assert of(daemon).read_only


def test_make_writable(daemon: SimulatedDaemon) -> None:
    daemon.host.protect(A)
    noticed(daemon, MakeWritable(A, thin(daemon)), "set_writable", words="it is still read-only")
    done(daemon, MakeWritable(A, thin(daemon)))
    assert not of(daemon).read_only


def test_resume(daemon: SimulatedDaemon) -> None:
    daemon.outside.dm.suspend(A)
    noticed(daemon, Resume(A), "resume", words="it is still suspended")
    done(daemon, Resume(A))
    assert not of(daemon).suspended


def test_clear(daemon: SimulatedDaemon) -> None:
    daemon.outside.dm.load(A, (thin(daemon),))
    noticed(daemon, Clear(A), "clear", words="a table still waits")
    done(daemon, Clear(A))
    assert not of(daemon).inactive_table


def test_remove(daemon: SimulatedDaemon) -> None:
    step = Remove(A, of(daemon).uuid)
    noticed(daemon, step, "remove", words="it is still there")
    done(daemon, step)
    assert daemon.info(A) is None
    assert done(daemon, step) == "gone already"


def test_cancel_deferred_remove(daemon: SimulatedDaemon) -> None:
    daemon.host.open(A)
    daemon.host.remove_deferred(A)
    noticed(daemon, CancelDeferredRemove(A), "message", words="it is still to be removed")
    done(daemon, CancelDeferredRemove(A))
    assert not of(daemon).deferred_remove


def test_refresh_nodes(daemon: SimulatedDaemon) -> None:
    del daemon.host.nodes.paths[f"/dev/mapper/{A}"]
    step = RefreshNodes(A, of(daemon).devno)
    noticed(daemon, step, "trigger", "mknodes", words=f"/dev/mapper/{A} is missing")
    done(daemon, step)
    assert daemon.outside.udev.missing(of(daemon)) == ()


def test_make_filesystem(daemon: SimulatedDaemon) -> None:
    daemon.outside.dm.message(POOL, "create_thin 50")
    step = MakeFilesystem(PRIVATE, "mine", thin(daemon, 50), "ext4", "", Bytes(4096), discard=True)
    noticed(daemon, step, "resume", words="does not show the table")
    assert "mkfs" not in {call.name for call in daemon.calls.made[-8:]}
    daemon.outside.dm.remove(PRIVATE)
    done(daemon, step)
    assert daemon.info(PRIVATE) is None
    assert daemon.host.thin(POOL, 50).content[0] == f"ext4 {MIB}"


def test_discard_thin(daemon: SimulatedDaemon) -> None:
    number = daemon.known("a").thin_id
    step = DiscardThin(PRIVATE, "mine", thin(daemon))
    assert daemon.host.thin(POOL, number).mapped
    noticed(daemon, step, "remove", words="it is still there")
    daemon.outside.dm.remove(PRIVATE)
    done(daemon, step)
    assert daemon.info(PRIVATE) is None
    assert not daemon.host.thin(POOL, number).mapped


def test_grow_filesystem(daemon: SimulatedDaemon) -> None:
    daemon.host.io.write(A, 0, "xfs 1024")
    with pytest.raises(NothingDoneError, match="it holds xfs, not ext4"):
        done(daemon, GrowFilesystem(A, "ext4"))
    daemon.host.io.write(A, 0, "ext4 1024")
    done(daemon, GrowFilesystem(A, "ext4"))
    assert daemon.content("a")[0] == f"ext4 {MIB}"


def test_create_thin(daemon: SimulatedDaemon) -> None:
    done(daemon, CreateThin(POOL, 50))
    assert 50 in daemon.ids()
    daemon.host.fail_commits(POOL, CommitFault.READ_ONLY)  # the message itself is answered with OK
    refused(daemon, CreateThin(POOL, 51), errno.EROFS, "the pool is needs_check")


def test_create_snapshot(daemon: SimulatedDaemon) -> None:
    step = CreateSnapshot(POOL, 50, daemon.known("a").thin_id, A)
    noticed(daemon, step, "suspend", words="a snapshot of it would be torn")
    assert 50 not in daemon.ids()
    noticed(daemon, step, "resume", words="it is still suspended")
    daemon.outside.dm.resume(A)
    done(daemon, CreateSnapshot(POOL, 51, daemon.known("a").thin_id, A))
    assert {50, 51} <= daemon.ids()
    assert not of(daemon).suspended


def test_delete_thin(daemon: SimulatedDaemon) -> None:
    transaction = daemon.host.image(POOL).transaction_id
    for number in (50, 51):
        daemon.outside.dm.message(POOL, f"create_thin {number}")
    assert done(daemon, DeleteThin(POOL, 50, transaction)) == ""
    assert 50 not in daemon.ids()
    assert done(daemon, DeleteThin(POOL, 50, transaction)) == "gone already"
    daemon.host.fail_commits(POOL, CommitFault.READ_ONLY)  # the message itself is answered with OK
    refused(daemon, DeleteThin(POOL, 51, transaction), errno.EROFS, "the pool is needs_check")


def test_set_transaction_id(daemon: SimulatedDaemon) -> None:
    old = daemon.host.image(POOL).transaction_id
    noticed(daemon, SetTransactionId(POOL, old), "message", words=f"it is {old}, not {old + 1}")
    done(daemon, SetTransactionId(POOL, old))
    assert daemon.host.image(POOL).transaction_id == old + 1
    assert done(daemon, SetTransactionId(POOL, old)) == "set already"


def shape(daemon: SimulatedDaemon) -> PoolShape:
    block = daemon.host.image(POOL).block
    return PoolShape(META, DATA, block, 10, zero_new_blocks=True, discards="passdown", error_if_full=False)


def test_activate_pool(daemon: SimulatedDaemon) -> None:
    step = ActivatePool(POOL, of(daemon, POOL).uuid, shape(daemon), daemon.host.image(POOL).transaction_id)
    down(daemon)
    noticed(daemon, step, "resume", words="does not show the table")
    daemon.outside.dm.remove(POOL)
    done(daemon, step)
    assert of(daemon, POOL).live_table
    assert daemon.ids() == {daemon.known("a").thin_id}


def test_load_pool(daemon: SimulatedDaemon) -> None:
    step = LoadPool(POOL, shape(daemon))
    done(daemon, GrowFile(DATA, Bytes(32 << 20), allocate=False))
    noticed(daemon, step, "resume", words="does not show the table")
    done(daemon, step)
    assert daemon.outside.dm.table(POOL)[0].length == 32 * MIB


def test_confirm_empty(daemon: SimulatedDaemon) -> None:
    number = daemon.known("a").thin_id
    refused(daemon, ConfirmEmpty(POOL), errno.EBUSY, f"the pool holds the thin ids {number}:")
    daemon.outside.dm.remove(A)
    daemon.outside.dm.message(POOL, f"delete {number}")
    done(daemon, ConfirmEmpty(POOL))
    assert daemon.host.image(POOL).held is None


def test_remove_pool(daemon: SimulatedDaemon) -> None:
    step = RemovePool(POOL, of(daemon, POOL).uuid)
    refused(daemon, step, errno.EBUSY)
    daemon.outside.dm.remove(A)
    noticed(daemon, step, "remove", words="it is still there")
    done(daemon, step)
    assert daemon.info(POOL) is None


def test_make_file(daemon: SimulatedDaemon) -> None:
    step = MakeFile("/srv/new", Bytes(1 << 20), allocate=True)
    done(daemon, step)
    assert (daemon.host.files["/srv/new"].size, daemon.host.files["/srv/new"].allocated) == (1 << 20, 1 << 20)
    refused(daemon, step, errno.EEXIST)


def test_grow_file(daemon: SimulatedDaemon) -> None:
    done(daemon, GrowFile(DATA, Bytes(32 << 20), allocate=False))
    assert daemon.host.files[DATA].size == 32 << 20
    assert [loop.size for loop in daemon.outside.disks.loops_on(DATA)] == [32 << 20]
    daemon.host.free_space = 0
    refused(daemon, GrowFile(DATA, Bytes(64 << 20), allocate=True), errno.ENOSPC)


def test_attach_loop(daemon: SimulatedDaemon) -> None:
    done(daemon, MakeFile("/srv/new", Bytes(1 << 20), allocate=False))
    noticed(daemon, AttachLoop("/srv/new"), "attach", words="none is on it")
    done(daemon, AttachLoop("/srv/new"))
    assert len(daemon.outside.disks.loops_on("/srv/new")) == 1
    assert done(daemon, AttachLoop("/srv/new")) == "there is one on it already"


def test_detach_loop(daemon: SimulatedDaemon) -> None:
    refused(daemon, DetachLoop(META), errno.EBUSY, f"in use by {POOL}")
    down(daemon)
    assert done(daemon, DetachLoop(META)) == ""
    assert daemon.outside.disks.loops_on(META) == []
    assert done(daemon, DetachLoop(META)) == "gone already"


def test_check_metadata(daemon: SimulatedDaemon) -> None:
    refused(daemon, CheckMetadata(META), errno.EBUSY)
    down(daemon)
    assert done(daemon, CheckMetadata(META)) == ""


def test_zero_superblock(daemon: SimulatedDaemon) -> None:
    refused(daemon, ZeroSuperblock(META), errno.EBUSY, f"its loop is in use by {POOL}")
    down(daemon)
    done(daemon, ZeroSuperblock(META))
    assert daemon.host.files[META].is_zero


def test_delete_file(daemon: SimulatedDaemon) -> None:
    refused(daemon, DeleteFile(META), errno.EBUSY, "a loop is on it")
    down(daemon)
    done(daemon, DetachLoop(META))
    done(daemon, DeleteFile(META))
    assert META not in daemon.host.files


# A filesystem that is grown


def grown(daemon: SimulatedDaemon) -> Call:
    run_step(daemon.kernel, GrowFilesystem(A, "ext4"))
    return next(call for call in reversed(daemon.calls.made) if call.name == "grow_filesystem")


def test_a_filesystem_is_grown_where_it_is_mounted(daemon: SimulatedDaemon) -> None:
    daemon.host.mount(A, "/mnt")
    assert grown(daemon).args == ("/dev/mapper/tank-a", "/mnt")


def test_one_that_is_mounted_nowhere_is_grown_by_its_node(daemon: SimulatedDaemon) -> None:
    assert grown(daemon).args == ("/dev/mapper/tank-a", None)


@pytest.mark.parametrize(("places", "expected"), [(["swap"], None), (["swap", "/mnt"], "/mnt")])
def test_swap_is_no_place_at_which_a_filesystem_is_mounted(
    daemon: SimulatedDaemon, places: list[str], expected: str | None
) -> None:
    for place in places:
        daemon.host.mount(A, place)
    assert grown(daemon).args == ("/dev/mapper/tank-a", expected)


# What cannot be written


def test_what_is_to_be_read_only_never_comes_up_writable(daemon: SimulatedDaemon) -> None:
    daemon.also(device_record("b", readOnly=True))
    daemon.settle()
    loads = [call for call in daemon.calls.made if call.name == "load" and call.args[0] == "tank-b"]
    assert [call.args[-1] for call in loads] == [True]


# The check of a pool's metadata, before it comes up


def down(daemon: SimulatedDaemon) -> None:
    daemon.outside.dm.remove(A)
    daemon.outside.dm.remove(POOL)


def test_of_what_is_harmless_it_is_told_what_mends_it(daemon: SimulatedDaemon) -> None:
    down(daemon)
    daemon.host.files[META].leaks = "some metadata blocks have leaked"
    note = run_step(daemon.kernel, CheckMetadata(META)).note
    assert "leaked" in note
    assert f"thin_check --auto-repair {META}" in note


def test_of_damage_it_is_told_what_makes_a_repaired_copy(daemon: SimulatedDaemon) -> None:
    down(daemon)
    daemon.host.files[META].damage = "bad checksum in superblock"
    with pytest.raises(HostError, match=f"bad checksum in superblock; `thin_repair -i {META} -o NEW`") as raised:
        run_step(daemon.kernel, CheckMetadata(META))
    assert raised.value.errno == errno.EUCLEAN
