"""Draws what is done next, with the seed, and does it: several things at a time, as what is done lasts for a while."""

from __future__ import annotations

import time
from random import Random
from typing import Final

from chaos import edits, faults_below, faults_beside, faults_daemon, faults_devices
from chaos.environment import Environment
from chaos.faults import Fault
from chaos.host import Failed
from chaos.records import Name

ALL: Final[tuple[Fault, ...]] = (
    *faults_devices.FAULTS,
    *faults_below.FAULTS,
    *faults_beside.FAULTS,
    *faults_daemon.FAULTS,
    *edits.FAULTS,
)
SHORTEST: Final = 0.05
LONGEST: Final = 0.8
"""Seconds between two deeds."""
NOTE_EVERY: Final = 5
"""Deeds between two looks at the daemon's memory and thin ids."""


class Adversary:
    def __init__(self, environment: Environment, seed: int) -> None:
        self._environment = environment
        self._seed = seed
        self._number = 0
        self._bag: list[Fault] = []

    def work(self, seconds: float) -> None:
        """Raises NotSo for what is wrong at once: the daemon ended, or does not end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pause = self._turn()
            wake = time.monotonic() + pause
            while time.monotonic() < wake:
                self._environment.undo_due()
                time.sleep(0.02)

    def _turn(self) -> float:
        """One deed. A generator of its own for each, so that none draws from another's numbers; the pause after it."""
        self._number += 1
        rng = Random(f"{self._seed}/{self._number}")  # noqa: S311 - not a secret
        if not self._bag:
            self._bag = [fault for fault in ALL for _ in range(fault.often)]
            rng.shuffle(self._bag)
        fault, pause = self._bag.pop(), rng.uniform(SHORTEST, LONGEST)
        scenario = self._environment.scenario
        try:
            what = fault.act(self._environment, rng)
        except (Failed, OSError) as failed:
            scenario.refused[fault.kind] += 1
            scenario.tell(f"{fault.kind}: refused, {failed}")
        else:
            scenario.done[fault.kind] += 1
            scenario.tell(f"{fault.kind}: {what}" if what else fault.kind)
        if self._number % NOTE_EVERY == 0:
            note(self._environment)
        return pause


def note(environment: Environment) -> None:
    """That the daemon lives, what it takes, and which thin id each device has."""
    environment.daemon.watch()
    for name, item in environment.daemon.items("devices").items():
        pool, _, device = name.partition("/")
        number = (item["status"] or {}).get("deviceId")
        if number is not None:
            environment.thin_ids.setdefault(Name(pool, device), set()).add(number)
