"""What becomes of devices while their pool is suspended, must not be written to, is full, or is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from reconciler.model.errors import HostError
from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool())
        env.start("--suspend-grace", "1s", "--resync", "250ms")
        env.wait_pool()
        yield env


def fill_metadata(env: Environment, pool: str) -> None:
    """Somebody makes thins in it until the kernel refuses."""
    with env.asleep(), suppress(HostError):
        for number in range(100_000, 102_000):
            env.dm.message(env.prefix + pool, f"create_thin {number}")


def mode(env: Environment, pool: str) -> str:
    return run("dmsetup", "status", "--noflush", env.prefix + pool).out


def test_devices_wait_for_a_suspended_pool_and_are_resumed_after_it(env: Environment) -> None:
    env.declare(env.pool("cold"), file="cold.yaml")
    env.have("one", pool="cold")
    pool = f"{env.prefix}cold"
    with env.asleep():
        run("dmsetup", "suspend", env.dm_name("one", "cold"))
        run("dmsetup", "suspend", pool)

    def is_resumed() -> bool:
        info, below = env.info("one", "cold"), env.dm.info(pool)
        assert info is not None
        assert below is not None
        assert info.suspended or not below.suspended, "the pool first"
        return not info.suspended

    eventually(is_resumed, "both are resumed", pause=0.01)
    assert env.told("one", "Blocked", "WaitingForPool", "cold")
    env.wait("one", pool="cold", live="Active")


def test_devices_wait_for_a_pool_that_cannot_be(env: Environment) -> None:
    env.declare(
        env.pool("none", data={"device": f"/dev/{env.prefix}none"}, metadata={"device": "/dev/dmrtest-none"}),
        env.device("one", "none"),
        env.device("gone", "none", state="Absent"),
        file="none.yaml",
    )
    env.wait("one", "WaitingForPool", pool="none")
    env.wait("gone", "Converged", pool="none")
    assert env.info("one", "none") is None
    env.declare(file="none.yaml")


def test_devices_wait_for_a_pool_that_is_to_be_inactive(env: Environment) -> None:
    env.declare(env.pool("down"), file="down.yaml")
    env.have("kept", pool="down", state="Inactive")
    env.declare(env.pool("down", state="Inactive"), file="down.yaml")
    eventually(lambda: env.dm.info(f"{env.prefix}down") is None, "the pool is down")
    env.have("late", "WaitingForPool", pool="down")
    env.wait("kept", pool="down", live="Inactive")
    env.declare(env.pool("down"), file="down.yaml")
    env.wait("late", pool="down", live="Active")


@pytest.fixture(scope="module")
def read_only(env: Environment) -> Iterator[str]:
    metadata = {"file": str(env.root / "ro.meta"), "size": "2MiB"}
    env.declare(env.pool("ro", metadata=metadata), file="ro.yaml")
    env.wait_pool(pool="ro")
    for name in ("frozen", "removed", "deleted", "done"):
        env.have(name, pool="ro")
    env.have("golden", pool="ro", state="Committed")
    fill_metadata(env, "ro")
    assert " ro " in mode(env, "ro")
    env.wait_pool("PoolUnhealthy", pool="ro")
    yield "ro"
    env.declare(env.pool("ro", metadata={**metadata, "size": "8MiB"}), file="ro.yaml")
    env.wait_pool(pool="ro")
    env.wait("removed", pool="ro", live="Active")
    env.wait("new", pool="ro", live="Active")
    eventually(lambda: env.status("deleted", "ro").get("live") == "Absent", "what was to go is gone")


class TestAPoolThatMustNotBeWritten:
    """Its metadata is full: what hangs is let go, what should not be up goes, nothing is made or deleted."""

    def test_a_suspended_device_is_resumed(self, env: Environment, read_only: str) -> None:
        run("dmsetup", "suspend", env.dm_name("frozen", read_only))
        eventually(lambda: env.told("frozen", "Found", "Suspended", read_only), "it is told")
        eventually(lambda: (info := env.info("frozen", read_only)) and not info.suspended, "it is resumed")
        env.wait("frozen", "PoolUnhealthy", read_only, live="Active")

    def test_a_device_that_is_done_with_is_deactivated(self, env: Environment, read_only: str) -> None:
        env.declare(env.device("done", read_only, state="Inactive"), file="ro-done.yaml")
        eventually(lambda: env.info("done", read_only) is None, "it is gone")

    def test_a_committed_device_that_is_active_is_deactivated(self, env: Environment, read_only: str) -> None:
        table = env.thin_table("golden", read_only)
        run("dmsetup", "create", env.dm_name("golden", read_only), "--table", table)
        eventually(lambda: env.info("golden", read_only) is None, "it is gone")

    def test_nothing_is_made_deleted_or_activated(self, env: Environment, read_only: str) -> None:
        env.have("new", "PoolUnhealthy", read_only)
        env.change("deleted", read_only, state="Absent")
        with env.asleep():
            run("dmsetup", "remove", "--retry", env.dm_name("removed", read_only))
        env.wait("removed", "PoolUnhealthy", read_only, live="Inactive")
        loads = env.metric("dm_reconciler_actions_total", action="activate", result="success")
        env.look_again()
        assert env.metric("dm_reconciler_actions_total", action="activate", result="success") == loads
        assert env.info("removed", read_only) is None
        assert env.info("new", read_only) is None
        assert env.status("new", read_only).get("deviceId") is None
        assert env.status("deleted", read_only)["deviceId"] is not None, "its thin is still there"


@pytest.fixture(scope="module")
def full(env: Environment) -> str:
    data = {"file": str(env.root / "full.data"), "size": "16MiB"}
    env.declare(env.pool("full", data=data, whenFull="error"), file="full.yaml")
    env.wait_pool(pool="full")
    env.have("origin", pool="full", size="64MiB")
    env.have("frozen", pool="full")
    env.have("golden", pool="full", state="Committed")
    node = env.node("origin", "full")
    run("dd", "if=/dev/zero", f"of={node}", "bs=1M", "count=20", "oflag=direct", check=False)
    eventually(lambda: "out_of_data_space" in mode(env, "full"), "it is full")
    env.wait("origin", "PoolUnhealthy", "full")
    return "full"


class TestAFullPool:
    """Nothing is made, and no origin is suspended for a snapshot: it would block behind the writes that wait."""

    def test_no_snapshot_is_taken(self, env: Environment, full: str) -> None:
        suspends = env.metric("dm_reconciler_actions_total", action="create_snap", result="success")
        env.have("copy", "PoolUnhealthy", full, snapshotOf="origin")
        env.look_again()
        assert (info := env.info("origin", full))
        assert not info.suspended
        assert env.status("copy", full).get("deviceId") is None
        assert env.metric("dm_reconciler_actions_total", action="create_snap", result="success") == suspends

    def test_a_suspended_device_is_resumed(self, env: Environment, full: str) -> None:
        run("dmsetup", "suspend", "--noflush", env.dm_name("frozen", full))
        eventually(lambda: env.told("frozen", "Found", "Suspended", full), "it is told")
        eventually(lambda: (info := env.info("frozen", full)) and not info.suspended, "it is resumed")

    def test_a_committed_device_that_is_active_is_deactivated(self, env: Environment, full: str) -> None:
        run("dmsetup", "create", env.dm_name("golden", full), "--table", env.thin_table("golden", full))
        eventually(lambda: env.info("golden", full) is None, "it is gone")

    def test_all_goes_on_when_there_is_room_again(self, env: Environment, full: str) -> None:
        data = {"file": str(env.root / "full.data"), "size": "64MiB"}
        env.declare(env.pool("full", data=data, whenFull="error"), file="full.yaml")
        env.wait("copy", pool=full, live="Active")
        env.wait_pool(pool=full)


class TestAPoolThatNeedsACheck:
    """Its metadata device failed: the kernel has taken the pool's metadata out of service."""

    def test_devices_are_let_go_and_nothing_is_made(self, env: Environment) -> None:
        sectors = 4 * 1024 * 2
        backing = env.root / "sick.backing"
        backing.touch()
        run("truncate", "--size", "4M", str(backing))
        loop = run("losetup", "--find", "--show", str(backing)).out
        metadata = f"{env.prefix}metadata"
        run("dmsetup", "create", metadata, "--table", f"0 {sectors} linear {loop} 0")
        env.declare(env.pool("sick", metadata={"device": f"/dev/mapper/{metadata}"}), file="sick.yaml")
        env.wait_pool(pool="sick")
        env.have("frozen", pool="sick")
        env.have("golden", pool="sick", state="Committed")
        table = env.thin_table("golden", "sick")
        with env.asleep():
            run("dmsetup", "suspend", "--noflush", "--nolockfs", metadata)
            run("dmsetup", "load", metadata, "--table", f"0 {sectors} error")
            run("dmsetup", "resume", "--noflush", "--nolockfs", metadata)
            run(
                "dd",
                "if=/dev/zero",
                f"of={env.node('frozen', 'sick')}",
                "bs=64k",
                "count=4",
                "oflag=direct",
                check=False,
            )
            run("dmsetup", "status", f"{env.prefix}sick", check=False)
            run("dmsetup", "load", metadata, "--table", f"0 {sectors} linear {loop} 0")
            run("dmsetup", "resume", "--noflush", "--nolockfs", metadata)
        assert "needs_check" in mode(env, "sick") or "Fail" in mode(env, "sick")
        env.wait("frozen", "PoolUnhealthy", "sick")
        run("dmsetup", "suspend", "--noflush", env.dm_name("frozen", "sick"))
        eventually(lambda: (info := env.info("frozen", "sick")) and not info.suspended, "it is resumed")
        env.have("new", "PoolUnhealthy", "sick")
        run("dmsetup", "create", env.dm_name("golden", "sick"), "--table", table, check=False)
        eventually(lambda: env.info("golden", "sick") is None, "what is committed is not up")
        env.look_again()
        assert env.info("new", "sick") is None


def test_while_somebody_else_has_changed_the_pool_nothing_is_made_or_activated(env: Environment) -> None:
    env.declare(env.pool("moved"), file="moved.yaml")
    for name in ("frozen", "removed"):
        env.have(name, pool="moved")
    env.have("golden", pool="moved", state="Committed")
    table, pool = env.thin_table("golden", "moved"), f"{env.prefix}moved"
    was = int(mode(env, "moved").split()[3])
    run("dmsetup", "message", pool, "0", f"set_transaction_id {was} {was + 7}")
    env.wait_pool("MetadataMismatch", pool="moved")
    with env.asleep():
        run("dmsetup", "remove", "--retry", env.dm_name("removed", "moved"))
        run("dmsetup", "suspend", env.dm_name("frozen", "moved"))
        run("dmsetup", "create", env.dm_name("golden", "moved"), "--table", table)
    eventually(lambda: (info := env.info("frozen", "moved")) and not info.suspended, "what hangs is let go")
    eventually(lambda: env.info("golden", "moved") is None, "what is committed goes")
    env.have("new", "MetadataMismatch", "moved")
    env.wait("removed", "MetadataMismatch", "moved")
    env.look_again()
    assert env.info("removed", "moved") is None
    assert env.info("new", "moved") is None
    assert mode(env, "moved").split()[3] == str(was + 7)
    run("dmsetup", "message", pool, "0", f"set_transaction_id {was + 7} {was}")
    env.wait("removed", pool="moved", live="Active")
    env.wait("new", pool="moved", live="Active")
