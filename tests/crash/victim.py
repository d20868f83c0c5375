"""The real reconciler of one pool as a process of its own, which can be made to die at one instant.

It is forked from a parent that has all modules and nothing open: starting Python anew takes seconds on a slow kernel.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from reconciler.kernel.host import host_kernel
from reconciler.kernel.locks import PoolLock
from reconciler.model.records import Record
from reconciler.store.lock import StateLock
from tests.crash.inline_controller import InlineController
from tests.crash.instants import Instant, Instants
from tests.crash.site import Site

GRACE = 0.2
"""Seconds: what a crash leaves half made without an intent, a device without a table, is healed after the grace."""
WITHIN = 60.0
Die = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    """Negative: the signal that killed it."""
    said: str


def in_a_process(work: Callable[[Callable[[str], None]], None]) -> Ended:
    """`work` is given what takes its words, line by line."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _work(work, writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as lines:  # noqa: PTH123  # a pipe
        said = lines.read()
    _, status = os.waitpid(pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), said)


def _work(work: Callable[[Callable[[str], None]], None], writer: int) -> NoReturn:
    code = 1
    try:
        work(lambda line: _say(writer, line))
        code = 0
    except BaseException:  # noqa: BLE001  # a forked copy must not go on as its parent
        _say(writer, traceback.format_exc())
    finally:
        os._exit(code)


def _say(writer: int, line: str) -> None:
    os.write(writer, f"{line}\n".encode())


def converge(site: Site, records: Iterable[Record], grace: float = GRACE) -> None:
    """Until all is as the records say, in a process that lives."""
    ended = in_a_process(lambda _: _reconcile(site, records, Instants(lambda _: None), grace))
    assert ended.code == 0, ended.said


def instants_of(site: Site, records: Iterable[Record]) -> list[Instant]:
    """Of a process that lives."""

    def work(say: Callable[[str], None]) -> None:
        _reconcile(site, records, Instants(lambda instant: say("\t".join(_fields(instant)))))

    ended = in_a_process(work)
    assert ended.code == 0, ended.said
    return [instant_of(line.split("\t")) for line in ended.said.splitlines()]


def _fields(instant: Instant) -> tuple[str, str, str]:
    return instant.when, instant.call, str(instant.number)


def instant_of(fields: Iterable[str]) -> Instant:
    when, call, number = fields
    return Instant(when, call, int(number))


def reconcile_until(site: Site, records: Iterable[Record], last: Instant, die: Die) -> None:
    """In this process, which dies at that instant."""

    def at(instant: Instant) -> None:
        if instant == last:
            die()

    _reconcile(site, records, Instants(at, midway_of=last))


def kill_at(site: Site, records: Iterable[Record], last: Instant) -> None:
    """In a process of its own, which is killed: none of its `finally` clauses runs, its locks go with it."""

    def work(say: Callable[[str], None]) -> None:
        def die() -> None:
            say(" ".join(_children()))
            os.kill(os.getpid(), signal.SIGKILL)

        reconcile_until(site, records, last, die)

    ended = in_a_process(work)
    assert ended.code == -signal.SIGKILL, f"it was not killed {last}: {ended.said or 'it converged'}"
    if last.when == "midway":
        assert ended.said.strip(), "the program was still at work"


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()


def _reconcile(site: Site, records: Iterable[Record], instants: Instants, grace: float = GRACE) -> None:
    with StateLock(site.state):
        pool_lock = PoolLock(site.pool)
        pool_lock.take(str(site.state))
        pool_controller = InlineController(site.pool, instants.kernel(host_kernel()), site.state, grace)
        instants.watch_store(pool_controller.store)
        pool_controller.settle(records, WITHIN)
        pool_controller.store.close()
