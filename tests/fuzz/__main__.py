"""`python -m tests.fuzz --inputs 100000 --seed 1`: try that many inputs on every place where bytes come in."""

# ruff: noqa: T201  # a program tells

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import TARGETS, Outcome, replay, run


def main() -> int:
    asked = _arguments()
    names = asked.target or list(TARGETS)
    if asked.replay is not None:
        return _replayed(names[0], asked.replay)
    failed = 0
    for name in names:
        target = TARGETS[name]
        outcome = run(target, max(1, int(asked.inputs * target.share)), asked.seed, asked.seconds or float("inf"))
        print(
            f"{name:<20} {outcome.inputs:>9} inputs {outcome.seconds:8.1f} s{'  FAILED' if outcome.why else ''}",
            flush=True,
        )
        if outcome.why:
            failed += 1
            _tell(outcome)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="for each target; slow ones take a share of it")
    parser.add_argument("--seconds", type=float, default=0, help="for each target, at most; 0: however long it takes")
    parser.add_argument("--seed", type=int, default=1, help="the same one gives the same inputs")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="only this one; may be repeated")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try this one input on the target")
    return parser.parse_args()


def _tell(outcome: Outcome) -> None:
    data = outcome.failed or b""
    with tempfile.NamedTemporaryFile(prefix=f"fuzz-{outcome.target}-", delete=False) as file:
        file.write(data)
    print(outcome.why)
    print(f"  the input: {data[:300]!r}{'...' if data[300:] else ''} ({len(data)} bytes)")
    print(f"  again:     {sys.executable} -m tests.fuzz --target {outcome.target} --replay {file.name}")
    print(f"  to keep:   cp {file.name} tests/fuzz/corpus/{outcome.target}/", flush=True)


def _replayed(name: str, file: Path) -> int:
    why = replay(TARGETS[name], file.read_bytes())
    print(why or "as promised")
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
