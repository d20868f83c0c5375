"""What can go wrong with a call besides an error of the kernel: it blocks, or its caller dies during it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reconciler.model.errors import HostError, WorkerTimeoutError


class WouldBlockError(WorkerTimeoutError):
    """On a real kernel this call would wait, perhaps for ever. It has had no effect."""

    def __init__(self, operation: str, subject: str, why: str) -> None:
        super().__init__(operation, subject, errno.ETIMEDOUT, why)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.operation, self.subject, self.detail)


class Crashed(BaseException):
    """The caller is dead, and does nothing more. Not an Exception, so that it is not handled as an error."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the kernel's Protocols."""

    part: str
    """One of `dm`, `disks`, `tools` and `udev`."""
    name: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.part}.{self.name}({', '.join(map(str, self.args))})"


def _nothing(_: Call) -> None:
    return None


def _do(_: Call, do: Callable[[], Any]) -> Any:
    return do()


@dataclass
class Calls:
    """The calls of one user of a simulated host. The hooks may raise a HostError, or `crash()`."""

    before: Callable[[Call], None] = _nothing
    midway: Callable[[Call], None] = _nothing
    """Called between the effects of a call that has several visible ones."""
    after: Callable[[Call], None] = _nothing
    around: Callable[[Call, Callable[[], Any]], Any] = _do
    """Carries out the call; it may wait until a WouldBlockError has passed, or do nothing and report success."""
    dead: bool = False
    made: list[Call] = field(default_factory=list)

    def crash(self) -> None:
        """Kills the caller: from now on none of its calls reaches the host, also not those in its `finally` clauses."""
        self.dead = True
        raise Crashed

    def check(self) -> None:
        if self.dead:
            raise Crashed


class Hooked:
    """An implementation of a Protocol, with the caller's hooks around each call."""

    def __init__(self, part: str, inner: Any, calls: Calls) -> None:
        self._part = part
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        method, calls, part = getattr(self._inner, name), self._calls, self._part

        def call(*args: Any, **more: Any) -> Any:
            this = Call(part, name, (*args, *more.values()))
            calls.check()
            calls.made.append(this)
            calls.before(this)
            answer = calls.around(this, lambda: method(*args, **more))
            calls.after(this)
            return answer

        return call


def fault(operation: str, subject: str, number: int, detail: str = "") -> HostError:
    return HostError(operation, subject, number, detail)
