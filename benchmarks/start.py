"""How soon the program starts, against what it cannot do without: `import click`."""

from __future__ import annotations

import statistics
import sys

from benchmarks.host import PROGRAM, run, seconds

TIMES = 15
MOST = 2.0


def main() -> None:
    ours, theirs = [], []
    for _ in range(TIMES):  # in turn, so that a busy moment meets both
        ours.append(seconds(lambda: run(PROGRAM, "--version")))
        theirs.append(seconds(lambda: run(sys.executable, "-c", "import click")))
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"--version takes {ratio:.2f} times as long as `import click`")
    if ratio >= MOST:
        sys.exit("too slow: start")


if __name__ == "__main__":
    main()
