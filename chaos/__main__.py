"""`python -m chaos --minutes M --seed S`, inside a sandbox: breaks all that can break, and sees that all heals.

The seed is printed: the same one does the same things in the same order. Exits with 0 only if everything held.
"""

from __future__ import annotations

import argparse
import random
import sys
import traceback
from pathlib import Path
from typing import Final

from chaos import foreign, place, runtime
from chaos.adversary import Adversary, note
from chaos.convergence import bring_convergence, converge
from chaos.daemon import Daemon
from chaos.ending import check_disks, take_down
from chaos.environment import Environment
from chaos.host import Failed, NotSo, is_thrown_away, run
from chaos.invariants import check
from chaos.leaving import abandon, clear_away
from chaos.report import report
from chaos.scenario import Scenario
from chaos.writers import Writers

LOGGED: Final = 40_000
"""Characters of the daemon's log that are shown."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))  # noqa: S311 - not a secret
    parser.add_argument("--aloud", action="store_true", help="tell everything as it happens")
    given = parser.parse_args()
    if not is_thrown_away():
        print("this stops udev and fills disks: run it in a sandbox, as `make soak` does")
        return 1
    scenario = Scenario(aloud=given.aloud)
    scenario.title(f"{given.minutes:g} minutes, seed {given.seed}")
    environment = None
    try:
        environment = build(scenario)
        begin(environment)
        play(environment, given.seed, given.minutes)
    except Exception as wrong:  # noqa: BLE001 - whatever it is, it is told with the seed
        tell_failure(wrong, scenario, environment, given)
        if environment is not None:
            abandon(environment)
        return 1
    return 0


def build(scenario: Scenario) -> Environment:
    """All that is there before the reconciler is."""
    place.FOLDER.mkdir(parents=True)
    manifests = place.FOLDER / "manifests"
    manifests.mkdir(mode=0o755)
    daemon = Daemon(manifests, place.FOLDER / "state", place.FOLDER / "daemon.log")
    writers = Writers(place.FOLDER, Path("/mnt/chaos"), place.FILES, place.BLOCKS)
    environment = Environment(
        scenario,
        daemon,
        place.records(manifests),
        writers,
        runtime.begin(place.FOLDER),
        foreign.make(place.FOLDER),
        place.build_metadata_disk(),
    )
    environment.untouched = foreign.portrait(environment.foreign)
    return environment


def begin(environment: Environment) -> None:
    """Everything is there, as declared, and in use."""
    environment.records.write()
    environment.daemon.start()
    converge(environment)
    users = environment.writers.all()
    environment.using.update(users)
    for name in users:
        environment.writers.start(name)
    note(environment)
    environment.scenario.title(
        f"{len(environment.records.specs)} records are as declared, and {len(users)} devices are written to"
    )


def play(environment: Environment, seed: int, minutes: float) -> None:
    Adversary(environment, seed).work(minutes * 60)
    took = bring_convergence(environment)
    check(environment)
    check_disks(environment)
    said = report(environment, seed, minutes, took)
    take_down(environment)
    clear_away(environment)
    print(f"\n{said}", flush=True)


def tell_failure(
    wrong: Exception, scenario: Scenario, environment: Environment | None, given: argparse.Namespace
) -> None:
    print(f"\nthe scenario so far:\n{scenario.text()}")
    if environment is not None:
        print(f"\nthe daemon's log:\n{environment.daemon.told()[-LOGGED:]}")
        print(f"\nthe kernel:\n{run('dmsetup', 'info', '-c')}\n{run('dmsetup', 'table')}")
    if not isinstance(wrong, NotSo | Failed):
        traceback.print_exception(wrong, file=sys.stdout)
    print(f"\nWRONG: {wrong}")
    print(
        "\nAgain: python -m reconciler.sandbox --mem 2G -- python -m chaos"
        f" --minutes {given.minutes:g} --seed {given.seed}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
