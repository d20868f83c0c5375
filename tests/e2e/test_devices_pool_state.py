"""What becomes of devices while their pool is suspended, must not be written to, is full, or is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from reconciler.model.errors import HostError
from tests.testing.environment import House, a_house, eventually
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(house.pool())
        house.start("--suspend-grace", "1s", "--resync", "250ms")
        house.wait_pool()
        yield house


def fill_metadata(house: House, pool: str) -> None:
    """Somebody makes thins in it until the kernel refuses."""
    with house.asleep(), suppress(HostError):
        for number in range(100_000, 102_000):
            house.dm.message(house.prefix + pool, f"create_thin {number}")


def mode(house: House, pool: str) -> str:
    return run("dmsetup", "status", "--noflush", house.prefix + pool).out


def test_devices_wait_for_a_suspended_pool_and_are_resumed_after_it(house: House) -> None:
    house.declare(house.pool("cold"), file="cold.yaml")
    house.have("one", pool="cold")
    pool = f"{house.prefix}cold"
    with house.asleep():
        run("dmsetup", "suspend", house.dm_name("one", "cold"))
        run("dmsetup", "suspend", pool)

    def is_resumed() -> bool:
        info, below = house.info("one", "cold"), house.dm.info(pool)
        assert info is not None
        assert below is not None
        assert info.suspended or not below.suspended, "the pool first"
        return not info.suspended

    eventually(is_resumed, "both are resumed", pause=0.01)
    assert house.told("one", "Blocked", "WaitingForPool", "cold")
    house.wait("one", pool="cold", live="Active")


def test_devices_wait_for_a_pool_that_cannot_be(house: House) -> None:
    house.declare(
        house.pool("none", data={"device": f"/dev/{house.prefix}none"}, metadata={"device": "/dev/dmrtest-none"}),
        house.device("one", "none"),
        house.device("gone", "none", state="Absent"),
        file="none.yaml",
    )
    house.wait("one", "WaitingForPool", pool="none")
    house.wait("gone", "Converged", pool="none")
    assert house.info("one", "none") is None
    house.declare(file="none.yaml")


def test_devices_wait_for_a_pool_that_is_to_be_inactive(house: House) -> None:
    house.declare(house.pool("down"), file="down.yaml")
    house.have("kept", pool="down", state="Inactive")
    house.declare(house.pool("down", state="Inactive"), file="down.yaml")
    eventually(lambda: house.dm.info(f"{house.prefix}down") is None, "the pool is down")
    house.have("late", "WaitingForPool", pool="down")
    house.wait("kept", pool="down", live="Inactive")
    house.declare(house.pool("down"), file="down.yaml")
    house.wait("late", pool="down", live="Active")


@pytest.fixture(scope="module")
def read_only(house: House) -> Iterator[str]:
    metadata = {"file": str(house.root / "ro.meta"), "size": "2MiB"}
    house.declare(house.pool("ro", metadata=metadata), file="ro.yaml")
    house.wait_pool(pool="ro")
    for name in ("frozen", "removed", "deleted", "done"):
        house.have(name, pool="ro")
    house.have("golden", pool="ro", state="Committed")
    fill_metadata(house, "ro")
    assert " ro " in mode(house, "ro")
    house.wait_pool("PoolUnhealthy", pool="ro")
    yield "ro"
    house.declare(house.pool("ro", metadata={**metadata, "size": "8MiB"}), file="ro.yaml")
    house.wait_pool(pool="ro")
    house.wait("removed", pool="ro", live="Active")
    house.wait("new", pool="ro", live="Active")
    eventually(lambda: house.status("deleted", "ro").get("live") == "Absent", "what was to go is gone")


class TestAPoolThatMustNotBeWritten:
    """Its metadata is full: what hangs is let go, what should not be up goes, nothing is made or deleted."""

    def test_a_suspended_device_is_resumed(self, house: House, read_only: str) -> None:
        run("dmsetup", "suspend", house.dm_name("frozen", read_only))
        eventually(lambda: house.told("frozen", "Found", "Suspended", read_only), "it is told")
        eventually(lambda: (info := house.info("frozen", read_only)) and not info.suspended, "it is resumed")
        house.wait("frozen", "PoolUnhealthy", read_only, live="Active")

    def test_a_device_that_is_done_with_is_deactivated(self, house: House, read_only: str) -> None:
        house.declare(house.device("done", read_only, state="Inactive"), file="ro-done.yaml")
        eventually(lambda: house.info("done", read_only) is None, "it is gone")

    def test_a_committed_device_that_is_active_is_deactivated(self, house: House, read_only: str) -> None:
        table = house.thin_table("golden", read_only)
        run("dmsetup", "create", house.dm_name("golden", read_only), "--table", table)
        eventually(lambda: house.info("golden", read_only) is None, "it is gone")

    def test_nothing_is_made_deleted_or_activated(self, house: House, read_only: str) -> None:
        house.have("new", "PoolUnhealthy", read_only)
        house.change("deleted", read_only, state="Absent")
        with house.asleep():
            run("dmsetup", "remove", "--retry", house.dm_name("removed", read_only))
        house.wait("removed", "PoolUnhealthy", read_only, live="Inactive")
        loads = house.metric("dm_reconciler_actions_total", action="activate", result="success")
        house.look_again()
        assert house.metric("dm_reconciler_actions_total", action="activate", result="success") == loads
        assert house.info("removed", read_only) is None
        assert house.info("new", read_only) is None
        assert house.status("new", read_only).get("deviceId") is None
        assert house.status("deleted", read_only)["deviceId"] is not None, "its thin is still there"


@pytest.fixture(scope="module")
def full(house: House) -> str:
    data = {"file": str(house.root / "full.data"), "size": "16MiB"}
    house.declare(house.pool("full", data=data, whenFull="error"), file="full.yaml")
    house.wait_pool(pool="full")
    house.have("origin", pool="full", size="64MiB")
    house.have("frozen", pool="full")
    house.have("golden", pool="full", state="Committed")
    node = house.node("origin", "full")
    run("dd", "if=/dev/zero", f"of={node}", "bs=1M", "count=20", "oflag=direct", check=False)
    eventually(lambda: "out_of_data_space" in mode(house, "full"), "it is full")
    house.wait("origin", "PoolUnhealthy", "full")
    return "full"


class TestAFullPool:
    """Nothing is made, and no origin is suspended for a snapshot: it would block behind the writes that wait."""

    def test_no_snapshot_is_taken(self, house: House, full: str) -> None:
        suspends = house.metric("dm_reconciler_actions_total", action="create_snap", result="success")
        house.have("copy", "PoolUnhealthy", full, snapshotOf="origin")
        house.look_again()
        assert (info := house.info("origin", full))
        assert not info.suspended
        assert house.status("copy", full).get("deviceId") is None
        assert house.metric("dm_reconciler_actions_total", action="create_snap", result="success") == suspends

    def test_a_suspended_device_is_resumed(self, house: House, full: str) -> None:
        run("dmsetup", "suspend", "--noflush", house.dm_name("frozen", full))
        eventually(lambda: house.told("frozen", "Found", "Suspended", full), "it is told")
        eventually(lambda: (info := house.info("frozen", full)) and not info.suspended, "it is resumed")

    def test_a_committed_device_that_is_active_is_deactivated(self, house: House, full: str) -> None:
        run("dmsetup", "create", house.dm_name("golden", full), "--table", house.thin_table("golden", full))
        eventually(lambda: house.info("golden", full) is None, "it is gone")

    def test_all_goes_on_when_there_is_room_again(self, house: House, full: str) -> None:
        data = {"file": str(house.root / "full.data"), "size": "64MiB"}
        house.declare(house.pool("full", data=data, whenFull="error"), file="full.yaml")
        house.wait("copy", pool=full, live="Active")
        house.wait_pool(pool=full)


class TestAPoolThatNeedsACheck:
    """Its metadata device failed: the kernel has taken the pool's metadata out of service."""

    def test_devices_are_let_go_and_nothing_is_made(self, house: House) -> None:
        sectors = 4 * 1024 * 2
        backing = house.root / "sick.backing"
        backing.touch()
        run("truncate", "--size", "4M", str(backing))
        loop = run("losetup", "--find", "--show", str(backing)).out
        metadata = f"{house.prefix}metadata"
        run("dmsetup", "create", metadata, "--table", f"0 {sectors} linear {loop} 0")
        house.declare(house.pool("sick", metadata={"device": f"/dev/mapper/{metadata}"}), file="sick.yaml")
        house.wait_pool(pool="sick")
        house.have("frozen", pool="sick")
        house.have("golden", pool="sick", state="Committed")
        table = house.thin_table("golden", "sick")
        with house.asleep():
            run("dmsetup", "suspend", "--noflush", "--nolockfs", metadata)
            run("dmsetup", "load", metadata, "--table", f"0 {sectors} error")
            run("dmsetup", "resume", "--noflush", "--nolockfs", metadata)
            run(
                "dd",
                "if=/dev/zero",
                f"of={house.node('frozen', 'sick')}",
                "bs=64k",
                "count=4",
                "oflag=direct",
                check=False,
            )
            run("dmsetup", "status", f"{house.prefix}sick", check=False)
            run("dmsetup", "load", metadata, "--table", f"0 {sectors} linear {loop} 0")
            run("dmsetup", "resume", "--noflush", "--nolockfs", metadata)
        assert "needs_check" in mode(house, "sick") or "Fail" in mode(house, "sick")
        house.wait("frozen", "PoolUnhealthy", "sick")
        run("dmsetup", "suspend", "--noflush", house.dm_name("frozen", "sick"))
        eventually(lambda: (info := house.info("frozen", "sick")) and not info.suspended, "it is resumed")
        house.have("new", "PoolUnhealthy", "sick")
        run("dmsetup", "create", house.dm_name("golden", "sick"), "--table", table, check=False)
        eventually(lambda: house.info("golden", "sick") is None, "what is committed is not up")
        house.look_again()
        assert house.info("new", "sick") is None


def test_while_somebody_else_has_changed_the_pool_nothing_is_made_or_activated(house: House) -> None:
    house.declare(house.pool("moved"), file="moved.yaml")
    for name in ("frozen", "removed"):
        house.have(name, pool="moved")
    house.have("golden", pool="moved", state="Committed")
    table, pool = house.thin_table("golden", "moved"), f"{house.prefix}moved"
    was = int(mode(house, "moved").split()[3])
    run("dmsetup", "message", pool, "0", f"set_transaction_id {was} {was + 7}")
    house.wait_pool("MetadataMismatch", pool="moved")
    with house.asleep():
        run("dmsetup", "remove", "--retry", house.dm_name("removed", "moved"))
        run("dmsetup", "suspend", house.dm_name("frozen", "moved"))
        run("dmsetup", "create", house.dm_name("golden", "moved"), "--table", table)
    eventually(lambda: (info := house.info("frozen", "moved")) and not info.suspended, "what hangs is let go")
    eventually(lambda: house.info("golden", "moved") is None, "what is committed goes")
    house.have("new", "MetadataMismatch", "moved")
    house.wait("removed", "MetadataMismatch", "moved")
    house.look_again()
    assert house.info("removed", "moved") is None
    assert house.info("new", "moved") is None
    assert mode(house, "moved").split()[3] == str(was + 7)
    run("dmsetup", "message", pool, "0", f"set_transaction_id {was + 7} {was}")
    house.wait("removed", pool="moved", live="Active")
    house.wait("new", pool="moved", live="Active")
