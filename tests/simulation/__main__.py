"""`python -m tests.simulation`: many lives of a daemon on a simulated host, each from a seed.

A story that ends badly is cut down and printed, with the command that tells it again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Final

from tests.simulation.directories import directories, in_the_same_order
from tests.simulation.story import Story, cut_down, fails

_CHUNK: Final = 25


@dataclass(frozen=True, slots=True)
class Told:
    counts: Counter[str]
    failed: tuple[int, ...]


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
    begun = time.monotonic()
    counts: Counter[str] = Counter()
    failed: list[int] = []
    chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
    done = 0
    with ProcessPoolExecutor(jobs) as pool:
        for chunk, told in zip(chunks, pool.map(live, chunks), strict=True):
            done += len(chunk)
            counts += told.counts
            failed += told.failed
            if len(failed) >= most:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    seconds = time.monotonic() - begun
    print(f"{done} seeds in {seconds:.0f} s ({done / seconds:.1f} a second), {len(failed)} ended badly")
    for what, number in counts.most_common():
        print(f"{number:10} {what}")
    for seed in failed[:most]:
        _shrink(seed)
    return 1 if failed else 0


def live(seeds: range) -> Told:
    counts: Counter[str] = Counter()
    failed = []
    with directories() as new:
        for seed in seeds:
            story = Story(seed, new())
            if story.ending() is not None:  # told again, and in full, by whoever asked
                failed.append(seed)
            story.end()
            counts.update(story.village.counts)
            counts["edits of manifests"] += story.world.operator.edits
    return Told(counts, tuple(failed))


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
        story = Story(seed, new(), only)
        error = story.ending()
        story.end()
    if aloud or error is not None:
        print("\n".join(story.told))
    if error is None:
        print(f"seed {seed} ends well")
        return 0
    traceback.print_exception(error)
    return 1


if __name__ == "__main__":
    sys.exit(main())
