"""The power goes, the kernel with all that it had not written, and the host boots again with what is on its disk.

Each test boots sandboxes. The disk that one cut has left is looked at in the boot in which the next cut is made on
another: booting is what takes the time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.crash.instants import AFTER, MIDWAY, Instant, points_of
from tests.crash.scenarios import STORIES

Job = tuple[Path, str, tuple[Any, ...]]
"""A disk, what of `tests.crash.power` is done with it, and the rest of its arguments."""
TREE = Path(__file__).parents[2]
DISK_BYTES = 192 << 20
GONE = "kernel ended before the command did: sysrq: Resetting"

SAMPLE = (
    ("create", Instant(AFTER, "store.BeginIntent")),
    ("create", Instant(AFTER, "dm.message create_thin 2")),
    ("create", Instant(MIDWAY, "tools.mkfs")),
    ("snapshot", Instant(AFTER, "dm.suspend")),
    ("snapshot", Instant(AFTER, "dm.message set_transaction_id 2 3")),
    ("grow while mounted", Instant(AFTER, "dm.resume")),  # the device is longer, its filesystem is not
    ("delete", Instant(AFTER, "dm.message delete 1")),
    ("pool extend", Instant(AFTER, "disks.grow_file")),
)


@dataclass(frozen=True, slots=True)
class Said:
    lines: list[list[str]]
    """Whole ones, in words: of the last, the power may have left a part."""
    errors: str


@dataclass(frozen=True, slots=True)
class Left:
    """What a cut has left."""

    disk: Path
    scenario: str
    instant: Instant
    flushed: dict[str, int]
    """As `scenarios.Found` has it."""

    @property
    def job(self) -> Job:
        return self.disk, "recover", (self.scenario, self.flushed)

    def check(self, said: Said) -> None:
        assert ["recovered"] in said.lines, f"after a power cut {self.instant} of {self.scenario}:\n{said.errors}"


class Host:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._home = folder / "daemon"
        with self._home.open("wb") as file:
            file.truncate(DISK_BYTES)
        said = self._boot((self._home, "make", ()))
        assert ["made"] in said.lines, said.errors

    def instants(self, scenario: str) -> list[Instant]:
        """Of a run to the end."""
        said = self._boot((self._disk("undisturbed"), "tell_instants", (scenario,)))
        told = [words[1:] for words in said.lines if words[0] == "instant"]
        assert told, said.errors
        return [Instant(when, call, int(number)) for when, call, number in told]

    def cut_at(self, story_instants: Iterable[tuple[str, Instant]]) -> int:
        """One after the other, and look what became of each. How many."""
        left: list[Left] = []
        for scenario, instant in story_instants:
            disk = self._disk(f"disk{len(left) % 2}")
            before = left[-1:]
            cut = disk, "cut", (scenario, (instant.when, instant.call, instant.number))
            said = self._boot(*(one.job for one in before), cut)
            for one in before:
                one.check(said)
            assert GONE in said.errors, f"no power cut {instant} of {scenario}:\n{said.errors}"
            left.append(Left(disk, scenario, instant, _flushed(said)))
        left[-1].check(self._boot(left[-1].job))
        return len(left)

    def _disk(self, name: str) -> Path:
        """With the daemon on it."""
        run("cp", "--sparse=always", str(self._home), str(self._folder / name))
        return self._folder / name

    def _boot(self, *jobs: Job) -> Said:
        disks = [word for disk, _, _ in jobs for word in ("--disk", str(disk))]
        sandbox = (sys.executable, "-m", "reconciler.sandbox", "--no-udev", "--mem", "512M", "--timeout", "300", *disks)
        inside = (sys.executable, "-m", "tests.crash.power", json.dumps([job for _, *job in jobs]))
        done = run(*sandbox, "--", *inside)
        whole = [line.rstrip("\n") for line in done.stdout.splitlines(keepends=True) if line.endswith("\n")]
        return Said([line.split("\t") for line in whole], done.stderr)


def _flushed(said: Said) -> dict[str, int]:
    """What the program on `a` has told; `c` is a snapshot of it that was taken after the beginning."""
    begins = said.lines.index(["begins"])
    last = {"a": said.lines, "c": said.lines[:begins]}
    return {name: max((int(w[1]) for w in lines if w[0] == "flushed"), default=0) for name, lines in last.items()}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=TREE, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    if not shutil.which("linux.uml"):
        pytest.skip("NOT TESTED: linux.uml is missing; apt-get install user-mode-linux")
    return Host(tmp_path_factory.mktemp("disks"))


@pytest.mark.timeout(600)
def test_power_cuts_in_the_midst_of_it(host: Host) -> None:
    assert host.cut_at(SAMPLE) == len(SAMPLE)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", STORIES)
def test_a_power_cut_at_every_instant(host: Host, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    points = points_of(host.instants(name))
    cuts = host.cut_at((name, point) for point in points)
    with capsys.disabled():
        print(f"\n{name}: {cuts} power cuts, recovered from each")  # noqa: T201  # to be quoted
    assert cuts > 3
