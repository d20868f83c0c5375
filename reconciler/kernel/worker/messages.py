"""The messages between a pool's worker and its client.

They are in a module that both ends import by the same name: the worker's own module is `__main__` in its process, and a
class pickled as part of that would be another class, or none, at the other end.
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
    """The first message to a worker."""

    watched: ScanScope
    state_dir: str
    lock: bool
    """False for commands that only scan beside the daemon, and for a second worker beside one that hangs."""


@dataclass(frozen=True, slots=True)
class ResetCache:
    """Makes the next scan report everything."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line for the log, sent before an answer. The daemon logs it, in its own format and with the pool's name."""

    logger: str
    level: int
    text: str


Question = ScanRequest | HostStep | ScanScope | ResetCache
Answer = PoolScan | StepResult | HostError | PoolLocked | None


def say(connection: Connection, words: WorkerConfig | Question | Answer | LogLine) -> None:
    """Sends a message for `recv` at the other end.

    `Connection.send` is not used: it keeps a view of its own buffer, and if nobody listens any more the error holds
    both. Python 3.13 complains on stderr when such a pair is freed.
    """
    connection.send_bytes(pickle.dumps(words))
