"""Devices that are recorded as Active: whatever is done to them by hand, they come back as they were, with their data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.real_kernel import run

GRACE = 2.0
SECTORS = 16 * 1024 * 2
"""Of a device of 16 MiB."""


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool())
        env.start("--suspend-grace", f"{GRACE}s", "--resync", "250ms")
        env.wait_pool()
        yield env


def write(node: Path, text: str) -> None:
    run("dd", f"of={node}", "conv=fsync,notrunc", "oflag=direct", "status=none", stdin=text.ljust(4096))


def read(node: Path, length: int) -> str:
    """Past the page cache."""
    return run("dd", f"if={node}", "bs=4096", "count=1", "iflag=direct", "status=none").out[:length]


@contextmanager
def held_open(node: Path) -> Iterator[None]:
    descriptor = os.open(node, os.O_RDONLY)
    try:
        yield
    finally:
        os.close(descriptor)


def test_a_removed_device_is_activated_again_with_its_data(env: Environment) -> None:
    env.have("gone")
    write(env.node("gone"), "what was written")
    heals = env.metric(
        "dm_reconciler_heals_total", kind="ThinDevice", reason="InactiveButDesiredActive", result="success"
    )
    drift = env.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="InactiveButDesiredActive")
    run("dmsetup", "remove", "--retry", env.dm_name("gone"))
    eventually(lambda: env.info("gone"), "it is back")
    env.wait("gone", live="Active")
    assert read(env.node("gone"), 16) == "what was written"
    warning = f'device "{env.dm_name("gone")}" is recorded as Active but is not active, activating it'
    assert warning in env.tail()
    assert env.told("gone", "Found", "InactiveButDesiredActive")
    eventually(lambda: env.told("gone", "Healed", "InactiveButDesiredActive"), "it is told")
    now = env.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="InactiveButDesiredActive")
    assert now == drift + 1
    now = env.metric(
        "dm_reconciler_heals_total", kind="ThinDevice", reason="InactiveButDesiredActive", result="success"
    )
    assert now == heals + 1


def test_a_device_is_resumed_once_its_suspension_has_outlasted_the_grace(env: Environment) -> None:
    env.have("frozen")
    run("dmsetup", "suspend", env.dm_name("frozen"))
    env.wait("frozen", "Suspended", live="Suspended")
    eventually(lambda: (info := env.info("frozen")) and not info.suspended, "it is resumed")
    env.wait("frozen")
    healed = [e for e in env.events(env.key("frozen")) if (e["type"], e["reason"]) == ("Healed", "Suspended")]
    assert healed[0]["seconds"] >= GRACE * 0.9


def test_somebody_who_takes_snapshots_is_not_disturbed(env: Environment) -> None:
    env.have("origin")
    resumes = env.metric("dm_reconciler_actions_total", action="resume", result="success")
    for _ in range(4):  # together longer than the grace, each shorter
        run("dmsetup", "suspend", env.dm_name("origin"))
        env.wait("origin", "Suspended")
        assert (info := env.info("origin"))
        assert info.suspended
        run("dmsetup", "resume", env.dm_name("origin"))
        env.wait("origin")
    assert env.metric("dm_reconciler_actions_total", action="resume", result="success") == resumes


@pytest.mark.soak
def test_somebody_between_load_and_resume_is_not_disturbed(env: Environment) -> None:
    env.have("reloaded")
    longer = env.table("reloaded").replace(f"0 {SECTORS} ", f"0 {SECTORS * 2} ")
    run("dmsetup", "load", env.dm_name("reloaded"), "--table", longer)
    env.wait("reloaded", "InactiveTableLeft")
    assert (info := env.info("reloaded"))
    assert info.inactive_table
    run("dmsetup", "resume", env.dm_name("reloaded"))
    assert env.table("reloaded") == longer


@pytest.mark.soak
def test_a_shell_without_a_table_gets_its_table(env: Environment) -> None:
    env.have("shell")
    uuid = env.status("shell")["uuid"]
    table = env.table("shell")
    with env.asleep():
        run("dmsetup", "remove", "--retry", env.dm_name("shell"))
        run("dmsetup", "create", env.dm_name("shell"), "--notable", "--uuid", uuid)
    env.wait("shell", "TablelessShell")
    eventually(lambda: env.table("shell") == table, "it has its table")
    env.wait("shell")
    assert env.node("shell").exists()


def test_a_foreign_table_that_waits_in_a_suspended_device_is_dropped_before_the_resume(env: Environment) -> None:
    env.have("trapped")
    write(env.node("trapped"), "still here")
    table = env.table("trapped")
    run("dmsetup", "load", env.dm_name("trapped"), "--table", f"0 {SECTORS} error")
    run("dmsetup", "suspend", env.dm_name("trapped"))
    eventually(lambda: (info := env.info("trapped")) and not info.suspended, "it is resumed")
    assert env.table("trapped") == table
    assert read(env.node("trapped"), 10) == "still here"
    assert (info := env.info("trapped"))
    assert not info.inactive_table


@pytest.mark.soak
def test_a_table_left_in_the_inactive_slot_is_cleared(env: Environment) -> None:
    env.have("waiting")
    table = env.table("waiting")
    run("dmsetup", "load", env.dm_name("waiting"), "--table", f"0 {SECTORS} error")
    env.wait("waiting", "InactiveTableLeft")
    eventually(lambda: (info := env.info("waiting")) and not info.inactive_table, "it is cleared")
    assert env.table("waiting") == table
    env.wait("waiting")


@pytest.mark.parametrize("kind", ["error", "another thin"])
def test_a_wrong_table_under_a_closed_device_is_put_right(env: Environment, kind: str) -> None:
    name = f"wrong-{kind[:5]}"
    env.have(name)
    if kind == "another thin":
        env.have("other", state="Inactive")
    write(env.node(name), "the right one")
    right, wrong = env.table(name), f"0 {SECTORS} error"
    if kind == "another thin":
        wrong = f"{right.rpartition(' ')[0]} {env.status('other')['deviceId']}"
    with env.asleep():
        run("dmsetup", "load", env.dm_name(name), "--table", wrong)
        run("dmsetup", "resume", env.dm_name(name))
        run("udevadm", "settle")
    eventually(lambda: env.table(name) == right, "the right table is live")
    assert read(env.node(name), 13) == "the right one"
    env.wait(name)
    assert env.told(name, "Found", "WrongTable")


def test_a_wrong_table_under_an_open_device_is_left_until_it_is_closed(env: Environment) -> None:
    env.have("open")
    env.have("another", state="Inactive")
    right = env.table("open")
    wrong = f"{right.rpartition(' ')[0]} {env.status('another')['deviceId']}"
    with env.asleep():
        run("dmsetup", "load", env.dm_name("open"), "--table", wrong)
        run("dmsetup", "resume", env.dm_name("open"))
        holder = os.open(env.node("open"), os.O_RDONLY)
    try:
        status = env.wait("open", "Busy")
        assert f"(pid {os.getpid()})" in status["message"]
        env.look_again()
        assert env.table("open") == wrong
        assert env.told("open", "Found", "WrongTable")
    finally:
        os.close(holder)
    eventually(lambda: env.table("open") == right, "it is put right after its close")
    env.wait("open")


def test_an_error_table_under_a_mounted_filesystem_is_replaced_at_once(env: Environment) -> None:
    env.have("pulled", filesystem={"type": "ext4"})
    right = env.table("pulled")
    with env.mounted("pulled") as point:
        (point / "file").write_text("not lost", encoding="utf-8")
        run("sync", "--file-system", str(point))
        run("dmsetup", "wipe_table", env.dm_name("pulled"))
        eventually(lambda: env.table("pulled") == right, "the thin is back under the filesystem")
        run("sysctl", "-q", "vm.drop_caches=3")
        assert (point / "file").read_text(encoding="utf-8") == "not lost"
    env.wait("pulled")


def test_the_read_only_flag_follows_the_record_and_not_the_hand(env: Environment) -> None:
    env.have("flag")
    env.change("flag", readOnly=True)
    eventually(lambda: (info := env.info("flag")) and info.read_only, "it is read-only")
    env.wait("flag")
    table = env.table("flag")
    run("dmsetup", "load", env.dm_name("flag"), "--table", table)
    run("dmsetup", "resume", env.dm_name("flag"))
    eventually(lambda: (info := env.info("flag")) and info.read_only, "it is read-only again")
    env.change("flag", readOnly=False)
    eventually(lambda: (info := env.info("flag")) and not info.read_only, "it can be written")
    assert env.told("flag", "Found", "WrongTable")


@pytest.mark.soak
def test_an_open_device_becomes_read_only_after_its_close(env: Environment) -> None:
    env.have("writer")
    with held_open(env.node("writer")):
        env.change("writer", readOnly=True)
        env.wait("writer", "Busy")
        assert (info := env.info("writer"))
        assert not info.read_only
    eventually(lambda: (info := env.info("writer")) and info.read_only, "it is read-only")


def test_a_deferred_removal_is_cancelled(env: Environment) -> None:
    env.have("deferred")
    with held_open(env.node("deferred")):
        run("dmsetup", "remove", "--deferred", env.dm_name("deferred"))
        eventually(lambda: (info := env.info("deferred")) and not info.deferred_remove, "it is cancelled")
    env.look_again(1)
    assert env.info("deferred"), "it outlives its last close"
    env.wait("deferred")
    assert env.told("deferred", "Found", "DeferredRemovePending")


def test_lost_nodes_come_back(env: Environment) -> None:
    env.have("nodeless")
    link = Path("/dev/disk/by-id", f"dm-uuid-{env.status('nodeless')['uuid']}")
    assert link.exists()
    link.unlink()
    env.node("nodeless").unlink()
    eventually(lambda: env.node("nodeless").exists() and link.exists(), "both are back")
    env.wait("nodeless")
    assert env.told("nodeless", "Found", "NodeMissing")
