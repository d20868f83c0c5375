"""What the daemon sees of a simulated worker: `kernel.worker.client.ProcessWorkerClient`, with the clock that is moved by hand."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from reconciler.kernel.locks import PoolLocked
from reconciler.kernel.simulated import Crashed
from reconciler.kernel.worker.client import IDS_DEADLINE, LOOK_DEADLINE, PATIENCE, StallHandler
from reconciler.kernel.worker.messages import Answer, Question, ResetCache
from reconciler.model.errors import HostError, WorkerDiedError, WorkerTimeoutError
from reconciler.model.live import PoolScan, ScanRequest, ScanScope
from reconciler.model.steps import HostStep, StepResult
from tests.simulation.invariants import Invariants
from tests.simulation.worker import Worker

T = TypeVar("T")


class Surroundings(Protocol):
    """Of a port: the daemon that it belongs to, and all else that goes on while it waits."""

    is_dead: bool
    """The daemon is, with its workers."""
    is_doomed: bool
    """The daemon is dead, and its workers end what they are at."""

    invariants: Invariants

    state_dir: Path

    def hire(self, watched: ScanScope, *, second: bool = False) -> Worker:
        """Raises PoolLocked while a worker that was left behind holds the pool; not of a second one."""

    def pass_time(self, seconds: float, until: Callable[[], bool], pool: str) -> None:
        """Everything but this pool goes on for so long, or until that is so."""


class SimulatedClient:
    def __init__(self, around: Surroundings, watched: ScanScope, *, second: bool = False) -> None:
        self._around = around
        self._watched = watched
        self._second = second
        self._worker: Worker | None = None
        self._late = False
        self._helper: StallHandler | None = None
        self._beside: SimulatedClient | None = None

    def look(self, request: ScanRequest) -> PoolScan:
        return self._ask(request, PoolScan, IDS_DEADLINE if request.ids else LOOK_DEADLINE)

    def run(self, step: HostStep) -> StepResult:
        return self._ask(step, StepResult, step.deadline)

    def watch(self, watched: ScanScope) -> None:
        self._watched = watched
        if self._worker is not None:
            self._ask(watched, type(None), LOOK_DEADLINE)

    def abandon(self) -> None:
        """InlineControllers are worked on in one thread: nobody can ask for this while another waits."""

    def close(self, wait: float = 1.0) -> None:
        """The world ends its workers itself."""

    def tell_of_waits(self, helper: StallHandler) -> None:
        self._helper = helper

    def _call_for_help(self) -> None:
        if self._helper is not None:
            self._beside = self._beside or SimulatedClient(self._around, self._watched, second=True)
            self._helper.waiting(self._beside)

    def _end_help(self) -> None:
        beside = self._beside
        if self._late or beside is None or self._helper is None:
            return
        self._helper.answered()
        worker = beside._worker
        if worker is None or not worker.is_stopped:
            self._beside = None
            if worker is not None:
                worker.end()

    def _ask(self, question: Question, kind: type[T], deadline: float) -> T:
        worker = self._connected()
        try:
            answer = self._talk(worker, question, deadline)
        finally:
            self._end_help()
        if isinstance(answer, HostError | PoolLocked):
            raise answer
        assert isinstance(answer, kind), answer
        return answer

    def _connected(self) -> Worker:
        if self._worker is None:
            self._worker = self._hire()
        elif self._late:
            self._catch_up(self._worker)
        return self._worker

    def _hire(self) -> Worker:
        try:
            return self._around.hire(self._watched, second=self._second)
        except PoolLocked as held:
            if held.state_dir == str(self._around.state_dir):
                self._call_for_help()
            raise

    def _catch_up(self, worker: Worker) -> None:
        if worker.is_stopped:
            self._call_for_help()
            raise WorkerTimeoutError("look at", worker.pool, errno.ETIMEDOUT, "the worker still waits in the kernel")
        self._late = False
        self._check(worker)
        worker.ask(ResetCache())

    def _talk(self, worker: Worker, question: Question, deadline: float) -> Answer:
        self._around.invariants.began(worker.pool, look=isinstance(question, ScanRequest), second=self._second)
        worker.ask(question)
        self._check(worker)
        self._wait(worker, deadline)
        if worker.is_stopped:
            raise WorkerTimeoutError("look at", worker.pool, errno.ETIMEDOUT, f"no answer for {deadline:.0f} s")
        self._late = False
        return worker.take()

    def _wait(self, worker: Worker, seconds: float) -> None:
        left, self._late = seconds, True
        while worker.is_stopped:
            self._around.pass_time(min(PATIENCE, left), lambda: not worker.is_stopped, worker.pool)
            self._check(worker)
            left -= PATIENCE
            if left <= 0:
                return
            if worker.is_stopped:
                self._call_for_help()
                self._check(worker)

    def _check(self, worker: Worker) -> None:
        if self._around.is_dead or self._around.is_doomed:
            raise Crashed
        if worker.is_dead:
            self._worker, self._late = None, False
            raise WorkerDiedError(
                "ask the worker of", worker.pool, errno.EPIPE, "it died; the next look starts another"
            )
