"""Runs several programs side by side, and shows their output as if they had run one after the other."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

_LOOK: Final = 0.2
_SKIPPED: Final = b"REAL-KERNEL TESTS DID NOT RUN"
_SUMMARY: Final = re.compile(r"^=* ?(\d+ [a-z]+.* in [\d.]+s.*?|no tests ran.*?) ?=*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Run:
    title: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    run: Run
    status: int
    summary: str
    """The last line of pytest, without its frame."""
    skipped_kernel: bool
    """It was to run on a real kernel, and skipped because it found none."""


@dataclass(slots=True)
class _Underway:
    run: Run
    output: IO[bytes]
    ended: threading.Event = field(default_factory=threading.Event)
    status: int = -1
    process: subprocess.Popen[bytes] | None = None


def run_all(runs: Sequence[Run], workers: int, directory: Path) -> list[Finished]:
    """In this order, as many at a time as there are workers, each on a processor of its own; a single one has all."""
    with tempfile.TemporaryDirectory(prefix="dm-reconciler-test-") as folder:
        underway = [_Underway(run, (Path(folder) / str(number)).open("w+b")) for number, run in enumerate(runs)]
        waiting: queue.SimpleQueue[_Underway] = queue.SimpleQueue()
        for one in underway:
            waiting.put(one)
        processors = sorted(os.sched_getaffinity(0))
        for number in range(workers):
            place = processors[number % len(processors)]
            own = {place} if workers > 1 else set(processors)
            threading.Thread(target=_work, args=(waiting, own, directory), daemon=True).start()
        finished = []
        try:
            for one in underway:
                _show(one)
                finished.append(_judge(one))
        finally:
            _end(underway)
        return finished


def _work(waiting: queue.SimpleQueue[_Underway], processors: set[int], directory: Path) -> None:
    # Of this thread, and of what it starts: two kernels on one processor would each run at half their speed.
    os.sched_setaffinity(0, processors)
    while True:
        try:
            one = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            with subprocess.Popen(
                one.run.command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=one.output,
                stderr=subprocess.STDOUT,
            ) as one.process:
                one.status = one.process.wait()
        finally:
            one.ended.set()


def _end(underway: Sequence[_Underway]) -> None:
    """Whoever is interrupted leaves nothing running."""
    for one in underway:
        if one.process is not None and one.process.poll() is None:
            one.process.terminate()
            one.process.wait()
        one.output.close()


def _show(one: _Underway) -> None:
    """What it says, as it says it, until it has ended."""
    print(f"\n---- tests {one.run.title}", flush=True)
    read = 0
    while True:
        ended = one.ended.wait(_LOOK)
        new = os.pread(one.output.fileno(), 1 << 20, read)
        while new:
            sys.stdout.buffer.write(new)
            sys.stdout.flush()
            read += len(new)
            new = os.pread(one.output.fileno(), 1 << 20, read)
        if ended:
            return


def _judge(one: _Underway) -> Finished:
    said = os.pread(one.output.fileno(), os.fstat(one.output.fileno()).st_size, 0)
    summaries = _SUMMARY.findall(said.decode(errors="replace"))
    summary = summaries[-1] if summaries else f"ended with {one.status} and without pytest's summary"
    status = one.status if summaries or one.status else 1
    return Finished(one.run, status, summary, _SKIPPED in said)
