"""The adversary is gone, and has taken back what only it can take back. Now everything has to converge, by itself."""

from __future__ import annotations

import time
from typing import Final

from chaos.host import NotSo
from chaos.place import OWN
from chaos.records import Name, state_of
from chaos.repair import repair_unhealthy
from chaos.runtime import POOL as THEIRS
from chaos.stage import TAKING_BACK, Stage

CONVERGING: Final = 240.0
"""Seconds. A step that failed for long is tried again after as long; what is healed at once takes a few."""
ROUNDS: Final = 2
LOOK_EVERY: Final = 0.5


def calm_down(stage: Stage) -> float:
    """Seconds until all was as declared. Raises NotSo with what is not."""
    story = stage.story
    story.title("the adversary stops, and takes back what only it can")
    stage.using.clear()
    stage.later(0, "nothing is written to or mounted any more", lambda: _stop_users(stage))
    stage.undo_all(TAKING_BACK)
    stage.daemon.start()
    took = converge(stage)
    story.title(f"all is as declared, {took:.1f} s later")
    return took


def converge(stage: Stage) -> float:
    """Seconds that it took. Raises NotSo with what is not as declared."""
    began, looked = time.monotonic(), stage.daemon.looks()
    enough = looked + ROUNDS * (len(OWN) + 1) + 1
    while wrong := not_converged(stage) or _not_looked(stage, enough):
        stage.daemon.watch()
        for pool in repair_unhealthy(stage):
            stage.story.tell(f"{pool} was unhealthy")
        if time.monotonic() - began > CONVERGING:
            raise NotSo(f"not as declared after {CONVERGING:.0f} s:\n" + "\n".join(wrong))
        time.sleep(LOOK_EVERY)
    return time.monotonic() - began


def _not_looked(stage: Stage, enough: float) -> list[str]:
    """What it says may be from before: it has to go over every pool again."""
    looked = stage.daemon.looks()
    return [] if looked >= enough else [f"it has gone over pools {looked:.0f} times, and not yet {enough:.0f}"]


def _stop_users(stage: Stage) -> None:
    for name in stage.writers.all():
        stage.writers.stop(name)


def not_converged(stage: Stage) -> list[str]:
    """Records that the daemon does not call as desired, or has not looked at since they were edited."""
    if not str(stage.daemon.ask("/readyz")).startswith("ok"):
        return [f"the daemon is not ready: {stage.daemon.ask('/readyz')}"]
    items = {**stage.daemon.items("pools"), **stage.daemon.items("devices")}
    wrong = []
    for name in stage.records.specs:
        item = items.get(str(name))
        if item is None or not item["status"]:
            wrong.append(f"{name}: not looked at")
        elif not _is_as_wanted(stage, name, item["status"]):
            status = item["status"]
            wrong.append(f"{name}: {status['live']}, {status['reason']}: {status['message']}")
    return wrong


def _is_as_wanted(stage: Stage, name: Name, status: dict[str, object]) -> bool:
    """Ready, and for the record as it is now: an answer may be from before an edit."""
    wanted = state_of(stage.records.spec(name))
    if name.pool == THEIRS and not name.device:
        return bool(status["ready"])
    live = {"Active": "Active", "Inactive": "Inactive", "Committed": "Inactive", "Absent": "Absent"}[wanted]
    return bool(status["ready"]) and status["live"] == live
