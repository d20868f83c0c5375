"""Devices that are recorded as Inactive or Committed: their data is there, and no device is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak

REASONS = {"Committed": "CommittedButActive", "Inactive": "ActiveButDesiredInactive"}


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool())
        env.start("--suspend-grace", "1s", "--resync", "250ms")
        env.wait_pool()
        yield env


@contextmanager
def mounted_elsewhere(env: Environment, name: str) -> Iterator[str]:
    """In a mount namespace that only another process sees."""
    point = env.root / f"hidden {name}"
    point.mkdir()
    script = f"mount '{env.node(name)}' '{point}' && echo ready && read line"
    command = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        yield str(point)
        other.communicate("\n")


@pytest.mark.parametrize("state", ["Committed", "Inactive"])
def test_what_somebody_activated_is_deactivated(env: Environment, state: str) -> None:
    name = f"woken-{state.lower()}"
    env.have(name, state=state)
    table = env.thin_table(name)
    with env.asleep():
        run("dmsetup", "create", env.dm_name(name), "--table", table)
    eventually(lambda: env.info(name) is None, "it is gone")
    env.wait(name, live="Inactive")
    assert env.told(name, "Found", REASONS[state])
    assert not env.node(name).is_symlink()


@pytest.mark.parametrize("state", ["Committed", "Inactive"])
def test_what_is_suspended_is_resumed_before_it_goes(env: Environment, state: str) -> None:
    name = f"frozen-{state.lower()}"
    env.have(name, state=state)
    table = env.thin_table(name)
    with env.asleep():
        run("dmsetup", "create", env.dm_name(name), "--table", table)
        run("udevadm", "settle")
        run("dmsetup", "suspend", env.dm_name(name))
        # Whoever opens it and reads now, waits. Somebody does.
        reader = subprocess.Popen(["dd", f"if={env.node(name)}", "of=/dev/null", "bs=4096", "count=1", "iflag=direct"])
    eventually(lambda: env.told(name, "Found", "Suspended"), "it is told")
    assert reader.wait(30) == 0, "the reader got what it waited for"
    eventually(lambda: env.info(name) is None, "it is gone")
    env.wait(name, live="Inactive")


@pytest.mark.parametrize("state", ["Committed", "Inactive"])
def test_an_active_device_is_taken_down_when_its_record_says_so(env: Environment, state: str) -> None:
    name = f"done-{state.lower()}"
    env.have(name, filesystem={"type": "ext4"})
    with env.mounted(name) as point:
        (point / "file").write_text("kept", encoding="utf-8")
    env.have(name, state=state, filesystem={"type": "ext4"})
    assert env.info(name) is None
    env.have(f"{name}-look", snapshotOf=name)
    with env.mounted(f"{name}-look") as point:
        assert (point / "file").read_text(encoding="utf-8") == "kept"


def test_a_device_in_use_waits_and_names_a_mount_in_another_namespace(env: Environment) -> None:
    env.have("used", filesystem={"type": "ext4"})
    with mounted_elsewhere(env, "used") as point:
        env.change("used", state="Committed", filesystem={"type": "ext4"})
        status = env.wait("used", "Busy")
        assert f"mounted at {point}" in status["message"]
        assert any(holder.startswith(f"mounted at {point}") for holder in status["holders"])
        env.look_again()
        assert env.table("used"), "it is left alone"
        assert env.told("used", "Found", "CommittedButActive")
    eventually(lambda: env.info("used") is None, "it goes when it is closed")
    env.wait("used")


def test_a_filesystem_that_was_lazily_unmounted_names_who_keeps_it(env: Environment) -> None:
    point = mounted_by_hand(env, "lazy")
    with (point / "file").open("w", encoding="utf-8"):
        run("umount", "--lazy", str(point))
        env.change("lazy", state="Inactive", filesystem={"type": "ext4"})
        status = env.wait("lazy", "Busy")
        assert any(f"(pid {os.getpid()}), with a file on it open" in holder for holder in status["holders"])
        assert f"(pid {os.getpid()})" in status["message"]
    eventually(lambda: env.info("lazy") is None, "it goes once the file is closed")


def test_a_loop_on_a_file_inside_is_named(env: Environment) -> None:
    point = mounted_by_hand(env, "around")
    (point / "image").write_bytes(bytes(1 << 20))
    loop = Path(run("losetup", "--find", "--show", str(point / "image")).out.strip())
    run("umount", "--lazy", str(point))
    try:
        env.change("around", state="Inactive", filesystem={"type": "ext4"})
        status = env.wait("around", "Busy")
        assert f"{loop.name}, whose file is on it" in status["holders"]
    finally:
        run("losetup", "--detach", str(loop))
    eventually(lambda: env.info("around") is None, "it goes once the loop is detached")


def mounted_by_hand(env: Environment, name: str) -> Path:
    """Where a new device of that name is mounted, for a test to unmount."""
    env.have(name, filesystem={"type": "ext4"})
    point = env.root / f"on-{name}"
    point.mkdir()
    run("mount", str(env.node(name)), str(point))
    return point


def test_a_device_in_use_names_the_process_and_the_device_above(env: Environment) -> None:
    env.have("below")
    above = f"{env.prefix}above"
    run("dmsetup", "create", above, "--table", f"0 2048 linear {env.node('below')} 0")
    run("udevadm", "settle")
    descriptor = os.open(env.node("below"), os.O_RDONLY)
    try:
        env.change("below", state="Inactive")
        status = env.wait("below", "Busy")
        assert f"device {above}" in status["holders"]
        assert any(f"(pid {os.getpid()})" in holder for holder in status["holders"])
    finally:
        os.close(descriptor)
    run("dmsetup", "remove", "--retry", above)
    eventually(lambda: env.info("below") is None, "it goes when nobody holds it")


@pytest.mark.parametrize("state", ["Active", "Inactive"])
def test_what_is_committed_stays_committed(env: Environment, state: str) -> None:
    name = f"final-{state.lower()}"
    env.have(name, state="Committed")
    status = env.have(name, "InvalidChange", state=state)
    assert "take a snapshot" in status["message"]
    env.look_again()
    assert env.info(name) is None
    env.have(name, state="Committed")


def test_an_inactive_device_comes_back_with_its_data(env: Environment) -> None:
    env.have("resting", filesystem={"type": "ext4"})
    thin_id = env.status("resting")["deviceId"]
    with env.mounted("resting") as point:
        (point / "file").write_text("kept", encoding="utf-8")
    env.have("resting", state="Inactive", filesystem={"type": "ext4"})
    assert env.info("resting") is None
    env.have("resting", filesystem={"type": "ext4"})
    with env.mounted("resting") as point:
        assert (point / "file").read_text(encoding="utf-8") == "kept"
    assert env.status("resting")["deviceId"] == thin_id


@pytest.mark.parametrize("state", ["Committed", "Inactive"])
def test_making_it_never_shows_it(env: Environment, state: str) -> None:
    name = f"unseen-{state.lower()}"
    env.declare(env.device(name, state=state, filesystem={"type": "ext4"}), file=f"{name}.yaml")
    shown: set[str] = set()

    def made() -> bool:
        shown.update(listed.name for listed in env.dm.list_all())
        return env.status(name).get("reason") == "Converged"

    eventually(made, "it is made", pause=0.02)
    assert env.dm_name(name) not in shown
    assert f"{env.dm_name(name)}.private" in shown, "its filesystem was made where nobody looks"
    env.have(f"{name}-look", snapshotOf=name)
    assert run("blkid", "-p", "-o", "value", "-s", "TYPE", str(env.node(f"{name}-look"))).out == "ext4"
