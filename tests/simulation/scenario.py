"""A seed becomes a scenario: events, one after the other, some of them at a call to come. It is told again from the seed.

A scenario that ends badly is cut down: whatever can be left out without changing how it ends is left out, and what
remains is named by its numbers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.kernel.simulated import Call, Crashed
from tests.simulation import disks, edits, trouble, users
from tests.simulation.convergence import bring_convergence
from tests.simulation.disks import Disks
from tests.simulation.events import KINDS, World
from tests.simulation.fleet import BEFORE, Fleet
from tests.simulation.operator import POOLS, RUNTIME, TANK, VAULT, Operator
from tests.simulation.runtime import DeviceHolders, Runtime

_EVENTS_OF: Final = [module.__name__ for module in (disks, edits, users, trouble)]
"""Whose events are in KINDS by being imported. A seed draws from them in this order."""
WAIT: Final = "wait"
_WAITS: Final = (0.2, 0.5, 1, 3, 7, 20)
_LONG: Final = 70.0
"""Longer than it takes to prune."""


@dataclass(frozen=True, slots=True)
class Event:
    number: int
    kind: str
    calls: int
    """After so many calls of the daemon; 0: at once."""


def events_of(seed: int) -> list[Event]:
    rng = random.Random(f"story {seed}")
    kinds = sorted(KINDS, key=lambda kind: _EVENTS_OF.index(KINDS[kind].happen.__module__))
    weights = [KINDS[kind].weight for kind in kinds]
    count = rng.randint(6, 30)
    chosen = rng.choices([*kinds, WAIT], [*weights, sum(weights) // 3], k=count)
    first = Event(0, "declare_many", 0)
    rest = [Event(number, kind, _calls(kind, rng)) for number, kind in enumerate(chosen, start=1)]
    return [first, *rest]


def _calls(kind: str, rng: random.Random) -> int:
    midway = kind != WAIT and KINDS[kind].midway
    return rng.randrange(1, 25) if midway and rng.random() < 0.4 else 0


def pools_of(seed: int) -> tuple[str, ...]:
    rng = random.Random(f"pools {seed}")
    return tuple(name for name in POOLS if name == TANK or rng.random() < {VAULT: 0.5, RUNTIME: 0.4}[name])


class Scenario:
    """One life of a daemon. `told` says what happened, for users."""

    def __init__(self, seed: int, state_dir: Path, only: Iterable[int] | None = None) -> None:
        self.seed = seed
        self.told: list[str] = []
        events = events_of(seed)
        chosen = None if only is None else frozenset(only)
        self.events = [event for event in events if chosen is None or event.number in chosen]
        self.fleet = Fleet(state_dir, seed)
        below = Disks(self.fleet)
        pools = pools_of(seed)
        runtime = Runtime(self.fleet) if RUNTIME in pools else None
        device_holders = DeviceHolders(self.fleet)
        below.add_others()
        self.world = World(self.fleet, Operator(self.fleet, pools), runtime, device_holders, below)
        self.fleet.on_boot = self._boot

    def _boot(self) -> None:
        """What others have on the host comes back with it."""
        self.world.device_holders.names.clear()
        if self.world.runtime is not None:
            self.world.runtime.start()

    def live(self) -> None:
        """Raises AssertionError where a promise is broken, and whatever the product should never raise."""
        for event in self.events:
            self._guarded(lambda event=event: self._happen(event))  # type: ignore[misc]
        self.fleet.triggers.clear()
        bring_convergence(self.world, self._guarded, self.told)

    def ending(self) -> Exception | None:
        """What was wrong with it; None: nothing."""
        try:
            self.live()
        except Exception as error:  # noqa: BLE001  # whatever it is
            return error
        return None

    def _guarded(self, what: Callable[[], None]) -> None:
        """Once; whoever dies of it comes back."""
        try:
            what()
        except Crashed:
            self._tell("-- and starts again" + (" after the power was cut" if self.fleet.power_lost else ""))
            self.fleet.come_back()

    def _happen(self, event: Event) -> None:
        if event.kind == WAIT:
            self.fleet.run(self._rng(event).choice([*_WAITS, _LONG]))
        elif event.calls:
            self.fleet.at_call(event.calls, BEFORE, lambda call: self._do(event, call), changing=False)
        else:
            self._do(event, None)

    def _do(self, event: Event, call: Call | None) -> None:
        number = len(self.told)
        self._tell(f"#{event.number} {event.kind}")
        self.fleet.count(event.kind)
        said = KINDS[event.kind].happen(self.world, self._rng(event))
        self.told[number] += f": {said}" + (f" (before {call})" if call is not None else "")

    def _rng(self, event: Event) -> random.Random:
        return random.Random(f"event {self.seed} {event.number}")

    def _tell(self, what: str) -> None:
        self.told.append(f"{self.fleet.clock.now() - 1000:9.2f} {what}")

    def end(self) -> None:
        self.fleet.end()


def fails(seed: int, only: Sequence[int] | None, state_dir: Callable[[], Path]) -> Exception | None:
    """How the scenario ends badly; None: it does not."""
    scenario = Scenario(seed, state_dir(), only)
    error = scenario.ending()
    scenario.end()
    if error is not None:
        error.add_note("\n".join(scenario.told))
    return error


def cut_down(seed: int, state_dir: Callable[[], Path], attempts: int = 200) -> list[int]:
    """The numbers of the events that are needed for the scenario to end badly."""
    left = [event.number for event in events_of(seed)]
    size = max(1, len(left) // 2)
    while size >= 1 and attempts > 0:
        position = 0
        while position < len(left) and attempts > 0:
            attempts -= 1
            without = left[:position] + left[position + size :]
            if fails(seed, without, state_dir) is not None:
                left = without
            else:
                position += size
        size //= 2
    return left
