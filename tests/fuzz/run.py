"""Tries inputs on a target, and tells the first that does what was not promised."""

from __future__ import annotations

import resource
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from tests.fuzz import of_manifests, of_people, of_the_kernel, of_the_store
from tests.fuzz.mutate import Mutator
from tests.fuzz.target import Target, by_name

TARGETS = by_name(*of_manifests.TARGETS, *of_the_kernel.TARGETS, *of_the_store.TARGETS, *of_people.TARGETS)
_MEMORY = 300 * 1024
"""KiB that a target may add to what the process holds, whatever it is given: inputs have at most 64 KiB."""
_PATIENCE = 6
"""Times that what an input may take of the processor, before waiting itself counts as hanging."""


class Hangs(BaseException):
    """Not caught by `except Exception`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    target: str
    inputs: int
    seconds: float
    failed: bytes | None = None
    why: str = ""


def run(target: Target, inputs: int, seed: int, seconds: float = float("inf")) -> Outcome:
    """Until so many inputs were tried, or so much time has passed, or one fails."""
    mutator = Mutator(f"{target.name} {seed}", list(target.corpus.values()), target.words)
    begun, count, before = time.monotonic(), 0, _memory()
    with target.around():
        while count < inputs and time.monotonic() - begun < seconds:
            data = mutator.next()
            count += 1
            why = attempt(target, data)
            if not why and _memory() - before > _MEMORY:
                why = f"the process has grown by {(_memory() - before) >> 10} MiB"
            if why:
                return Outcome(target.name, count, time.monotonic() - begun, data, why)
    return Outcome(target.name, count, time.monotonic() - begun)


def replay(target: Target, data: bytes) -> str:
    with target.around():
        return attempt(target, data)


def attempt(target: Target, data: bytes) -> str:
    """What it did that was not promised; empty if nothing."""
    begun = time.process_time()
    try:
        with _within(target.seconds * _PATIENCE):
            target.attempt(data)
    except Hangs:
        return f"it hangs: no end within {target.seconds * _PATIENCE:.0f} s"
    except Exception:  # noqa: BLE001  # whatever it is, it was not promised
        return traceback.format_exc()
    spent = time.process_time() - begun
    return f"it takes {spent:.1f} s of the processor" if spent > target.seconds else ""


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    def over(_number: int, _frame: FrameType | None) -> None:
        raise Hangs

    begun = time.monotonic()
    former = signal.signal(signal.SIGALRM, over)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        if left:  # of whoever limits the whole test
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - begun)))


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
