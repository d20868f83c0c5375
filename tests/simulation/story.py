"""A seed becomes a story: events, one after the other, some of them at a call to come. It is told again from the seed.

A story that ends badly is cut down: whatever can be left out without changing how it ends is left out, and what
remains is named by its numbers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.kernel.simulated import Call, Crashed
from tests.simulation import disks, edits, people, trouble
from tests.simulation.calm import bring_calm
from tests.simulation.disks import Disks
from tests.simulation.events import KINDS, World
from tests.simulation.operator import POOLS, RUNTIME, TANK, VAULT, Operator
from tests.simulation.runtime import Runtime, Squatters
from tests.simulation.village import BEFORE, Village

_KINDS_OF: Final = (edits, people, trouble, disks)
"""Whose events are in KINDS by being imported."""
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
    kinds = list(KINDS)
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


class Story:
    """One life of a daemon. `told` says what happened, for people."""

    def __init__(self, seed: int, state_dir: Path, only: Iterable[int] | None = None) -> None:
        self.seed = seed
        self.told: list[str] = []
        events = events_of(seed)
        chosen = None if only is None else frozenset(only)
        self.events = [event for event in events if chosen is None or event.number in chosen]
        self.village = Village(state_dir, seed)
        below = Disks(self.village)
        pools = pools_of(seed)
        runtime = Runtime(self.village) if RUNTIME in pools else None
        squatters = Squatters(self.village)
        below.add_others()
        self.world = World(self.village, Operator(self.village, pools), runtime, squatters, below)
        self.village.on_boot = self._boot

    def _boot(self) -> None:
        """What others have on the host comes back with it."""
        self.world.squatters.names.clear()
        if self.world.runtime is not None:
            self.world.runtime.start()

    def live(self) -> None:
        """Raises AssertionError where a promise is broken, and whatever the product should never raise."""
        for event in self.events:
            self._guarded(lambda event=event: self._happen(event))  # type: ignore[misc]
        self.village.triggers.clear()
        bring_calm(self.world, self._guarded, self.told)

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
            self._tell("-- and starts again" + (" after the power was cut" if self.village.power_lost else ""))
            self.village.come_back()

    def _happen(self, event: Event) -> None:
        if event.kind == WAIT:
            self.village.run(self._rng(event).choice([*_WAITS, _LONG]))
        elif event.calls:
            self.village.at_call(event.calls, BEFORE, lambda call: self._do(event, call), changing=False)
        else:
            self._do(event, None)

    def _do(self, event: Event, call: Call | None) -> None:
        number = len(self.told)
        self._tell(f"#{event.number} {event.kind}")
        self.village.count(event.kind)
        said = KINDS[event.kind].happen(self.world, self._rng(event))
        self.told[number] += f": {said}" + (f" (before {call})" if call is not None else "")

    def _rng(self, event: Event) -> random.Random:
        return random.Random(f"event {self.seed} {event.number}")

    def _tell(self, what: str) -> None:
        self.told.append(f"{self.village.clock.now() - 1000:9.2f} {what}")

    def end(self) -> None:
        self.village.end()


def fails(seed: int, only: Sequence[int] | None, state_dir: Callable[[], Path]) -> Exception | None:
    """How the story ends badly; None: it does not."""
    story = Story(seed, state_dir(), only)
    error = story.ending()
    story.end()
    if error is not None:
        error.add_note("\n".join(story.told))
    return error


def cut_down(seed: int, state_dir: Callable[[], Path], attempts: int = 200) -> list[int]:
    """The numbers of the events that are needed for the story to end badly."""
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
