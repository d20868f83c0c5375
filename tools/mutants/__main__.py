"""Makes small bugs in the product, one at a time, and says which of them no test finds.

What is changed: planner, controller, store, model, and the steps on the host. Which of some thousand mutants are tried is
drawn by the seed. Those that survive are shown, with their difference; the score is the share that was found.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tools.mutants.judge import TREE, Judge, Verdict
from tools.mutants.makers import Mutant, mutants_of

_WHERE: Final = (
    "reconciler/planner/*.py",
    "reconciler/controller/*.py",
    "reconciler/store/*.py",
    "reconciler/model/*.py",
    "reconciler/kernel/steps/*.py",
    "reconciler/kernel/worker/scan.py",
)
_NICE: Final = 15


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=60, help="how many (default: 60); 0: all")
    parser.add_argument("--seed", type=int, default=1, help="which of them (default: 1)")
    parser.add_argument("--only", default="", help="of the files with this in their path")
    parser.add_argument("--lives", type=int, default=300, help="simulated lives that each must survive (default: 300)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="side by side")
    given = parser.parse_args()
    os.nice(_NICE)
    mutants = sample_of(all_mutants(given.only), given.sample, given.seed)
    print(f"{len(mutants)} mutants, seed {given.seed}; first the tree as it is", flush=True)
    begun, verdicts = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="dm-reconciler-mutants-") as folder:
        judges = [Judge(Path(folder) / str(number), given.lives) for number in range(max(1, given.jobs))]
        trouble = judges[0].trouble()
        if trouble:
            print(trouble)
            return 1
        for verdict in _judged(mutants, judges):
            verdicts.append(verdict)
            _tell(verdict, len(verdicts), len(mutants))
    return _conclude(verdicts, time.monotonic() - begun)


def all_mutants(only: str) -> list[Mutant]:
    paths = sorted(path for pattern in _WHERE for path in TREE.glob(pattern) if only in str(path))
    return [each for path in paths for each in mutants_of(path.relative_to(TREE), path.read_text(encoding="utf-8"))]


def sample_of(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """The same for the same seed and tree, and the beginning of each larger one. 0: all."""
    shuffled = list(mutants)
    random.Random(f"mutants {seed}").shuffle(shuffled)  # noqa: S311  # no secret
    return shuffled[:count] if count else shuffled


def _judged(mutants: list[Mutant], judges: list[Judge]) -> Iterator[Verdict]:
    """Each judge has one at a time, as it has one copy of the tree."""
    free: queue.SimpleQueue[Judge] = queue.SimpleQueue()
    for judge in judges:
        free.put(judge)

    def work(mutant: Mutant) -> Verdict:
        judge = free.get()
        try:
            return judge.judge(mutant)
        finally:
            free.put(judge)

    with ThreadPoolExecutor(len(judges)) as pool:
        yield from pool.map(work, mutants)


def _tell(verdict: Verdict, number: int, count: int) -> None:
    mutant = verdict.mutant
    said = f"found by {verdict.found_by}" if verdict.found_by else "SURVIVED"
    print(f"{number:4}/{count} {mutant.path}:{mutant.line}: {mutant.what}: {said}", flush=True)


def _conclude(verdicts: list[Verdict], seconds: float) -> int:
    survivors = [verdict.mutant for verdict in verdicts if not verdict.found_by]
    for mutant in survivors:
        print(f"\nSURVIVED: {mutant.path}:{mutant.line}: {mutant.what}\n{mutant.diff()}")
    found = Counter(verdict.found_by for verdict in verdicts if verdict.found_by)
    print(f"\n{sum(found.values())} of {len(verdicts)} mutants found in {seconds / 60:.0f} min", end="")
    print(f": {100 * sum(found.values()) / max(1, len(verdicts)):.1f} %")
    for stage, number in found.most_common():
        print(f"{number:6} by {stage}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
