"""`make soak`: the same things broken again and again, several at a time and at random, for as long as somebody likes.

After each round everything must be as declared, and the daemon must have grown by nothing. The seed is printed: the
same one breaks the same things in the same order.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from demo.__main__ import EXPECTED, begin, in_a_sandbox
from demo.daemon import NotSo, until
from demo.kernel import devices, is_live, loops, shell, table
from demo.stage import Stage

ACTIVE: Final = ("tank-app", "tank-scratch", "vault-ledger", "vault-ledger-backup")
LONGEST: Final = 60.0
"""Seconds that a round may take, with several things broken at once."""
WARM: Final = 5
"""Rounds after which the daemon has all that it needs."""
MOST_GROWTH: Final = 16 << 10
"""KiB of memory that it may take beyond that: caches and fragments, no leak of a round's worth."""


def remove(name: str) -> None:
    shell(f"dmsetup remove {name}", check=False)  # udev may be looking into it


def suspend(name: str) -> None:
    shell(f"dmsetup suspend {name}")


def leave_table_waiting(name: str) -> None:
    sectors = table(name).split()[1]
    shell(f"dmsetup load {name} --table '0 {sectors} error'")


def replace(name: str) -> None:
    sectors = table(name).split()[1]
    shell(f"dmsetup load {name} --table '0 {sectors} error'")
    shell(f"dmsetup resume {name}")


def remove_node(name: str) -> None:
    Path(f"/dev/mapper/{name}").unlink()


BREAKING: Final[tuple[Callable[[str], None], ...]] = (remove, suspend, leave_table_waiting, replace, remove_node)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))  # noqa: S311 - not a secret
    given = parser.parse_args()
    if not in_a_sandbox():
        return 1
    stage = begin()
    stage.screen.title(f"{given.minutes:g} minutes, seed {given.seed}")
    try:
        soak(stage, random.Random(given.seed), given.minutes * 60)  # noqa: S311
    except EXPECTED as error:
        stage.screen.wrong(f"{type(error).__name__}: {error}")
        stage.screen.log(stage.daemon)
        return 1
    return 0


def soak(stage: Stage, rng: random.Random, seconds: float) -> None:
    """Raises what goes wrong."""
    stage.daemon.start()
    count = stage.daemon.count()
    until(lambda: stage.daemon.all_ready(count), "everything is as declared")
    broken: Counter[str] = Counter()
    end, rounds, longest, warm = time.monotonic() + seconds, 0, 0.0, 0
    while time.monotonic() < end:
        rounds += 1
        began = time.monotonic()
        for what in break_some(stage, rng):
            broken[what] += 1
        until(lambda: is_as_declared(stage, count), "everything is as declared again", within=LONGEST)
        longest = max(longest, time.monotonic() - began)
        if rounds == WARM:
            warm = memory(stage)
        if rounds % 10 == 0:
            stage.screen.step(f"{rounds} rounds, the longest {longest:.1f} s, the daemon has {memory(stage)} KiB")
    growth = memory(stage) - warm if warm else 0
    stage.screen.title(f"{rounds} rounds, the longest {longest:.1f} s; it grew by {growth} KiB")
    stage.screen.answer("\n".join(f"{number:6} {what}" for what, number in broken.most_common()))
    if growth > MOST_GROWTH:
        raise NotSo(f"the daemon grew by {growth} KiB in {rounds - WARM} rounds")


def break_some(stage: Stage, rng: random.Random) -> list[str]:
    """One or more things at once, now and then all of them; their names."""
    if rng.random() < 0.1:
        reboot(stage)
        return ["reboot"]
    chosen = [(rng.choice(BREAKING), name) for name in rng.sample(ACTIVE, rng.randint(1, len(ACTIVE)))]
    for breaks, name in chosen:
        breaks(name)
    return [breaks.__name__ for breaks, _ in chosen]


def reboot(stage: Stage) -> None:
    stage.daemon.kill()
    for name in devices():
        shell(f"dmsetup remove --retry {name}")
    shell("losetup --detach-all")
    until(lambda: not loops(), "all loops are gone")
    stage.daemon.start()


def is_as_declared(stage: Stage, count: int) -> bool:
    """The daemon says so, and the kernel too."""
    return stage.daemon.all_ready(count) and all(
        is_live(name, "thin") and Path(f"/dev/mapper/{name}").exists() for name in ACTIVE
    )


def memory(stage: Stage) -> int:
    """KiB that the daemon and its workers have in memory."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "status").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        if str(stage.daemon.pid) in (fields["Pid"], fields["PPid"]):
            found += int(fields.get("VmRSS", "0").split()[0])
    return found


if __name__ == "__main__":
    sys.exit(main())
