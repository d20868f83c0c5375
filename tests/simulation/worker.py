"""A pool's worker process, as the daemon sees it: it answers, or hangs in a call, or dies.

It is a thread that runs only while somebody waits for it, so that a seed goes the same way again. Where a real call
would wait, the thread stops in the middle of its step, and goes on when the host lets it: also when the daemon that asked
has long been killed, as a real one holds its pool's lock until its call returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from reconciler.kernel.observe import Observer
from reconciler.kernel.simulated import Call, Calls, Crashed, SimulatedHost, WouldBlock, simulated_kernel
from reconciler.kernel.worker import Answer, Question, answer
from reconciler.model.live import Watched


class Weather(Protocol):
    """What happens around each call of a worker."""

    def before(self, worker: Worker, call: Call) -> Waits | Lie | None:
        """May raise the fault that the call is to have, or Crashed."""

    def midway(self, worker: Worker, call: Call) -> None: ...

    def after_call(self, worker: Worker, call: Call, answer: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Waits:
    """The call is slow, until that time."""

    until: float


@dataclass(frozen=True, slots=True)
class Lie:
    """The call says OK and does nothing."""


@dataclass(frozen=True, slots=True)
class _Answered:
    answer: Answer


@dataclass(frozen=True, slots=True)
class _Stopped:
    """In the middle of a call."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """By a crash (None), or by an error of the test or of the product."""

    error: BaseException | None = None


class Worker:
    """Question by question: `ask`, then `go_on` for as long as it `is_stopped`, then `take` its answer."""

    def __init__(
        self,
        host: SimulatedHost,
        weather: Weather,
        watched: Watched,
        state_dir: Path,
        now: Callable[[], float],
    ) -> None:
        self.pool = watched.pool
        self.question: Question | None = None
        self.is_stopped = False
        self.is_dead = False
        self._now = now
        self._weather = weather
        self._calls = Calls(midway=lambda call: weather.midway(self, call), around=self._around)
        self._kernel = simulated_kernel(host, self._calls)
        self._observer = Observer(self._kernel, watched, state_dir)
        self._in: SimpleQueue[Question | None] = SimpleQueue()
        self._out: SimpleQueue[_Answered | _Stopped | _Ended] = SimpleQueue()
        self._answer: Answer = None
        self._thread: threading.Thread | None = None

    @property
    def is_idle(self) -> bool:
        return self.question is None and not self.is_dead

    def ask(self, question: Question) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, daemon=True)
            self._thread.start()
        self.question = question
        self._calls.made.clear()
        self._in.put(question)
        self._hear()

    def go_on(self) -> None:
        """Try the call again that it waits in."""
        self._in.put(self.question)
        self._hear()

    def take(self) -> Answer:
        """What it said; only once it has."""
        return self._answer

    def end(self) -> None:
        """Nothing of it runs any more, in the middle of whatever it does."""
        self.is_dead = self._calls.dead = True
        if self._thread is not None:
            self._in.put(None)
            self._thread.join()

    def _hear(self) -> None:
        self.is_stopped = False
        match self._out.get():
            case _Stopped():
                self.is_stopped = True
            case _Answered(said):
                self._answer, self.question = said, None
            case _Ended(error):
                self.is_dead, self.question = True, None
                if error is not None:
                    raise error

    # In the thread

    def _serve(self) -> None:
        try:
            while (question := self._in.get()) is not None:
                self._out.put(_Answered(answer(self._kernel, self._observer, question)))
        except Crashed:
            self._out.put(_Ended())
        except BaseException as error:  # noqa: BLE001  # raised again by whoever asked
            self._calls.dead = True
            self._out.put(_Ended(error))

    def _around(self, call: Call, do: Callable[[], Any]) -> Any:
        told = self._weather.before(self, call)
        if isinstance(told, Lie):
            return None
        while isinstance(told, Waits) and self._now() < told.until:
            self._stop()
        said = self._do(do)
        self._weather.after_call(self, call, said)
        return said

    def _do(self, do: Callable[[], Any]) -> Any:
        while True:
            try:
                return do()
            except WouldBlock:
                self._stop()

    def _stop(self) -> None:
        self._out.put(_Stopped())
        if self._in.get() is None or self._calls.dead:
            raise Crashed
