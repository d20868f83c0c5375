"""`python -m tests.simulation`: many lives of a daemon on a simulated host, each from a seed.

A scenario that ends badly is cut down and printed, with the command that tells it again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from tests.simulation.directories import directories, in_the_same_order
from tests.simulation.fleet import Fleet
from tests.simulation.scenario import Scenario, cut_down, fails
from tools.heal_times import table

_CHUNK: Final = 25


@dataclass(slots=True)
class Told:
    """Of lives, what is worth telling at the end."""

    counts: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)
    lives: int = 0
    operations: int = 0
    """Calls on the simulated host."""
    seconds: float = 0.0
    """Of the simulated clock."""
    heals: dict[str, list[float]] = field(default_factory=dict)

    def add(self, other: Told) -> None:
        self.counts += other.counts
        self.failed += other.failed
        self.lives += other.lives
        self.operations += other.operations
        self.seconds += other.seconds
        for kind, times in other.heals.items():
            self.heals.setdefault(kind, []).extend(times)

    def add_life(self, fleet: Fleet) -> None:
        self.add(Told(Counter(fleet.counts), [], 1, fleet.operations, fleet.lived, fleet.heals))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--seed", type=int, help="this one alone, told in full")
    parser.add_argument("--aloud", action="store_true", help="tell it also if it ends well")
    parser.add_argument("--only", help="of that one, these events alone: 0,3,7")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes side by side")
    parser.add_argument("--most", type=int, default=3, help="stop after so many that end badly (default: 3)")
    given = parser.parse_args()
    in_the_same_order("tests.simulation")
    if given.seed is not None:
        only = [int(number) for number in given.only.split(",")] if given.only else None
        return _tell(given.seed, only, aloud=given.aloud)
    return _run(range(given.first, given.first + given.seeds), given.jobs, given.most)


def _run(seeds: range, jobs: int, most: int) -> int:
    begun, told = time.monotonic(), Told()
    chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
    with ProcessPoolExecutor(jobs) as pool:
        for lived in pool.map(live, chunks):
            told.add(lived)
            if len(told.failed) >= most:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    _say(told, time.monotonic() - begun)
    for seed in told.failed[:most]:
        _shrink(seed)
    return 1 if told.failed else 0


def _say(told: Told, seconds: float) -> None:
    rate, hours = told.lives / seconds, seconds / 3600
    print(f"{told.lives} seeds in {seconds:.0f} s ({rate:.1f} a second), {len(told.failed)} ended badly")
    print(
        f"{told.operations} calls on the simulated host, {told.operations / hours / 1e6:.2f} million an hour; "
        f"{told.seconds / 3600:.1f} hours were lived through, {told.seconds / seconds:.0f} times as fast as real ones"
    )
    for what, number in told.counts.most_common():
        print(f"{number:10} {what}")
    print(*table(told.heals), sep="\n")


def live(seeds: range) -> Told:
    told = Told()
    with directories() as new:
        for seed in seeds:
            scenario = Scenario(seed, new())
            if scenario.ending() is not None:  # told again, and in full, by whoever asked
                told.failed.append(seed)
            scenario.end()
            told.add_life(scenario.fleet)
            told.counts["edits of manifests"] += scenario.world.operator.edits
    return told


def _shrink(seed: int) -> None:
    with directories() as new:
        needed = cut_down(seed, new)
        error = fails(seed, needed, new)
    print(f"\nseed {seed} ends badly:")
    if error is not None:
        print("".join(traceback.format_exception_only(error)))
    print(f"Again: python -m tests.simulation --seed {seed} --only {','.join(map(str, needed))}")


def _tell(seed: int, only: list[int] | None, *, aloud: bool) -> int:
    with directories() as new:
        scenario = Scenario(seed, new(), only)
        error = scenario.ending()
        scenario.end()
    if aloud or error is not None:
        print("\n".join(scenario.told))
    if error is None:
        print(f"seed {seed} ends well")
        return 0
    traceback.print_exception(error)
    return 1


if __name__ == "__main__":
    sys.exit(main())
