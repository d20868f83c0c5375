"""The whole demo: made from nothing, broken seven times, healed seven times. Exits with 0 only if all of it held."""

from __future__ import annotations

import os
import shutil
import sys
import time
import urllib.error
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Final

from demo.daemon import Daemon, NotSo, until
from demo.environment import MOUNTED, Environment
from demo.kernel import is_live, shell, write_letters
from demo.scenes import SCENES, Scene
from demo.screen import Outcome, Screen

MANIFESTS: Final = Path(__file__).parents[1] / "manifests"
FOLDER: Final = Path("/tmp/demo")  # noqa: S108 - the sandbox's own
GRACE: Final = "2s"
MEBIBYTES: Final = 8
EXPECTED: Final = (NotSo, OSError, TimeoutExpired, urllib.error.URLError, KeyError)


def main() -> int:
    if not in_a_sandbox():
        return 1
    environment = begin()
    try:
        converge(environment)
        for number, (name, scene) in enumerate(SCENES, 1):
            play(environment, f"{number}. {(scene.__doc__ or '').rstrip('.')}", name, scene)
        shown_at_the_end(environment)
    except EXPECTED as error:
        environment.screen.wrong(f"{type(error).__name__}: {error}")
    held = len(environment.outcomes) == len(SCENES) and all(outcome.held for outcome in environment.outcomes)
    if not held:
        environment.screen.log(environment.daemon)
    environment.screen.summary(environment.outcomes)
    environment.screen.end(environment.outcomes, len(SCENES))
    return 0 if held else 1


def in_a_sandbox() -> bool:
    if "User Mode Linux" in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        return True
    print("this removes every device-mapper device that it sees: run it in a sandbox, as `make demo` does")
    return False


def begin() -> Environment:
    """A directory of manifests that can be edited, as the sandbox has the tree read-only."""
    manifests = FOLDER / "manifests"
    manifests.mkdir(parents=True)
    for file in sorted(MANIFESTS.glob("*.yaml")):
        shutil.copyfile(file, manifests / file.name)
        (manifests / file.name).chmod(0o644)
    return Environment(Daemon(manifests, FOLDER, GRACE), Screen())


def converge(environment: Environment) -> None:
    """From nothing to what the manifests declare."""
    screen, daemon = environment.screen, environment.daemon
    screen.title(f"A real kernel (Linux {os.uname().release}), thrown away afterwards. Nothing is there yet:")
    environment.run("dmsetup ls")
    screen.title("The daemon is started with the manifests of this repository, and makes what they declare.")
    screen.command(daemon.command)
    since = time.time()
    daemon.start()
    count, told = daemon.count(), 0

    def tell() -> bool:
        nonlocal told
        healed = daemon.events(since, kind="Healed")
        for event in healed[told:]:
            item = event["object"]
            screen.step(f"{item['kind']} {item['name']} is there")
        told = max(told, len(healed))
        return daemon.all_ready(count)

    with screen.waiting("pools, then devices, then their snapshots"):
        until(tell, "everything is as declared")
    screen.states(daemon.everything())
    screen.say(f"As declared, {time.time() - since:.1f} s after the start. Beside it, dmsetup sees:")
    environment.run("dmsetup table")
    MOUNTED.mkdir(parents=True)
    environment.run(f"mount /dev/mapper/tank-scratch {MOUNTED}")
    environment.digest = write_letters(MOUNTED, MEBIBYTES)
    screen.say(f"A file of {MEBIBYTES} MiB is written there, with the checksum {environment.digest}.")


def play(environment: Environment, title: str, name: str, scene: Scene) -> None:
    """One scene; what goes wrong in it is shown, and the next one is played all the same."""
    outcome = Outcome(name)
    environment.outcomes.append(outcome)
    environment.screen.title(title)
    try:
        scene(environment, outcome)
    except EXPECTED as error:
        outcome.checked = f"{type(error).__name__}: {error}"
        environment.screen.wrong(outcome.checked)


def shown_at_the_end(environment: Environment) -> None:
    environment.screen.title("How it stands at the end")
    environment.screen.states(environment.daemon.everything())
    for name in ("tank", "vault"):
        if not is_live(name, "thin-pool"):
            raise NotSo(f"the pool {name} is not live")
    shell(f"umount {MOUNTED}", check=False)
    shell("umount /mnt/copy", check=False)
    status = environment.daemon.stop()
    if status != 0:
        raise NotSo(f"the daemon was to stop with 0 on SIGTERM, and ended with {status}")


if __name__ == "__main__":
    sys.exit(main())
