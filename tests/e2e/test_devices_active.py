"""Devices that are recorded as Active: whatever is done to them by hand, they come back as they were, with their data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.real_kernel import run

GRACE = 2.0
SECTORS = 16 * 1024 * 2
"""Of a device of 16 MiB."""


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(house.pool())
        house.start("--suspend-grace", f"{GRACE}s", "--resync", "250ms")
        house.wait_pool()
        yield house


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


def test_a_removed_device_is_activated_again_with_its_data(house: House) -> None:
    house.have("gone")
    write(house.node("gone"), "what was written")
    heals = house.metric(
        "dm_reconciler_heals_total", kind="ThinDevice", reason="InactiveButDesiredActive", result="success"
    )
    drift = house.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="InactiveButDesiredActive")
    run("dmsetup", "remove", "--retry", house.dm_name("gone"))
    eventually(lambda: house.info("gone"), "it is back")
    house.wait("gone", live="Active")
    assert read(house.node("gone"), 16) == "what was written"
    warning = f'device "{house.dm_name("gone")}" is recorded as Active but is not active, activating it'
    assert warning in house.tail()
    assert house.told("gone", "Found", "InactiveButDesiredActive")
    eventually(lambda: house.told("gone", "Healed", "InactiveButDesiredActive"), "it is told")
    now = house.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="InactiveButDesiredActive")
    assert now == drift + 1
    now = house.metric(
        "dm_reconciler_heals_total", kind="ThinDevice", reason="InactiveButDesiredActive", result="success"
    )
    assert now == heals + 1


def test_a_device_is_resumed_once_its_suspension_has_outlasted_the_grace(house: House) -> None:
    house.have("frozen")
    run("dmsetup", "suspend", house.dm_name("frozen"))
    house.wait("frozen", "Suspended", live="Suspended")
    eventually(lambda: (info := house.info("frozen")) and not info.suspended, "it is resumed")
    house.wait("frozen")
    healed = [e for e in house.events(house.key("frozen")) if (e["type"], e["reason"]) == ("Healed", "Suspended")]
    assert healed[0]["seconds"] >= GRACE * 0.9


def test_somebody_who_takes_snapshots_is_not_disturbed(house: House) -> None:
    house.have("origin")
    resumes = house.metric("dm_reconciler_actions_total", action="resume", result="success")
    for _ in range(4):  # together longer than the grace, each shorter
        run("dmsetup", "suspend", house.dm_name("origin"))
        house.wait("origin", "Suspended")
        assert (info := house.info("origin"))
        assert info.suspended
        run("dmsetup", "resume", house.dm_name("origin"))
        house.wait("origin")
    assert house.metric("dm_reconciler_actions_total", action="resume", result="success") == resumes


@pytest.mark.soak
def test_somebody_between_load_and_resume_is_not_disturbed(house: House) -> None:
    house.have("reloaded")
    longer = house.table("reloaded").replace(f"0 {SECTORS} ", f"0 {SECTORS * 2} ")
    run("dmsetup", "load", house.dm_name("reloaded"), "--table", longer)
    house.wait("reloaded", "InactiveTableLeft")
    assert (info := house.info("reloaded"))
    assert info.inactive_table
    run("dmsetup", "resume", house.dm_name("reloaded"))
    assert house.table("reloaded") == longer


@pytest.mark.soak
def test_a_shell_without_a_table_gets_its_table(house: House) -> None:
    house.have("shell")
    uuid = house.status("shell")["uuid"]
    table = house.table("shell")
    with house.asleep():
        run("dmsetup", "remove", "--retry", house.dm_name("shell"))
        run("dmsetup", "create", house.dm_name("shell"), "--notable", "--uuid", uuid)
    house.wait("shell", "TablelessShell")
    eventually(lambda: house.table("shell") == table, "it has its table")
    house.wait("shell")
    assert house.node("shell").exists()


def test_a_foreign_table_that_waits_in_a_suspended_device_is_dropped_before_the_resume(house: House) -> None:
    house.have("trapped")
    write(house.node("trapped"), "still here")
    table = house.table("trapped")
    run("dmsetup", "load", house.dm_name("trapped"), "--table", f"0 {SECTORS} error")
    run("dmsetup", "suspend", house.dm_name("trapped"))
    eventually(lambda: (info := house.info("trapped")) and not info.suspended, "it is resumed")
    assert house.table("trapped") == table
    assert read(house.node("trapped"), 10) == "still here"
    assert (info := house.info("trapped"))
    assert not info.inactive_table


@pytest.mark.soak
def test_a_table_left_in_the_inactive_slot_is_cleared(house: House) -> None:
    house.have("waiting")
    table = house.table("waiting")
    run("dmsetup", "load", house.dm_name("waiting"), "--table", f"0 {SECTORS} error")
    house.wait("waiting", "InactiveTableLeft")
    eventually(lambda: (info := house.info("waiting")) and not info.inactive_table, "it is cleared")
    assert house.table("waiting") == table
    house.wait("waiting")


@pytest.mark.parametrize("kind", ["error", "another thin"])
def test_a_wrong_table_under_a_closed_device_is_put_right(house: House, kind: str) -> None:
    name = f"wrong-{kind[:5]}"
    house.have(name)
    if kind == "another thin":
        house.have("other", state="Inactive")
    write(house.node(name), "the right one")
    right, wrong = house.table(name), f"0 {SECTORS} error"
    if kind == "another thin":
        wrong = f"{right.rpartition(' ')[0]} {house.status('other')['deviceId']}"
    with house.asleep():
        run("dmsetup", "load", house.dm_name(name), "--table", wrong)
        run("dmsetup", "resume", house.dm_name(name))
        run("udevadm", "settle")
    eventually(lambda: house.table(name) == right, "the right table is live")
    assert read(house.node(name), 13) == "the right one"
    house.wait(name)
    assert house.told(name, "Found", "WrongTable")


def test_a_wrong_table_under_an_open_device_is_left_until_it_is_closed(house: House) -> None:
    house.have("open")
    house.have("another", state="Inactive")
    right = house.table("open")
    wrong = f"{right.rpartition(' ')[0]} {house.status('another')['deviceId']}"
    with house.asleep():
        run("dmsetup", "load", house.dm_name("open"), "--table", wrong)
        run("dmsetup", "resume", house.dm_name("open"))
        holder = os.open(house.node("open"), os.O_RDONLY)
    try:
        status = house.wait("open", "Busy")
        assert f"(pid {os.getpid()})" in status["message"]
        house.look_again()
        assert house.table("open") == wrong
        assert house.told("open", "Found", "WrongTable")
    finally:
        os.close(holder)
    eventually(lambda: house.table("open") == right, "it is put right after its close")
    house.wait("open")


def test_an_error_table_under_a_mounted_filesystem_is_replaced_at_once(house: House) -> None:
    house.have("pulled", filesystem={"type": "ext4"})
    right = house.table("pulled")
    with house.mounted("pulled") as point:
        (point / "file").write_text("not lost", encoding="utf-8")
        run("sync", "--file-system", str(point))
        run("dmsetup", "wipe_table", house.dm_name("pulled"))
        eventually(lambda: house.table("pulled") == right, "the thin is back under the filesystem")
        run("sysctl", "-q", "vm.drop_caches=3")
        assert (point / "file").read_text(encoding="utf-8") == "not lost"
    house.wait("pulled")


def test_the_read_only_flag_follows_the_record_and_not_the_hand(house: House) -> None:
    house.have("flag")
    house.change("flag", readOnly=True)
    eventually(lambda: (info := house.info("flag")) and info.read_only, "it is read-only")
    house.wait("flag")
    table = house.table("flag")
    run("dmsetup", "load", house.dm_name("flag"), "--table", table)
    run("dmsetup", "resume", house.dm_name("flag"))
    eventually(lambda: (info := house.info("flag")) and info.read_only, "it is read-only again")
    house.change("flag", readOnly=False)
    eventually(lambda: (info := house.info("flag")) and not info.read_only, "it can be written")
    assert house.told("flag", "Found", "WrongTable")


@pytest.mark.soak
def test_an_open_device_becomes_read_only_after_its_close(house: House) -> None:
    house.have("writer")
    with held_open(house.node("writer")):
        house.change("writer", readOnly=True)
        house.wait("writer", "Busy")
        assert (info := house.info("writer"))
        assert not info.read_only
    eventually(lambda: (info := house.info("writer")) and info.read_only, "it is read-only")


def test_a_deferred_removal_is_cancelled(house: House) -> None:
    house.have("deferred")
    with held_open(house.node("deferred")):
        run("dmsetup", "remove", "--deferred", house.dm_name("deferred"))
        eventually(lambda: (info := house.info("deferred")) and not info.deferred_remove, "it is cancelled")
    house.look_again(1)
    assert house.info("deferred"), "it outlives its last close"
    house.wait("deferred")
    assert house.told("deferred", "Found", "DeferredRemovePending")


def test_lost_nodes_come_back(house: House) -> None:
    house.have("nodeless")
    link = Path("/dev/disk/by-id", f"dm-uuid-{house.status('nodeless')['uuid']}")
    assert link.exists()
    link.unlink()
    house.node("nodeless").unlink()
    eventually(lambda: house.node("nodeless").exists() and link.exists(), "both are back")
    house.wait("nodeless")
    assert house.told("nodeless", "Found", "NodeMissing")
