"""The adversary is gone, and has taken back what only it can take back. Now everything has to converge, by itself."""

from __future__ import annotations

import time
from typing import Final

from chaos.environment import TAKING_BACK, Environment
from chaos.host import NotSo
from chaos.place import OWN
from chaos.records import Name, state_of
from chaos.repair import repair_unhealthy
from chaos.runtime import POOL as THEIRS

CONVERGING: Final = 240.0
"""Seconds. A step that failed for long is tried again after as long; what is healed at once takes a few."""
ROUNDS: Final = 2
LOOK_EVERY: Final = 0.5


def bring_convergence(environment: Environment) -> float:
    """Seconds until all was as declared. Raises NotSo with what is not."""
    scenario = environment.scenario
    scenario.title("the adversary stops, and takes back what only it can")
    environment.using.clear()
    environment.later(0, "nothing is written to or mounted any more", lambda: _stop_users(environment))
    environment.undo_all(TAKING_BACK)
    environment.daemon.start()
    took = converge(environment)
    scenario.title(f"all is as declared, {took:.1f} s later")
    return took


def converge(environment: Environment) -> float:
    """Seconds that it took. Raises NotSo with what is not as declared."""
    began, looked = time.monotonic(), environment.daemon.looks()
    enough = looked + ROUNDS * (len(OWN) + 1) + 1
    while wrong := not_converged(environment) or _not_looked(environment, enough):
        environment.daemon.watch()
        for pool in repair_unhealthy(environment):
            environment.scenario.tell(f"{pool} was unhealthy")
        if time.monotonic() - began > CONVERGING:
            raise NotSo(f"not as declared after {CONVERGING:.0f} s:\n" + "\n".join(wrong))
        time.sleep(LOOK_EVERY)
    return time.monotonic() - began


def _not_looked(environment: Environment, enough: float) -> list[str]:
    """What it says may be from before: it has to go over every pool again."""
    looked = environment.daemon.looks()
    return [] if looked >= enough else [f"it has gone over pools {looked:.0f} times, and not yet {enough:.0f}"]


def _stop_users(environment: Environment) -> None:
    for name in environment.writers.all():
        environment.writers.stop(name)


def not_converged(environment: Environment) -> list[str]:
    """Records that the daemon does not call as desired, or has not looked at since they were edited."""
    if not str(environment.daemon.ask("/readyz")).startswith("ok"):
        return [f"the daemon is not ready: {environment.daemon.ask('/readyz')}"]
    items = {**environment.daemon.items("pools"), **environment.daemon.items("devices")}
    wrong = []
    for name in environment.records.specs:
        item = items.get(str(name))
        if item is None or not item["status"]:
            wrong.append(f"{name}: not looked at")
        elif not _is_as_wanted(environment, name, item["status"]):
            status = item["status"]
            wrong.append(f"{name}: {status['live']}, {status['reason']}: {status['message']}")
    return wrong


def _is_as_wanted(environment: Environment, name: Name, status: dict[str, object]) -> bool:
    """Ready, and for the record as it is now: an answer may be from before an edit."""
    wanted = state_of(environment.records.spec(name))
    if name.pool == THEIRS and not name.device:
        return bool(status["ready"])
    live = {"Active": "Active", "Inactive": "Inactive", "Committed": "Inactive", "Absent": "Absent"}[wanted]
    return bool(status["ready"]) and status["live"] == live
