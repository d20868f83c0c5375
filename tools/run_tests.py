"""`make test`: everything, and it is green only if the tests on a real kernel ran.

Those run in sandboxes, several side by side, each kernel with a part of the files, while the others run outside. Each
run is an ordinary pytest, shown whole, one after the other.

KERNEL=host runs them on this host's own kernel instead (as root; loops and own names only). KERNEL=vm runs conformance, the
seed stories and chaos in a full machine with two processors (as root). Where there is no kernel
for them at all the exit status is 3, unless ALLOW_NO_KERNEL=1 says that this is known.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.runs import Finished, Run, run_all
from tools.vm import machine, obstacle_to_a_machine

TREE: Final = Path(__file__).resolve().parent.parent
KERNEL_TESTS: Final = ("tests/kernel", "tests/e2e")
STORIES: Final = "tests/simulation/test_scenarios.py"
POWER_CUTS: Final = "tests/crash"
"""These boot kernels of their own, one after the other."""
PYTEST: Final = (sys.executable, "-m", "pytest")
SANDBOX: Final = (sys.executable, "-m", "reconciler.sandbox")
MEMORY: Final = 2 << 30
"""Of a sandbox: pools of the tests lie in memory."""
SECONDS: Final = 1200
"""After which a sandbox is ended, whatever hangs in it."""
IN_A_MACHINE: Final = {
    "conformance": ("tests/kernel/test_conformance.py", "tests/kernel/test_libdm_thins.py"),
    "seed stories": tuple(str(path.relative_to(TREE)) for path in sorted((TREE / "tests/e2e").glob("test_story_*.py"))),
    "chaos": ("tests/e2e/test_chaos.py",),
}
"""What two processors and another build of the kernel could change."""
MOST: Final = 4
PARTS: Final = 3
"""For each worker: who is done early takes the next one, at the price of another boot."""
NO_KERNEL: Final = 3
NOTHING_COLLECTED: Final = 5
STARTING: Final = 15
"""What a daemon costs, counted in tests that start none."""


def main(arguments: Sequence[str]) -> int:
    what, *extra = arguments or ["all"]
    kernel = os.environ.get("KERNEL", "sandbox")
    workers = _workers()
    runs: list[Run] = []
    obstacle = ""
    if what in ("all", "unit"):
        apart = (*KERNEL_TESTS, STORIES, POWER_CUTS)
        runs.append(Run("without a kernel", (*PYTEST, "tests", *(f"--ignore={path}" for path in apart), *extra)))
        runs.append(Run("of simulated lives", (*PYTEST, STORIES, *extra)))
    if what in ("all", "kernel"):
        obstacle = _obstacle(kernel)
        if obstacle:
            if runs:  # it is said again at the end
                _say_loudly(obstacle)
        elif kernel == "host":
            runs.append(Run("on this host's kernel", (*PYTEST, *KERNEL_TESTS, *extra)))
        elif kernel == "vm":
            workers = 1
            runs += _in_a_machine(extra)
        else:
            runs.append(Run("of power cuts", (*PYTEST, POWER_CUTS, *extra)))
            runs += _sandboxed(PARTS * workers, extra)
    finished = run_all(runs, workers, TREE)
    return _conclude(finished, obstacle, selected=bool(extra))


def _workers() -> int:
    """As many as the machine has processors and memory for."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(MOST, len(os.sched_getaffinity(0)), available // MEMORY))


def _obstacle(kernel: str) -> str:
    """Why the tests on a real kernel cannot run, empty where they can."""
    if kernel == "host":
        return "" if os.geteuid() == 0 else "KERNEL=host needs root: `sudo make test KERNEL=host`"
    if kernel == "vm":
        return obstacle_to_a_machine(TREE)
    if kernel != "sandbox":
        return f"KERNEL={kernel} is unknown: `sandbox` (the default), `host` or `vm`"
    tried = subprocess.run(
        [*SANDBOX, "--mem", "512M", "--timeout", "60", "--", "dmsetup", "targets"],
        cwd=TREE,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if tried.returncode:
        return f"the sandbox does not start: {(tried.stderr.strip() or tried.stdout.strip() or 'it says nothing')}"
    return ""


def _sandboxed(parts: int, extra: Sequence[str]) -> list[Run]:
    options = ("-p", "no:cacheprovider", *extra)  # the tree cannot be written inside
    sandbox = (*SANDBOX, "--mem", f"{MEMORY >> 20}M", "--timeout", str(SECONDS), "--")
    split = [files for files in _split(_collected(extra), parts) if files]
    return [
        Run(f"on a real kernel, {number} of {len(split)}", (*sandbox, *PYTEST, *options, *files))
        for number, files in enumerate(split, 1)
    ]


def _in_a_machine(extra: Sequence[str]) -> list[Run]:
    this = machine(TREE)
    print(f"in a full machine: {this}", flush=True)
    options = ("-p", "no:cacheprovider", *extra)  # the tree cannot be written inside
    return [
        Run(f"in a full machine: {title}", this.command(*PYTEST, *options, *files))
        for title, files in IN_A_MACHINE.items()
    ]


def _collected(extra: Sequence[str]) -> dict[str, int]:
    """How many tests each file has. Collecting outside also leaves compiled tests behind for the sandboxes."""
    listed = subprocess.run(
        [*PYTEST, *KERNEL_TESTS, "--collect-only", "-qq", *extra], cwd=TREE, check=False, capture_output=True, text=True
    )
    if listed.returncode not in (0, NOTHING_COLLECTED):
        sys.exit(f"the tests in {' and '.join(KERNEL_TESTS)} cannot be collected:\n{listed.stdout}{listed.stderr}")
    # FILE: COUNT
    pairs = [line.rpartition(": ") for line in listed.stdout.splitlines() if line.startswith(KERNEL_TESTS)]
    return {file: int(count) for file, _, count in pairs if count.isdecimal()}


def _split(counts: dict[str, int], parts: int) -> list[list[str]]:
    """Files in parts that take about equally long, the longest first."""
    weights = {file: count + _start_cost(file) for file, count in counts.items()}
    split: list[tuple[int, list[str]]] = [(0, []) for _ in range(parts)]
    for file in sorted(weights, key=lambda file: -weights[file]):
        least = min(range(parts), key=lambda part: split[part][0])
        split[least] = (split[least][0] + weights[file], [*split[least][1], file])
    return [sorted(files) for _, files in split]


def _start_cost(file: str) -> int:
    return STARTING if "tests.testing.environment" in (TREE / file).read_text(encoding="utf-8") else 0


def _conclude(finished: Sequence[Finished], obstacle: str, *, selected: bool) -> int:
    fine = {0, NOTHING_COLLECTED} if selected else {0}
    print(flush=True)
    for one in finished:
        said = "ok    " if one.status in fine and not one.skipped_kernel else "FAILED"
        print(f"{said} {one.run.title:<28} {one.summary}")
    if any(one.skipped_kernel for one in finished):
        _say_loudly("the tests themselves say so, see above")
        return NO_KERNEL
    if any(one.status not in fine for one in finished):
        return 1
    if obstacle:
        _say_loudly(obstacle)
        if os.environ.get("ALLOW_NO_KERNEL") == "1":
            print("ALLOW_NO_KERNEL=1: going on, though they did not pass.")
            return 0
        return NO_KERNEL
    return 0


def _say_loudly(obstacle: str) -> None:
    bar = "!" * 100
    print(
        f"\n{bar}\nTHE TESTS ON A REAL KERNEL DID NOT RUN: {obstacle}\n"
        "Run them on this host's own kernel (loop devices and own names only): sudo make test KERNEL=host\n"
        f"To go on without them where that is known, as in a CI without kernel: ALLOW_NO_KERNEL=1\n{bar}",
        flush=True,
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main(sys.argv[1:]))
