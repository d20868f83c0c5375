"""What no real kernel can be asked to show at will: lost power, lost events, calls that would hang, commits that fail."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reconciler.kernel.protocol import Kernel, Mkfs
from reconciler.kernel.simulated import Calls, Crashed, WouldBlockError, simulated_kernel
from reconciler.kernel.simulated.pool import CommitFault
from reconciler.model.dm_tables import PoolTable, Target, ThinTable
from reconciler.model.errors import HostError
from reconciler.model.units import Bytes, Sectors, sectors
from tests.simulation.host import PlayedHost, is_torn

MIB = 1024 * 1024


class Small:
    """A host with a live pool `p` and a live thin `t`."""

    def __init__(self, calls: Calls | None = None) -> None:
        self.host = PlayedHost()
        self.calls = calls or Calls()
        self.kernel: Kernel = simulated_kernel(self.host, self.calls)
        self.kernel.disks.make_file("/srv/meta", Bytes(2 * MIB), allocate=True)
        self.kernel.disks.make_file("/srv/data", Bytes(4 * MIB), allocate=False)
        self.up()
        self.kernel.dm.message("p", "create_thin 0")
        self.thin()

    def up(self) -> None:
        disks, dm = self.kernel.disks, self.kernel.dm
        metadata, data = disks.attach("/srv/meta"), disks.attach("/srv/data")
        dm.create("p", "DMR-p")
        dm.load("p", (PoolTable(sectors(Bytes(4 * MIB)), metadata.devno, data.devno, Sectors(128), 2).target(),))
        dm.resume("p", hidden=True)

    def thin(self, name: str = "t", thin_id: int = 0) -> None:
        dm = self.kernel.dm
        pool = dm.info("p")
        assert pool is not None
        dm.create(name, f"DMR-{name}")
        dm.load(name, (ThinTable(Sectors(2048), pool.devno, thin_id).target(),))
        dm.resume(name)


@pytest.fixture
def small() -> Small:
    return Small()


@contextmanager
def fails(number: int) -> Iterator[None]:
    with pytest.raises(HostError) as caught:
        yield
    assert caught.value.code == errno.errorcode[number]


def test_a_power_cut_keeps_what_was_committed_and_no_more(small: Small) -> None:
    small.host.io.write("t", 0, "flushed")
    small.host.io.flush("t")
    small.host.io.write("t", 0, "lost")
    small.host.io.write("t", 1, "lost too")
    small.host.power_cut()
    assert not small.kernel.dm.list_all()
    assert not small.host.loops
    small.up()
    assert small.host.thin("p", 0).content == {0: "flushed"}


def test_a_reboot_loses_nothing(small: Small) -> None:
    small.host.io.write("t", 1, "kept")
    small.host.reboot()
    small.up()
    assert small.host.thin("p", 0).content == {1: "kept"}


def test_an_event_that_is_lost_leaves_a_device_without_its_node(small: Small) -> None:
    small.host.nodes.lost = 1
    small.kernel.dm.message("p", "create_thin 1")
    small.thin("u", 1)
    info = small.kernel.dm.info("u")
    assert info is not None
    assert small.kernel.udev.missing(info) == ("/dev/mapper/u",)
    small.kernel.udev.trigger(info.devno)
    assert not small.kernel.udev.missing(info)


def test_what_would_hang_is_told_and_not_done(small: Small) -> None:
    dm = small.kernel.dm
    dm.suspend("p")
    for call in (dm.suspend, lambda name: small.kernel.tools.discard(f"/dev/mapper/{name}")):
        with pytest.raises(WouldBlockError):
            call("t")
    assert not small.host.io.write("t", 0, "waits")
    info = dm.info("t")
    assert info is not None
    assert (info.internal_suspend, info.open_count) == (True, 1)
    dm.resume("p")
    assert small.host.io.read("t", 0) == "waits"


def test_a_flushing_suspend_blocks_behind_writes_that_wait_for_space(small: Small) -> None:
    for number in range(65):
        small.host.io.write("t", number, "x")
    assert "out_of_data_space" in small.kernel.dm.status("p")[0][1]
    with pytest.raises(WouldBlockError):
        small.kernel.dm.suspend("t")
    small.kernel.dm.suspend("p")  # the pool has no I/O of its own that would have to end first


def test_after_the_kernels_timeout_a_full_pool_fails_writes_until_there_is_room(small: Small) -> None:
    """As tests/e2e/test_pools_full.py sees it on a real one: the status says so, and the table does not."""
    small.kernel.dm.message("p", "create_thin 1")
    small.thin("u", 1)
    number = 0
    while small.host.io.write("u", number, "x"):
        number += 1
    small.host.no_space_timeout("p")
    assert small.host.devices.open_count(small.host.devices.by_name["u"]) == 0, "who waited has got its error"
    assert "error_if_no_space" in small.kernel.dm.status("p")[0][1]
    assert "error_if_no_space" not in str(small.kernel.dm.table("p")[0])
    with fails(errno.ENOSPC):
        small.host.io.write("t", 0, "x")
    small.kernel.dm.remove("u")
    small.kernel.dm.message("p", "delete 1")
    assert " rw " in small.kernel.dm.status("p")[0][1]
    assert "queue_if_no_space" in small.kernel.dm.status("p")[0][1]


def test_a_message_hangs_while_something_below_the_pool_is_suspended() -> None:
    host = PlayedHost()
    kernel = simulated_kernel(host)
    disk, data = host.add_disk("sda", 4 * MIB), host.add_disk("sdb", 4 * MIB)
    kernel.dm.create("below", "LVM-x")
    kernel.dm.load("below", (Target(Sectors(0), Sectors(8192), "linear", f"{disk} 0"),))
    kernel.dm.resume("below")
    below = kernel.dm.info("below")
    assert below is not None
    kernel.dm.create("p", "")
    kernel.dm.load("p", (PoolTable(Sectors(8192), below.devno, data, Sectors(128), 0).target(),))
    kernel.dm.resume("p")
    kernel.dm.suspend("below")
    with pytest.raises(WouldBlockError):
        kernel.dm.message("p", "create_thin 0")
    kernel.dm.resume("below")
    kernel.dm.message("p", "create_thin 0")
    assert kernel.disks.below(host.devices.get("ask", "p").devno)[1:] == [below.devno]


@pytest.mark.parametrize(
    ("how", "shown"), [(CommitFault.READ_ONLY, " ro "), (CommitFault.FAIL, "Fail")], ids=["ro", "Fail"]
)
def test_a_message_whose_commit_fails_is_answered_with_ok(small: Small, how: CommitFault, shown: str) -> None:
    small.host.fail_commits("p", how)
    small.kernel.dm.message("p", "create_thin 1")
    assert shown in small.kernel.dm.status("p")[0][1]
    assert 1 not in small.host.image("p").thins
    with fails(errno.EOPNOTSUPP):
        small.kernel.dm.message("p", "create_thin 2")


def test_a_snapshot_of_a_running_origin_is_torn_and_of_a_suspended_one_is_not(small: Small) -> None:
    small.host.io.begin("t")
    small.host.io.step()
    small.kernel.dm.message("p", "create_snap 1 0")
    small.kernel.dm.suspend("t")
    small.kernel.dm.message("p", "create_snap 2 0")
    small.kernel.dm.resume("t")
    assert is_torn(small.host.thin("p", 1).content)
    assert not is_torn(small.host.thin("p", 2).content)


@pytest.mark.parametrize("half", [False, True])
def test_a_write_that_fails_is_its_programs_trouble_and_of_no_other_call(small: Small, half: bool) -> None:
    small.host.io.begin("t")
    if half:
        small.host.io.step()
    small.host.fail_commits("p", CommitFault.FAIL)
    small.kernel.dm.message("p", "create_thin 1")
    small.host.io.step()
    small.kernel.dm.suspend("t")
    small.kernel.dm.resume("t")
    assert small.host.io.writers["t"].half is half, "a write that failed has changed nothing"
    if half:
        with fails(errno.EIO):
            small.host.io.end("t")


def test_a_program_that_cannot_begin_or_end_its_work_has_closed_its_device(small: Small) -> None:
    small.kernel.dm.create("shell", "")
    with fails(errno.EIO):
        small.host.io.begin("shell")
    small.host.io.begin("t")
    small.host.fail_commits("p", CommitFault.FAIL)
    with fails(errno.EIO):
        small.host.io.end("t")
    small.host.io.give_up("t")
    assert not small.host.io.writers
    for name in ("shell", "t"):
        info = small.kernel.dm.info(name)
        assert info is not None
        assert info.open_count == 0, name


def test_a_dead_caller_does_nothing_any_more() -> None:
    calls = Calls()
    small = Small(calls)
    calls.before = lambda _: calls.crash()
    with pytest.raises(Crashed):
        small.kernel.dm.suspend("t")
    calls.before = lambda _: None
    with pytest.raises(Crashed):
        small.kernel.dm.resume("t")
    info = simulated_kernel(small.host).dm.info("t")
    assert info is not None
    assert not info.suspended


def test_killed_in_the_midst_of_mkfs_there_is_no_filesystem(small: Small) -> None:
    small.calls.midway = lambda _: small.calls.crash()
    with pytest.raises(Crashed):
        small.kernel.tools.mkfs("/dev/mapper/t", Mkfs("ext4", "", Bytes(4096), discard=False))
    assert not simulated_kernel(small.host).tools.filesystem("/dev/mapper/t")
    assert small.host.thin("p", 0).mapped == 1


def test_only_the_one_who_asks_takes_note_of_a_change(small: Small) -> None:
    other = simulated_kernel(small.host)
    assert other.dm.has_changed()
    assert not other.dm.has_changed()
    small.kernel.dm.suspend("t")
    assert not other.dm.has_changed(), "a suspension announces nothing"
    small.kernel.dm.remove("t")
    assert other.dm.has_changed()
    assert not other.dm.has_changed()
