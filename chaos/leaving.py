"""What the chaos made is taken away again, so that who comes after it finds a host as it was."""

from __future__ import annotations

import shutil
import signal

from chaos.host import attempt, run
from chaos.place import FOLDER, METADATA
from chaos.stage import Stage


def clear_away(stage: Stage) -> None:
    """After everything was taken down. Raises Failed."""
    for name in (*reversed(stage.foreign.names), METADATA):
        attempt("dmsetup", "resume", name)
        run("dmsetup", "remove", "--retry", name)
    for line in run("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE").splitlines():
        loop, _, file = line.partition(" ")
        if file.strip().startswith(f"{FOLDER}/"):
            run("losetup", "--detach", loop)
    shutil.rmtree(FOLDER)


def abandon(stage: Stage) -> None:
    """After a failure: what runs is ended, what is there is left to be looked at."""
    stage.writers.kill()
    stage.daemon.end(signal.SIGKILL)
