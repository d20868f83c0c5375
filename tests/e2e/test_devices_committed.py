"""Devices that are recorded as Inactive or Committed: their data is there, and no device is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak

REASONS = {"Committed": "CommittedButActive", "Inactive": "ActiveButDesiredInactive"}


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(house.pool())
        house.start("--suspend-grace", "1s", "--resync", "250ms")
        house.wait_pool()
        yield house


@contextmanager
def mounted_elsewhere(house: House, name: str) -> Iterator[str]:
    """In a mount namespace that only another process sees."""
    point = house.root / f"hidden {name}"
    point.mkdir()
    script = f"mount '{house.node(name)}' '{point}' && echo ready && read line"
    command = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        yield str(point)
        other.communicate("\n")


@pytest.mark.parametrize("state", ["Committed", "Inactive"])
def test_what_somebody_activated_is_deactivated(house: House, state: str) -> None:
    name = f"woken-{state.lower()}"
    house.have(name, state=state)
    table = house.thin_table(name)
    with house.asleep():
        run("dmsetup", "create", house.dm_name(name), "--table", table)
    eventually(lambda: house.info(name) is None, "it is gone")
    house.wait(name, live="Inactive")
    assert house.told(name, "Found", REASONS[state])
    assert not house.node(name).is_symlink()


@pytest.mark.parametrize("state", ["Committed", "Inactive"])
def test_what_is_suspended_is_resumed_before_it_goes(house: House, state: str) -> None:
    name = f"frozen-{state.lower()}"
    house.have(name, state=state)
    table = house.thin_table(name)
    with house.asleep():
        run("dmsetup", "create", house.dm_name(name), "--table", table)
        run("udevadm", "settle")
        run("dmsetup", "suspend", house.dm_name(name))
        # Whoever opens it and reads now, waits. Somebody does.
        reader = subprocess.Popen(
            ["dd", f"if={house.node(name)}", "of=/dev/null", "bs=4096", "count=1", "iflag=direct"]
        )
    eventually(lambda: house.told(name, "Found", "Suspended"), "it is told")
    assert reader.wait(30) == 0, "the reader got what it waited for"
    eventually(lambda: house.info(name) is None, "it is gone")
    house.wait(name, live="Inactive")


@pytest.mark.parametrize("state", ["Committed", "Inactive"])
def test_an_active_device_is_taken_down_when_its_record_says_so(house: House, state: str) -> None:
    name = f"done-{state.lower()}"
    house.have(name, filesystem={"type": "ext4"})
    with house.mounted(name) as point:
        (point / "file").write_text("kept", encoding="utf-8")
    house.have(name, state=state, filesystem={"type": "ext4"})
    assert house.info(name) is None
    house.have(f"{name}-look", snapshotOf=name)
    with house.mounted(f"{name}-look") as point:
        assert (point / "file").read_text(encoding="utf-8") == "kept"


def test_a_device_in_use_waits_and_names_a_mount_in_another_namespace(house: House) -> None:
    house.have("used", filesystem={"type": "ext4"})
    with mounted_elsewhere(house, "used") as point:
        house.change("used", state="Committed", filesystem={"type": "ext4"})
        status = house.wait("used", "Busy")
        assert f"mounted at {point}" in status["message"]
        assert any(holder.startswith(f"mounted at {point}") for holder in status["holders"])
        house.look_again()
        assert house.table("used"), "it is left alone"
        assert house.told("used", "Found", "CommittedButActive")
    eventually(lambda: house.info("used") is None, "it goes when it is closed")
    house.wait("used")


def test_a_filesystem_that_was_lazily_unmounted_names_who_keeps_it(house: House) -> None:
    point = mounted_by_hand(house, "lazy")
    with (point / "file").open("w", encoding="utf-8"):
        run("umount", "--lazy", str(point))
        house.change("lazy", state="Inactive", filesystem={"type": "ext4"})
        status = house.wait("lazy", "Busy")
        assert any(f"(pid {os.getpid()}), with a file on it open" in holder for holder in status["holders"])
        assert f"(pid {os.getpid()})" in status["message"]
    eventually(lambda: house.info("lazy") is None, "it goes once the file is closed")


def test_a_loop_on_a_file_inside_is_named(house: House) -> None:
    point = mounted_by_hand(house, "around")
    (point / "image").write_bytes(bytes(1 << 20))
    loop = Path(run("losetup", "--find", "--show", str(point / "image")).out.strip())
    run("umount", "--lazy", str(point))
    try:
        house.change("around", state="Inactive", filesystem={"type": "ext4"})
        status = house.wait("around", "Busy")
        assert f"{loop.name}, whose file is on it" in status["holders"]
    finally:
        run("losetup", "--detach", str(loop))
    eventually(lambda: house.info("around") is None, "it goes once the loop is detached")


def mounted_by_hand(house: House, name: str) -> Path:
    """Where a new device of that name is mounted, for a test to unmount."""
    house.have(name, filesystem={"type": "ext4"})
    point = house.root / f"on-{name}"
    point.mkdir()
    run("mount", str(house.node(name)), str(point))
    return point


def test_a_device_in_use_names_the_process_and_the_device_above(house: House) -> None:
    house.have("below")
    above = f"{house.prefix}above"
    run("dmsetup", "create", above, "--table", f"0 2048 linear {house.node('below')} 0")
    run("udevadm", "settle")
    descriptor = os.open(house.node("below"), os.O_RDONLY)
    try:
        house.change("below", state="Inactive")
        status = house.wait("below", "Busy")
        assert f"device {above}" in status["holders"]
        assert any(f"(pid {os.getpid()})" in holder for holder in status["holders"])
    finally:
        os.close(descriptor)
    run("dmsetup", "remove", "--retry", above)
    eventually(lambda: house.info("below") is None, "it goes when nobody holds it")


@pytest.mark.parametrize("state", ["Active", "Inactive"])
def test_what_is_committed_stays_committed(house: House, state: str) -> None:
    name = f"final-{state.lower()}"
    house.have(name, state="Committed")
    status = house.have(name, "InvalidChange", state=state)
    assert "take a snapshot" in status["message"]
    house.look_again()
    assert house.info(name) is None
    house.have(name, state="Committed")


def test_an_inactive_device_comes_back_with_its_data(house: House) -> None:
    house.have("resting", filesystem={"type": "ext4"})
    thin_id = house.status("resting")["deviceId"]
    with house.mounted("resting") as point:
        (point / "file").write_text("kept", encoding="utf-8")
    house.have("resting", state="Inactive", filesystem={"type": "ext4"})
    assert house.info("resting") is None
    house.have("resting", filesystem={"type": "ext4"})
    with house.mounted("resting") as point:
        assert (point / "file").read_text(encoding="utf-8") == "kept"
    assert house.status("resting")["deviceId"] == thin_id


@pytest.mark.parametrize("state", ["Committed", "Inactive"])
def test_making_it_never_shows_it(house: House, state: str) -> None:
    name = f"unseen-{state.lower()}"
    house.declare(house.device(name, state=state, filesystem={"type": "ext4"}), file=f"{name}.yaml")
    shown: set[str] = set()

    def made() -> bool:
        shown.update(listed.name for listed in house.dm.list_all())
        return house.status(name).get("reason") == "Converged"

    eventually(made, "it is made", pause=0.02)
    assert house.dm_name(name) not in shown
    assert f"{house.dm_name(name)}.private" in shown, "its filesystem was made where nobody looks"
    house.have(f"{name}-look", snapshotOf=name)
    assert run("blkid", "-p", "-o", "value", "-s", "TYPE", str(house.node(f"{name}-look"))).out == "ext4"
