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
from chaos.calm import calm_down, converge
from chaos.daemon import Daemon
from chaos.ending import check_disks, take_down
from chaos.host import Failed, NotSo, is_thrown_away, run
from chaos.invariants import check
from chaos.leaving import abandon, clear_away
from chaos.report import report
from chaos.stage import Stage
from chaos.story import Story
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
    story = Story(aloud=given.aloud)
    story.title(f"{given.minutes:g} minutes, seed {given.seed}")
    stage = None
    try:
        stage = build(story)
        begin(stage)
        play(stage, given.seed, given.minutes)
    except Exception as wrong:  # noqa: BLE001 - whatever it is, it is told with the seed
        tell_failure(wrong, story, stage, given)
        if stage is not None:
            abandon(stage)
        return 1
    return 0


def build(story: Story) -> Stage:
    """All that is there before the reconciler is."""
    place.FOLDER.mkdir(parents=True)
    manifests = place.FOLDER / "manifests"
    manifests.mkdir(mode=0o755)
    daemon = Daemon(manifests, place.FOLDER / "state", place.FOLDER / "daemon.log")
    writers = Writers(place.FOLDER, Path("/mnt/chaos"), place.FILES, place.BLOCKS)
    stage = Stage(
        story,
        daemon,
        place.records(manifests),
        writers,
        runtime.begin(place.FOLDER),
        foreign.make(place.FOLDER),
        place.build_metadata_disk(),
    )
    stage.untouched = foreign.portrait(stage.foreign)
    return stage


def begin(stage: Stage) -> None:
    """Everything is there, as declared, and in use."""
    stage.records.write()
    stage.daemon.start()
    converge(stage)
    users = stage.writers.all()
    stage.using.update(users)
    for name in users:
        stage.writers.start(name)
    note(stage)
    stage.story.title(f"{len(stage.records.specs)} records are as declared, and {len(users)} devices are written to")


def play(stage: Stage, seed: int, minutes: float) -> None:
    Adversary(stage, seed).work(minutes * 60)
    took = calm_down(stage)
    check(stage)
    check_disks(stage)
    said = report(stage, seed, minutes, took)
    take_down(stage)
    clear_away(stage)
    print(f"\n{said}", flush=True)


def tell_failure(wrong: Exception, story: Story, stage: Stage | None, given: argparse.Namespace) -> None:
    print(f"\nthe story so far:\n{story.text()}")
    if stage is not None:
        print(f"\nthe daemon's log:\n{stage.daemon.told()[-LOGGED:]}")
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
