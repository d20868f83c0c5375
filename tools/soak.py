"""`make soak`: what takes long. All of it, or only what was asked for: SEEDS=N, MINUTES=M, or `soak` tests.

SEEDS=20000    lives of daemons on the simulated kernel; the rate is printed
MINUTES=30     chaos on a real kernel
(neither)      both, the fuzzers, all tests that are marked `soak`, a full machine (as root), and mutants
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

TREE: Final = Path(__file__).resolve().parent.parent
PYTHON: Final = sys.executable
SANDBOX: Final = (PYTHON, "-m", "reconciler.sandbox", "--mem", "2G")
SOAK: Final = (PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-m", "soak")
SEEDS: Final = "20000"
MINUTES: Final = "30"
INPUTS: Final = "100000"


def main() -> int:
    seeds, minutes = os.environ.get("SEEDS", ""), os.environ.get("MINUTES", "")
    everything = not seeds and not minutes
    runs: list[tuple[str, ...]] = []
    if seeds or everything:
        runs.append((PYTHON, "-m", "tests.simulation", "--seeds", seeds or SEEDS, *sys.argv[1:]))
    if everything:
        runs.append((PYTHON, "-m", "tests.fuzz", "--inputs", INPUTS))
        runs.append((*SOAK, "tests", "--ignore=tests/kernel", "--ignore=tests/e2e"))
        runs.append((*SANDBOX, "--timeout", "3600", "--", *SOAK, "tests/kernel", "tests/e2e"))
        if os.geteuid() == 0:
            runs.append(("env", "KERNEL=vm", PYTHON, "-m", "tools.run_tests", "kernel"))
        else:
            print("NOT RUN, as it needs root: `sudo make test-kernel KERNEL=vm`", flush=True)
        runs.append((PYTHON, "-m", "tools.mutants"))
    if minutes or everything:
        runs.append((*SANDBOX, "--", PYTHON, "-m", "chaos", "--minutes", minutes or MINUTES, *sys.argv[1:]))
    failed = [run for run in runs if not _passes(run)]
    for run in failed:
        print(f"FAILED: {' '.join(run)}", flush=True)
    return 1 if failed else 0


def _passes(run: tuple[str, ...]) -> bool:
    print(f"\n---- {' '.join(run[1:])}", flush=True)
    return subprocess.run(run, cwd=TREE, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
