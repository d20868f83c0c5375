"""What can go wrong with a call, besides what the kernel says: it blocks, or its caller dies around it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reconciler.model.errors import HostError, WorkerTimeoutError


class WouldBlockError(WorkerTimeoutError):
    """On a real kernel this call would wait, perhaps for ever. Nothing of it was done."""

    def __init__(self, operation: str, subject: str, why: str) -> None:
        super().__init__(operation, subject, errno.ETIMEDOUT, why)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.operation, self.subject, self.detail)


class Crashed(BaseException):
    """The caller is dead: nothing that it would still do is done. No Exception, so that nobody takes it for a fault."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the kernel's Protocols."""

    part: str
    """`dm`, `disks`, `tools` or `udev`."""
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
    """One caller of a simulated host. The hooks may raise a HostError, or `crash()`."""

    before: Callable[[Call], None] = _nothing
    midway: Callable[[Call], None] = _nothing
    """Where a call has several effects that can be seen one by one: between them."""
    after: Callable[[Call], None] = _nothing
    around: Callable[[Call, Callable[[], Any]], Any] = _do
    """Carries the call out: it may wait until a WouldBlockError has passed, or do nothing and say OK."""
    dead: bool = False
    made: list[Call] = field(default_factory=list)

    def crash(self) -> None:
        """The caller is killed: from now on none of its calls reaches the host, its `finally` clauses included."""
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
