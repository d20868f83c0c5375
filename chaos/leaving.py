"""What the chaos made is taken away again, so that who comes after it finds a host as it was."""

from __future__ import annotations

import shutil
import signal

from chaos.environment import Environment
from chaos.host import attempt, run
from chaos.place import FOLDER, METADATA


def clear_away(environment: Environment) -> None:
    """After everything was taken down. Raises Failed."""
    for name in (*reversed(environment.foreign.names), METADATA):
        attempt("dmsetup", "resume", name)
        run("dmsetup", "remove", "--retry", name)
    for line in run("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE").splitlines():
        loop, _, file = line.partition(" ")
        if file.strip().startswith(f"{FOLDER}/"):
            run("losetup", "--detach", loop)
    shutil.rmtree(FOLDER)


def abandon(environment: Environment) -> None:
    """After a failure: what runs is ended, what is there is left to be looked at."""
    environment.writers.kill()
    environment.daemon.end(signal.SIGKILL)
