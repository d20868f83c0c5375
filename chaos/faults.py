"""What a fault is: a kind, how often it comes, and what it does. Each module of faults lists its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from chaos.environment import Environment

Act = Callable[[Environment, Random], str]
"""Does it, and says to what. What it chooses may depend on the random numbers and the records, never on the host: only
so the same seed chooses the same again. Raises Failed where the host does not let it."""


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    often: int
    """How many times it is in the bag that is drawn from until it is empty."""
    act: Act
