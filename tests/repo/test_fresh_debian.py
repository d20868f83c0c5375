"""`make test-debian`, interrupted: nothing stays mounted or running, nothing of this host goes with the folder."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tools.fresh_debian import NAMESPACES, TREE

INSTALL = 'mkdir -p "$5/dev" "$5/proc" "$5/sys" "$5/root" "$5/etc/apt/apt.conf.d" "$5/etc/ssl/certs"\n'
"""What the place of mmdebstrap does; the folder is its fifth argument."""
WORK = "cat /proc/mounts > {said}.mounts; sleep {seconds} & sleep {seconds} & touch {said}; wait\n"
"""Goes on until somebody ends it, with others beside it. Its seconds are its own, so that it is found by them."""


def _can_be_apart() -> bool:
    programs = all(map(shutil.which, ("setpriv", "unshare", "apt-config", "git")))
    return os.geteuid() == 0 and programs and subprocess.run([*NAMESPACES, "true"], check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not _can_be_apart(),
    reason="NOT TESTED: it needs root, apt-config, and namespaces of its own, which nobody gets in a chroot",
)


def _words(process: Path) -> list[str]:
    """None of one that has ended."""
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


class Stage:
    """The tool with programs in the place of mmdebstrap and chroot."""

    def __init__(self, folder: Path) -> None:
        self.release = f"none{uuid4().hex[:8]}"
        self.said = folder / "said"
        self.seconds = str(10_000 + uuid4().int % 1_000_000)
        self._programs = folder / "bin"
        self._programs.mkdir()

    def program(self, name: str, lines: str) -> None:
        program = self._programs / name
        program.write_text(f"#!/bin/sh\n{lines}".replace("{said}", str(self.said)).replace("{seconds}", self.seconds))
        program.chmod(stat.S_IRWXU)

    def start(self) -> subprocess.Popen[str]:
        path = f"{self._programs}:{os.environ['PATH']}"
        command = (sys.executable, "-m", "tools.fresh_debian", self.release)
        return subprocess.Popen(command, cwd=TREE, env={**os.environ, "PATH": path}, text=True)

    @property
    def folders(self) -> list[Path]:
        return list(Path("/var/tmp").glob(f"dm-reconciler-{self.release}-*"))

    @property
    def running(self) -> list[list[str]]:
        words = (_words(folder) for folder in Path("/proc").glob("[0-9]*"))
        return [each for each in words if each == ["sleep", self.seconds]]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def eventually(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_interrupted_in_the_midst_of_its_tests(stage: Stage, number: signal.Signals) -> None:
    stage.program("mmdebstrap", INSTALL)
    stage.program("chroot", WORK)
    with stage.start() as tool:
        eventually(stage.said.exists)
        (folder,) = stage.folders
        assert f" {folder}/dev " in Path(f"{stage.said}.mounts").read_text()
        assert len(stage.running) == 2
        tool.send_signal(number)
        assert tool.wait(60) == 128 + number
    assert (stage.folders, stage.running) == ([], [])
    assert str(folder) not in Path("/proc/mounts").read_text()
    assert Path("/dev/null").is_char_device()


def test_interrupted_while_it_installs(stage: Stage) -> None:
    stage.program("mmdebstrap", INSTALL + WORK)
    with stage.start() as tool:
        eventually(stage.said.exists)
        tool.send_signal(signal.SIGTERM)
        assert tool.wait(60) == 128 + signal.SIGTERM
    assert (stage.folders, stage.running) == ([], [])


def test_what_is_killed_leaves_nobody_behind(stage: Stage) -> None:
    stage.program("mmdebstrap", INSTALL)
    stage.program("chroot", WORK)
    with stage.start() as tool:
        eventually(stage.said.exists)
        tool.kill()
    eventually(lambda: not stage.running)
    (folder,) = stage.folders
    assert str(folder) not in Path("/proc/mounts").read_text()
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)


def test_what_cannot_be_installed_is_no_pass(stage: Stage) -> None:
    stage.program("mmdebstrap", "exit 3\n")
    with stage.start() as tool:
        assert tool.wait(60) == 1
    assert stage.folders == []


def test_its_status_is_that_of_the_tests(stage: Stage) -> None:
    stage.program("mmdebstrap", INSTALL)
    stage.program("chroot", "exit 3\n")
    with stage.start() as tool:
        assert tool.wait(60) == 3
    assert stage.folders == []
