"""A host whose udevd was killed or stopped, or whose /dev/mapper somebody emptied: devices come up all the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos import udevd as standing
from reconciler.kernel.nodes import UDEV_CONTROL, _udevd_pids, udevd_answers, udevd_listens
from reconciler.sandbox.kernel import find_udev
from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.real_kernel import run

SOON = 20.0
"""Seconds: below the wait for one cookie, of which a device with a filesystem has several."""


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.start("--resync", "1s")
        env.declare(env.pool())
        env.wait_pool()
        yield env


@pytest.fixture
def no_udev() -> Iterator[None]:
    """Killed by SIGKILL: the file of its socket stays."""
    for pid in _udevd_pids():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not udevd_listens(), "udevd is gone")
    assert Path(UDEV_CONTROL).exists()
    yield
    run(find_udev(), "--daemon")
    eventually(udevd_answers, "udevd is back")
    run("udevadm", "trigger", "--settle", "--subsystem-match=block")


@pytest.fixture
def deaf_udev() -> Iterator[None]:
    run("udevadm", "settle")
    standing.stop()
    yield
    standing.go_on()
    run("udevadm", "settle")


def holds_a_filesystem(env: Environment, name: str) -> bool:
    with env.mounted(name) as point:
        (point / "file").write_text("kept", encoding="utf-8")
    return env.node(name).is_block_device()


def test_a_killed_udevd_holds_up_no_device(env: Environment, no_udev: None) -> None:
    del no_udev
    begun = time.monotonic()
    env.have("plain")
    env.have("formatted", filesystem={"type": "ext4", "label": "x"})
    assert time.monotonic() - begun < SOON
    assert holds_a_filesystem(env, "formatted")
    said = env.cli("doctor", check=False).out
    assert "systemctl" in said
    assert "udev" in said


def test_a_stopped_udevd_holds_up_no_device_for_long(env: Environment, deaf_udev: None) -> None:
    del deaf_udev
    env.have("while-deaf", filesystem={"type": "ext4", "label": "y"})
    assert holds_a_filesystem(env, "while-deaf")
    begun = time.monotonic()
    env.have("then")
    assert time.monotonic() - begun < SOON
    said = env.cli("doctor", check=False).out
    assert "kill -CONT" in said


def test_all_nodes_come_back_to_a_folder_that_was_removed(env: Environment) -> None:
    env.have("noded")
    pool = Path("/dev/mapper", env.prefix + "tank")
    shutil.rmtree("/dev/mapper")
    eventually(lambda: env.node("noded").is_block_device(), "the device's node is back")
    eventually(pool.is_block_device, "the pool's node is back")
    env.wait("noded")
    env.wait_pool()
    env.have("later", filesystem={"type": "ext4", "label": "z"})
    assert holds_a_filesystem(env, "later")


def make_file(path: Path) -> None:
    path.write_text("a file", encoding="utf-8")


def make_folder(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_file, "a plain file is in its place: `rm /dev/mapper/"),
        (make_folder, "a folder is in its place: `rm -r /"),
    ],
)
def test_what_is_in_the_way_of_a_node_is_named(env: Environment, make: Callable[[Path], None], words: str) -> None:
    env.have("blocked")
    node = env.node("blocked")
    node.unlink()
    make(node)
    told = eventually(
        lambda: words in env.status("blocked")["message"] and env.status("blocked")["message"], f"{words} is told"
    )
    subprocess.run(told.split("`")[1], shell=True, check=True)  # noqa: S602  # the command that it says
    env.wait("blocked")
    assert node.is_block_device()


def test_a_file_under_the_private_devices_name_is_never_formatted(env: Environment) -> None:
    node = Path("/dev/mapper", f"{env.dm_name('careful')}.private")
    node.write_bytes(b"somebody's" + bytes(64 << 20))
    before = node.read_bytes()
    with node.open("rb") as file:  # udev itself removes what stands there when the device goes
        env.change("careful", filesystem={"type": "ext4", "label": "c"})
        eventually(lambda: "a plain file is in its place" in env.log.read_text(encoding="utf-8"), "it is told")
        assert file.read() == before
    node.unlink(missing_ok=True)
    env.wait("careful")


@pytest.fixture
def no_semaphores() -> Iterator[None]:
    """All that the host may have are in use, by somebody else."""
    sem = Path("/proc/sys/kernel/sem")
    before = sem.read_text(encoding="ascii")
    sem.write_text(" ".join([*before.split()[:3], "4"]), encoding="ascii")
    made: list[str] = []
    while (done := run("ipcmk", "-S", "1", check=False)).code == 0:
        made.append(done.out.split()[-1])
    yield
    for each in made:
        run("ipcrm", "-s", each)
    sem.write_text(before, encoding="ascii")


def test_used_up_semaphores_hold_up_no_device_and_are_told(env: Environment, no_semaphores: None) -> None:
    del no_semaphores
    begun = time.monotonic()
    env.have("crowded", filesystem={"type": "ext4", "label": "s"})
    assert time.monotonic() - begun < SOON
    assert holds_a_filesystem(env, "crowded")
    assert "no semaphore can be made" in env.log.read_text(encoding="utf-8")
    said = env.cli("doctor", check=False).out
    assert "semaphores of this host are in use" in said
    assert "`ipcs -s`" in said
