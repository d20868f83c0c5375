"""Whole lives of daemons, each from a seed; and that bugs which were planted are found by them.

Each runs as its own command, as somebody who is told of a seed types it: sets are to have the same order again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.directories import directories
from tests.simulation.mutants import BUGS
from tests.simulation.scenario import cut_down, events_of, fails

TREE = Path(__file__).parents[2]
SEEDS = 2000


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=TREE,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.timeout(900)
def test_every_story_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    said = run("tests.simulation", "--seeds", str(SEEDS))
    with capsys.disabled():
        print(f"\n{said.splitlines()[0]}")
    for what in ("kills", "power cuts", "false successes", "hanging calls", "failed calls (before)", "failed commits"):
        count = next((int(line.split()[0]) for line in said.splitlines() if line.endswith(f" {what}")), 0)
        assert count >= SEEDS // 100, f"hardly any {what}: {said}"


@pytest.mark.timeout(900)
def test_every_planted_bug_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(BUGS) >= 20
    said = run("tests.simulation.mutants", "--soon")
    with capsys.disabled():
        print(f"\n{said.splitlines()[-1]}")
    assert f"{len(BUGS)} of {len(BUGS)} bugs found" in said


def test_a_seed_tells_the_same_story_again() -> None:
    assert run("tests.simulation", "--seed", "7", "--aloud") == run("tests.simulation", "--seed", "7", "--aloud")


def test_a_story_that_ends_badly_is_cut_down_to_what_is_needed() -> None:
    with directories() as new, BUGS["a wrong table is left"]():
        seed = next(seed for seed in range(50) if fails(seed, None, new) is not None)
        needed = cut_down(seed, new)
        assert len(needed) < len(events_of(seed))
        assert fails(seed, needed, new) is not None
    with directories() as new:
        assert fails(seed, needed, new) is None
