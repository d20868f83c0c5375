"""The controller in this process, on the real kernel, with a device-mapper that can be made to fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from reconciler.controller.desired import Desired
from reconciler.kernel.dm.device_mapper import LibDm
from reconciler.kernel.host import host_kernel
from reconciler.kernel.protocol import Kernel
from reconciler.model.conditions import Status
from reconciler.model.errors import HostError
from reconciler.model.names import Key
from reconciler.model.records import Record as TypedRecord
from reconciler.model.records import ThinDevice, ThinPool
from reconciler.model.recordset import RecordSet
from tests.crash.inline_controller import InlineController
from tests.testing.environment import Environment, Record, an_environment


@dataclass
class Fault:
    """A call that fails with this errno, so many times. `beginning` is how its arguments begin."""

    call: str
    beginning: tuple[str, ...]
    number: int
    times: int
    after: bool = False
    """It is done, and fails nonetheless."""

    def fits(self, call: str, arguments: tuple[Any, ...]) -> bool:
        if self.times <= 0 or call != self.call or len(arguments) < len(self.beginning):
            return False
        return all(str(have).startswith(want) for have, want in zip(arguments, self.beginning, strict=False))


class FaultyDm:
    """LibDm, but for what it was told to fail."""

    def __init__(self) -> None:
        self._dm = LibDm()
        self.faults: list[Fault] = []

    def fail(self, call: str, *beginning: str, number: int, times: int = 1_000_000, after: bool = False) -> Fault:
        self.faults.append(Fault(call, beginning, number, times, after))
        return self.faults[-1]

    def heal(self) -> None:
        self.faults.clear()

    def __getattr__(self, call: str) -> Callable[..., Any]:
        def made(*arguments: Any, **named: Any) -> Any:
            return self._call(call, arguments, named)

        return made

    def _call(self, call: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        does: Callable[..., Any] = getattr(self._dm, call)
        fault = next((fault for fault in self.faults if fault.fits(call, arguments)), None)
        if fault is not None:
            fault.times -= 1
            if fault.after:
                does(*arguments, **named)
            raise HostError(call, arguments[0], fault.number, "injected by a test")
        return does(*arguments, **named)


class InlineDaemon:
    """One pool of an environment without a daemon, and the controller of it in this process."""

    def __init__(self, env: Environment, grace: float) -> None:
        self.env = env
        self.records: dict[str, Record] = {"": env.pool()}
        self.name = env.prefix + "tank"
        env.state.mkdir(mode=0o700)
        self.dm = FaultyDm()
        host = host_kernel()
        kernel = Kernel(dm=self.dm, disks=host.disks, tools=host.tools, udev=host.udev)
        self._controller = InlineController(self.name, kernel, env.state, grace)
        self.store = self._controller.store
        self._set()

    def end(self) -> None:
        self.store.close()

    def declare(self, name: str, **spec: Any) -> None:
        """Beside what is declared already."""
        self.records[name] = self.env.device(name, **spec)
        self._set()

    def withdraw(self, name: str) -> None:
        del self.records[name]
        self._set()

    def _set(self) -> None:
        self._desired = Desired.of(RecordSet.of(_typed(record) for record in self.records.values()), time.monotonic())

    def turn(self) -> None:
        """What the daemon does once in each resync, and what is due by then."""
        self._controller.turn(self._desired)

    def until(self, so: Callable[[], Any], what: str, within: float = 20.0) -> None:
        end = time.monotonic() + within
        while not so():
            assert time.monotonic() < end, f"{what}: {self._controller.statuses()}"
            self.turn()

    def status(self, name: str) -> Status | None:
        return self._controller.statuses().get(Key(self.name, name))

    def reason(self, name: str) -> str:
        status = self.status(name)
        return "" if status is None else status.reason.value

    def wait(self, name: str, reason: str = "Converged") -> None:
        self.turn()
        self.until(lambda: self.reason(name) == reason, f"{name} is {reason}")

    def known_ids(self) -> set[int]:
        return {device.thin_id for device in self.store.known_devices(self.name).values()}

    def ids(self) -> set[int]:
        """In the pool."""
        return set(self.env.thin_ids())


@contextmanager
def an_inline_daemon(grace: float) -> Iterator[InlineDaemon]:
    with an_environment() as env:
        inline = InlineDaemon(env, grace)
        try:
            yield inline
        finally:
            inline.end()


def _typed(record: Record) -> TypedRecord:
    kinds: dict[str, type[ThinPool | ThinDevice]] = {"ThinPool": ThinPool, "ThinDevice": ThinDevice}
    return kinds[record["kind"]].model_validate(record, by_alias=True, by_name=False)
