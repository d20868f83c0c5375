"""A pool's worker process, as the daemon sees it: it answers, or hangs in a call, or dies.

It is a greenlet: where a real call would wait, it stops in the middle of its step, and goes on when the host lets it,
also when the daemon that asked has long been killed, as a real one holds its pool's lock until its call returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from greenlet import getcurrent, greenlet

from reconciler.kernel.simulated import Call, Calls, Crashed, WouldBlockError, simulated_kernel
from reconciler.kernel.worker.__main__ import answer
from reconciler.kernel.worker.messages import Answer, Question
from reconciler.kernel.worker.scan import PoolScanner
from reconciler.model.live import ScanScope
from tests.simulation.host import PlayedHost


class FaultProfile(Protocol):
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
        host: PlayedHost,
        fault_profile: FaultProfile,
        watched: ScanScope,
        state_dir: Path,
        now: Callable[[], float],
        *,
        is_second: bool = False,
    ) -> None:
        """The second of a pool works beside one that hangs, and does not have its lock."""
        self.pool = watched.pool
        self.is_second = is_second
        self.question: Question | None = None
        self.is_stopped = False
        self.is_dead = False
        self._now = now
        self._fault_profile = fault_profile
        self._calls = Calls(midway=lambda call: fault_profile.midway(self, call), around=self._around)
        self._kernel = simulated_kernel(host, self._calls)
        self._observer = PoolScanner(self._kernel, watched, state_dir)
        self._answer: Answer = None
        self._process = greenlet(self._serve)

    @property
    def is_idle(self) -> bool:
        return self.question is None and not self.is_dead

    def ask(self, question: Question) -> None:
        self.question = question
        self._calls.made.clear()
        self._hear(question)

    def go_on(self) -> None:
        """Try the call again that it waits in."""
        self._hear(self.question)

    def take(self) -> Answer:
        """What it said; only once it has."""
        return self._answer

    def end(self) -> None:
        """Nothing of it runs any more, in the middle of whatever it does."""
        self.is_dead = self._calls.dead = True
        if self._process and self._process is not getcurrent():
            self._switch(None)

    def _switch(self, question: Question | None) -> Any:
        self._process.parent = getcurrent()
        return self._process.switch(question)

    def _hear(self, question: Question | None) -> None:
        self.is_stopped = False
        match self._switch(question):
            case _Stopped():
                self.is_stopped = True
            case _Answered(said):
                self._answer, self.question = said, None
            case _Ended(error):
                self.is_dead, self.question = True, None
                if error is not None:
                    raise error

    # In the greenlet

    def _serve(self, question: Question | None) -> _Ended:
        try:
            while question is not None:
                question = self._say(_Answered(answer(self._kernel, self._observer, question)))
        except Crashed:
            return _Ended()
        except Exception as error:  # noqa: BLE001  # raised again by whoever asked
            self._calls.dead = True
            return _Ended(error)
        return _Ended()

    def _say(self, what: _Answered | _Stopped) -> Question | None:
        """To whoever waits; what that one says next."""
        assert self._process.parent is not None
        said: Question | None = self._process.parent.switch(what)
        return said

    def _around(self, call: Call, do: Callable[[], Any]) -> Any:
        told = self._fault_profile.before(self, call)
        if isinstance(told, Lie):
            return None
        while isinstance(told, Waits) and self._now() < told.until:
            self._stop()
        said = self._do(do)
        self._fault_profile.after_call(self, call, said)
        return said

    def _do(self, do: Callable[[], Any]) -> Any:
        while True:
            try:
                return do()
            except WouldBlockError:
                self._stop()

    def _stop(self) -> None:
        if self._say(_Stopped()) is None or self._calls.dead:
            raise Crashed
