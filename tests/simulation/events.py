"""Everything that happens to the daemon, by name, with how often: what users and programs do, and what fails.

Each draws from the chances of its own event alone, so that leaving one out of a scenario changes no other.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.simulation.fleet import Fleet
from tests.simulation.operator import Operator
from tests.simulation.runtime import DeviceHolders, Runtime

if TYPE_CHECKING:
    from tests.simulation.disks import Disks


@dataclass
class World:
    fleet: Fleet
    operator: Operator
    runtime: Runtime | None
    device_holders: DeviceHolders
    disks: Disks


Happening = Callable[[World, random.Random], str]
"""Makes it happen, and says what it was; nothing where it could not."""


@dataclass(frozen=True, slots=True)
class Kind:
    happen: Happening
    weight: int
    midway: bool
    """It may also come between two calls of the daemon."""


KINDS: Final[dict[str, Kind]] = {}


def happens(weight: int, *, midway: bool = False) -> Callable[[Happening], Happening]:
    def note(happen: Happening) -> Happening:
        KINDS[happen.__name__] = Kind(happen, weight, midway)
        return happen

    return note
