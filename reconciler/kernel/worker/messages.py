"""What a pool's worker and its daemon say to each other.

In a module that both import by its name: the worker's own is `__main__` there, and what is pickled as that is another
class, or none, at the other end.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from multiprocessing.connection import Connection

from reconciler.kernel.locks import PoolLocked
from reconciler.model.errors import HostError
from reconciler.model.live import PoolScan, ScanRequest, ScanScope
from reconciler.model.steps import HostStep, StepResult


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The first thing that a worker is told."""

    watched: ScanScope
    state_dir: str
    lock: bool
    """False for commands that only look, beside the daemon; and for a second worker, beside one that hangs."""


@dataclass(frozen=True, slots=True)
class ResetCache:
    """Tell everything at the next look."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line for the log, before an answer: the daemon writes it, in its own format and with the pool's name."""

    logger: str
    level: int
    text: str


Question = ScanRequest | HostStep | ScanScope | ResetCache
Answer = PoolScan | StepResult | HostError | PoolLocked | None


def say(connection: Connection, words: WorkerConfig | Question | Answer | LogLine) -> None:
    """For `recv` at the other end.

    Not with `send`: that keeps a view of its own buffer, and where nobody listens any more the error holds both. Python
    3.13 complains on stderr when it throws such a pair away.
    """
    connection.send_bytes(pickle.dumps(words))
