"""The operator: does what the status of an unhealthy pool says, word for word, and nothing that it does not say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from chaos.environment import Environment
from chaos.host import Failed, attach, attempt, is_there, run, until
from chaos.place import FOLDER, OWN

LIMIT: Final = 120.0
"""Seconds until a pool that nobody uses is gone, and until it is back."""
DAMAGED: Final = ("needs_check", "fail")


def ask_for_repair(environment: Environment) -> dict[str, str]:
    """The pools whose status says how they are repaired, and what it says."""
    statuses = {pool: item["status"] or {} for pool, item in environment.daemon.items("pools").items() if pool in OWN}
    return {
        pool: str(status["message"])
        for pool, status in statuses.items()
        if status.get("reason") == "PoolUnhealthy" and status.get("mode") in DAMAGED
    }


def repair_unhealthy(environment: Environment) -> list[str]:
    """Raises Failed where somebody uses it and does not let go."""
    asking = ask_for_repair(environment)
    for pool, message in asking.items():
        _repair(environment, pool, message)
    return list(asking)


def _repair(environment: Environment, pool: str, message: str) -> None:
    said = re.findall(r"`([^`]*)`", message)
    commands = [command for command in said if command.startswith("thin_")]
    if len(commands) != 3 or "state: Inactive" not in message:
        raise Failed(f"the message of {pool} is not one that an operator could follow: {message}")
    check, mend, clear = commands
    with _out_of_use(environment, pool):
        if attempt(*check.split()).code:
            _mend(mend, check.split()[-1])
        run(*clear.split())
    environment.repairs += 1
    environment.scenario.tell(f"  {pool} is repaired with {', '.join(commands)}")


@contextmanager
def _out_of_use(environment: Environment, pool: str) -> Iterator[None]:
    """Who uses it is stopped, and its records say Inactive, until the pool is gone."""
    users = [name for name in environment.writers.all() if name.pool == pool]
    for name in users:
        environment.writers.stop(name)
    environment.records.resting.add(pool)
    environment.records.write()
    try:
        until(lambda: not is_there(pool), f"{pool} is gone, as its record is Inactive and nobody uses it", LIMIT)
        yield
    finally:
        environment.records.resting.discard(pool)
        environment.records.write()


def _mend(command: str, node: str) -> None:
    """The new metadata on a disk of the same size, and copied back."""
    size = run("blockdev", "--getsize64", node)
    new = FOLDER / "repaired.disk"
    run("truncate", "--size", size, new)
    loop = attach(new)
    try:
        run(*(loop if word == "NEW" else word for word in command.split()))
        run("dd", f"if={loop}", f"of={node}", "bs=1M", "oflag=direct", "conv=fsync")
    finally:
        run("losetup", "--detach", loop)
        new.unlink()
