"""All benchmarks, each in a throw-away kernel of its own: `make bench`. Fails if one of them is too slow."""

from __future__ import annotations

import sys

from reconciler.sandbox.command import run

BENCHMARKS = (
    # (module, whether udev runs: making a thousand devices with udev would take minutes, and measures nothing)
    ("benchmarks.start", False),
    ("benchmarks.heal", True),
    ("benchmarks.many", False),
)


def main() -> int:
    wanted = sys.argv[1:]
    results = {
        module: run([sys.executable, "-m", module], memory="3G", udev=udev)
        for module, udev in BENCHMARKS
        if not wanted or module.rpartition(".")[2] in wanted
    }
    failed = [module for module, status in results.items() if status]
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed", *failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
