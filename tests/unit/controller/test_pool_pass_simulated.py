"""A pass over a pool on the simulated kernel: records converge from nothing, and drift is healed row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.kernel.simulated import simulated_kernel
from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import Target
from reconciler.model.live import LiveState
from reconciler.model.units import Sectors
from tests.simulation.calls import changes
from tests.simulation.host import is_torn
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, a_simulated_daemon, device_record, pool_record

EXT4 = {"type": "ext4"}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    with a_simulated_daemon(tmp_path / "state") as daemon:
        yield daemon


@pytest.fixture
def home(daemon: SimulatedDaemon) -> SimulatedDaemon:
    """A pool with a device and a committed device."""
    daemon.declare(
        pool_record(), device_record("a", filesystem=EXT4), device_record("b", state="Inactive", filesystem=EXT4)
    )
    daemon.settle()
    return daemon


def test_records_converge_from_nothing(daemon: SimulatedDaemon) -> None:
    daemon.declare(
        pool_record(),
        device_record("golden", filesystem=EXT4, state="Committed"),
        device_record("a", snapshotOf="golden"),
        device_record("b", snapshotOf="a", size="2MiB", filesystem=EXT4),
        device_record("raw", readOnly=True),
        device_record("later", state="Inactive"),
        device_record("never", state="Absent"),
    )
    daemon.settle()
    daemon.check()
    assert [daemon.status(name).live for name in ("golden", "a", "b", "raw", "later", "never")] == [
        LiveState.INACTIVE,
        LiveState.ACTIVE,
        LiveState.ACTIVE,
        LiveState.ACTIVE,
        LiveState.INACTIVE,
        LiveState.ABSENT,
    ]
    assert daemon.content("a") == daemon.content("golden")
    assert daemon.content("b")[0] == "ext4 4096", "its filesystem has grown with it"
    info = daemon.info("tank-raw")
    assert info is not None
    assert info.read_only


def test_an_idle_pass_changes_nothing(home: SimulatedDaemon) -> None:
    home.run(30)  # runs until the thin ids have been read after the last change
    before = len(home.calls.made)
    home.run(60)
    assert not [call for call in home.calls.made[before:] if changes(call)]


def test_two_pools_side_by_side(daemon: SimulatedDaemon) -> None:
    daemon.declare(pool_record(), pool_record("pond"), device_record("a"), device_record("a", "pond"))
    daemon.settle()
    daemon.check()
    assert daemon.info("pond-a") is not None


def _thin_table(home: SimulatedDaemon, name: str) -> Target:
    (target,) = home.kernel.dm.table(f"tank-{name}")
    return target


def remove(home: SimulatedDaemon) -> None:
    simulated_kernel(home.host).dm.remove("tank-a")


def suspend(home: SimulatedDaemon) -> None:
    simulated_kernel(home.host).dm.suspend("tank-a")


def suspend_shell(home: SimulatedDaemon) -> None:
    dm = simulated_kernel(home.host).dm
    uuid = home.known("a").uuid
    dm.remove("tank-a")
    dm.create("tank-a", uuid)
    dm.suspend("tank-a")


def shell(home: SimulatedDaemon) -> None:
    dm, uuid = simulated_kernel(home.host).dm, home.known("a").uuid
    dm.remove("tank-a")
    dm.create("tank-a", uuid)


def waiting_table(home: SimulatedDaemon) -> None:
    simulated_kernel(home.host).dm.load("tank-a", (Target(Sectors(0), Sectors(8), "error", ""),))


def suspend_with_waiting_table(home: SimulatedDaemon) -> None:
    waiting_table(home)
    suspend(home)


def error_table(home: SimulatedDaemon) -> None:
    dm = simulated_kernel(home.host).dm
    dm.load("tank-a", (Target(Sectors(0), _thin_table(home, "a").length, "error", ""),))
    dm.resume("tank-a")


def other_thin(home: SimulatedDaemon) -> None:
    dm, target = simulated_kernel(home.host).dm, _thin_table(home, "a")
    pool = target.params.split()[0]
    other = home.known("b").thin_id
    dm.load("tank-a", (Target(target.start, target.length, "thin", f"{pool} {other}"),))
    dm.resume("tank-a")


def read_only(home: SimulatedDaemon) -> None:
    dm, target = simulated_kernel(home.host).dm, _thin_table(home, "a")
    dm.load("tank-a", (target,), read_only=True)
    dm.resume("tank-a")


def shorter(home: SimulatedDaemon) -> None:
    dm, target = simulated_kernel(home.host).dm, _thin_table(home, "a")
    dm.load("tank-a", (Target(target.start, Sectors(1024), target.type, target.params),))
    dm.resume("tank-a")


def deferred(home: SimulatedDaemon) -> None:
    home.host.open("tank-a")
    home.host.remove_deferred("tank-a")
    home.run(20)
    home.host.close("tank-a")


def no_node(home: SimulatedDaemon) -> None:
    home.host.nodes.paths.pop("/dev/mapper/tank-a")


def no_link(home: SimulatedDaemon) -> None:
    home.host.nodes.paths.pop("/dev/disk/by-id/dm-name-tank-a")


def no_node_and_no_udev(home: SimulatedDaemon) -> None:
    home.host.nodes.running = False
    home.host.nodes.promised.clear()
    no_node(home)


def active_though_inactive(home: SimulatedDaemon) -> None:
    dm, known, target = simulated_kernel(home.host).dm, home.known("b"), _thin_table(home, "a")
    pool = target.params.split()[0]
    dm.create("tank-b", known.uuid)
    dm.load("tank-b", (Target(target.start, target.length, "thin", f"{pool} {known.thin_id}"),))
    dm.resume("tank-b")


def active_and_suspended_though_inactive(home: SimulatedDaemon) -> None:
    active_though_inactive(home)
    simulated_kernel(home.host).dm.suspend("tank-b")


def suspended_pool(home: SimulatedDaemon) -> None:
    simulated_kernel(home.host).dm.suspend(POOL)


def pool_waiting_table(home: SimulatedDaemon) -> None:
    dm = simulated_kernel(home.host).dm
    dm.load(POOL, dm.table(POOL))


def pool_features(home: SimulatedDaemon) -> None:
    dm = simulated_kernel(home.host).dm
    (target,) = dm.table(POOL)
    words = target.params.split()
    words[3] = "1"
    dm.load(POOL, (Target(target.start, target.length, target.type, " ".join(words)),))
    dm.resume(POOL)


def lost_pool(home: SimulatedDaemon) -> None:
    dm = simulated_kernel(home.host).dm
    dm.remove("tank-a")
    dm.remove(POOL)


def lost_pool_and_loops(home: SimulatedDaemon) -> None:
    lost_pool(home)
    home.host.loops.clear()


def held_snapshot(home: SimulatedDaemon) -> None:
    """Holds a metadata snapshot as a crash leaves it, which the store knows of."""
    simulated_kernel(home.host).dm.message(POOL, "reserve_metadata_snap")
    home.store.reserved.note(POOL, reserved=True)
    home.also(device_record("new"))


def private_left(home: SimulatedDaemon) -> None:
    dm, known, target = simulated_kernel(home.host).dm, home.known("b"), _thin_table(home, "a")
    dm.create("tank-b.private", f"{known.uuid}-private")
    pool = target.params.split()[0]
    dm.load("tank-b.private", (Target(target.start, target.length, "thin", f"{pool} {known.thin_id}"),))
    dm.resume("tank-b.private", hidden=True)
    dm.suspend("tank-b.private")


def reboot(home: SimulatedDaemon) -> None:
    home.host.reboot()


DRIFTS: tuple[Callable[[SimulatedDaemon], None], ...] = (
    remove,
    suspend,
    suspend_shell,
    shell,
    waiting_table,
    suspend_with_waiting_table,
    error_table,
    other_thin,
    read_only,
    shorter,
    deferred,
    no_node,
    no_link,
    no_node_and_no_udev,
    active_though_inactive,
    active_and_suspended_though_inactive,
    suspended_pool,
    pool_waiting_table,
    pool_features,
    lost_pool,
    lost_pool_and_loops,
    held_snapshot,
    private_left,
    reboot,
)


@pytest.mark.parametrize("drift", DRIFTS, ids=lambda drift: str(drift.__name__))
def test_drift_is_healed_and_nothing_is_lost(home: SimulatedDaemon, drift: Callable[[SimulatedDaemon], None]) -> None:
    before = home.content("a"), home.content("b"), _thin_table(home, "a")
    drift(home)
    home.run(30)
    home.settle()
    home.check()
    assert (home.content("a"), home.content("b"), _thin_table(home, "a")) == before
    info = home.info("tank-a")
    assert info is not None
    assert not info.read_only
    assert not info.deferred_remove
    assert not home.kernel.udev.missing(info)
    assert home.info("tank-b") is None


def test_a_suspension_within_the_grace_is_let_be(home: SimulatedDaemon) -> None:
    suspend(home)
    home.run(4)
    info = home.info("tank-a")
    assert info is not None
    assert info.suspended
    assert home.status("a").reason is Reason.SUSPENDED
    home.run(4)
    home.check()


def test_an_open_device_is_not_swapped(home: SimulatedDaemon) -> None:
    home.host.mount("tank-a", "/mnt")
    other_thin(home)
    home.run(30)
    assert home.status("a").reason is Reason.BUSY
    assert "/mnt" in home.status("a").message
    home.host.unmount("tank-a", "/mnt")
    home.settle()
    home.check()


def test_a_snapshot_of_a_device_at_work_is_whole(home: SimulatedDaemon) -> None:
    home.host.io.begin("tank-a")
    home.calls.before = lambda _: home.host.io.step()
    for number in range(4):
        home.also(device_record(f"moment-{number}", snapshotOf="a"))
        home.settle()
        content = home.content(f"moment-{number}")
        assert content.get(4), "it was written to"
        assert not is_torn(content)
    home.host.io.end("tank-a")
    home.check()


def test_a_deleted_device_leaves_nothing(home: SimulatedDaemon) -> None:
    ids = home.ids() - {home.known("a").thin_id}
    home.also(device_record("a", state="Absent", discardOnDelete=True))
    home.settle()
    home.check()
    assert home.ids() == ids


def test_everything_goes(home: SimulatedDaemon) -> None:
    home.also(
        pool_record(state="Absent"),
        device_record("a", state="Absent"),
        device_record("b", state="Absent"),
    )
    home.settle()
    assert not home.host.devices.by_name
    assert not home.host.files
    assert not home.host.loops


def test_a_pool_grows(home: SimulatedDaemon) -> None:
    home.also(pool_record(data={"file": "/srv/tank.data", "size": "32MiB"}))
    home.settle()
    home.check()
    assert home.host.image(POOL).data_blocks == 512


def test_somebody_elses_thin_is_not_touched(home: SimulatedDaemon) -> None:
    number = max(home.ids()) + 1
    dm = simulated_kernel(home.host).dm
    dm.message(POOL, f"create_thin {number}")
    home.also(device_record("c"))
    home.settle()
    assert home.known("c").thin_id != number
    assert number in home.ids()
