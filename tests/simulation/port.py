"""What the daemon sees of a simulated worker: `kernel.port.ProcessPort`, with the clock that is moved by hand."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Protocol, TypeVar

from reconciler.kernel.pool_lock import PoolLocked
from reconciler.kernel.port import IDS_DEADLINE, LOOK_DEADLINE
from reconciler.kernel.simulated import Crashed
from reconciler.kernel.worker import Answer, Forget, Question
from reconciler.model.faults import HostFault, Unanswered
from reconciler.model.live import LookRequest, PoolLook, Watched
from reconciler.model.steps import HostStep, StepResult
from tests.simulation.guards import Guards
from tests.simulation.worker import Worker

T = TypeVar("T")


class Surroundings(Protocol):
    """Of a port: the daemon that it belongs to, and all else that goes on while it waits."""

    is_dead: bool
    """The daemon is, with its workers."""
    is_doomed: bool
    """The daemon is dead, and its workers end what they are at."""

    guards: Guards

    def hire(self, watched: Watched) -> Worker:
        """Raises PoolLocked while a worker that was left behind holds the pool."""

    def pass_time(self, seconds: float, until: Callable[[], bool], pool: str) -> None:
        """Everything but this pool goes on for so long, or until that is so."""


class SimulatedPort:
    def __init__(self, around: Surroundings, watched: Watched) -> None:
        self._around = around
        self._watched = watched
        self._worker: Worker | None = None
        self._late = False

    def look(self, request: LookRequest) -> PoolLook:
        return self._ask(request, PoolLook, IDS_DEADLINE if request.ids else LOOK_DEADLINE)

    def run(self, step: HostStep) -> StepResult:
        return self._ask(step, StepResult, step.deadline)

    def watch(self, watched: Watched) -> None:
        self._watched = watched
        if self._worker is not None:
            self._ask(watched, type(None), LOOK_DEADLINE)

    def abandon(self) -> None:
        """Lanes are worked on in one thread: nobody can ask for this while another waits."""

    def close(self, wait: float = 1.0) -> None:
        """The world ends its workers itself."""

    def _ask(self, question: Question, kind: type[T], deadline: float) -> T:
        worker = self._connected()
        answer = self._talk(worker, question, deadline)
        if isinstance(answer, HostFault | PoolLocked):
            raise answer
        assert isinstance(answer, kind), answer
        return answer

    def _connected(self) -> Worker:
        if self._worker is None:
            self._worker = self._around.hire(self._watched)
        elif self._late:
            self._catch_up(self._worker)
        return self._worker

    def _catch_up(self, worker: Worker) -> None:
        if worker.is_stopped:
            detail = "it still waits for the kernel: something below the pool hangs"
            raise Unanswered("ask the worker of", worker.pool, errno.ETIMEDOUT, detail)
        self._late = False
        self._check(worker)
        worker.ask(Forget())

    def _talk(self, worker: Worker, question: Question, deadline: float) -> Answer:
        self._around.guards.began(worker.pool, look=isinstance(question, LookRequest))
        worker.ask(question)
        self._check(worker)
        if worker.is_stopped:
            self._around.pass_time(deadline, lambda: not worker.is_stopped, worker.pool)
            self._check(worker)
        if worker.is_stopped:
            self._late = True
            detail = f"no answer for {deadline:.0f} s, something below the pool hangs"
            raise Unanswered("ask the worker of", worker.pool, errno.ETIMEDOUT, detail)
        return worker.take()

    def _check(self, worker: Worker) -> None:
        if self._around.is_dead or self._around.is_doomed:
            raise Crashed
        if worker.is_dead:
            self._worker, self._late = None, False
            raise HostFault("ask the worker of", worker.pool, errno.EPIPE, "it died; the next look starts another")
