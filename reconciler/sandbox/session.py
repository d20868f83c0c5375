"""One run: boot the kernel, carry streams and signals until the command has ended, and leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, Never

from reconciler.sandbox import wire
from reconciler.sandbox.errors import SandboxError
from reconciler.sandbox.launch import launch
from reconciler.sandbox.surroundings import config
from reconciler.sandbox.terminal import Escape, Raw, terminals, window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from reconciler.sandbox.launch import Kernel
    from reconciler.sandbox.settings import Settings

_CHUNK: Final = 65536
_CONSOLE_KEPT: Final = 16384
_BOOT_SECONDS: Final = 120.0
_TIMED_OUT: Final = 124  # as timeout(1) has it
_FATAL: Final = (signal.SIGTERM, signal.SIGHUP)


class _KilledError(BaseException):
    """A signal says that it must end now. Not an Exception: it passes through whatever waits."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Session:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._decoder = wire.Decoder()
        self._config = b""  # what of it has not been sent
        self._console = b""
        self._terminals = terminals()
        self._raw = Raw()
        self._escape = Escape()
        self._credit = wire.WINDOW_BYTES
        self._input_open = True
        self._started = False
        self._interrupts = 0
        self._signals: list[int] = []
        self._broken: set[int] = set()
        self._status: int | None = None
        self._ending = False

    def run(self) -> int:
        """The command's exit status. Raises SandboxError."""
        with self._handlers() as wake:
            try:
                return self._run(wake)
            except _KilledError as killed:
                return 128 + killed.number

    @contextlib.contextmanager
    def _handlers(self) -> Iterator[int]:
        """Yields a descriptor that can be read once a signal came. Only the main thread can take signals."""
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        before = {}
        if threading.current_thread() is threading.main_thread():
            previous = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
            for number in (*_FATAL, signal.SIGINT, signal.SIGWINCH):
                # One that is ignored (nohup, a background job of a script) stays ignored.
                if number == signal.SIGWINCH or signal.getsignal(number) != signal.SIG_IGN:
                    before[number] = signal.signal(number, self._on_signal)
        try:
            yield wake
        finally:
            if before:
                signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(wake)
            os.close(waker)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._ending:
            return
        if number == signal.SIGINT:
            self._interrupts += 1
        if number in _FATAL or (number == signal.SIGINT and (self._interrupts > 1 or not self._started)):
            raise _KilledError(number)
        self._signals.append(number)

    def _run(self, wake: int) -> int:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # what was printed before comes before
        wanted = config(self._settings)
        kernel = launch(self._settings)
        try:
            with self._raw:
                wanted["environment"] |= kernel.environment
                self._config = json.dumps(wanted).encode()
                return self._serve(kernel, wake)
        finally:
            self._ending = True
            kernel.kill()

    def _serve(self, kernel: Kernel, wake: int) -> int:
        start = time.monotonic()
        while self._status is None:
            readers = [kernel.console, kernel.from_inside, kernel.warden_fd, wake]
            if self._started and self._input_open and self._credit > 0:
                readers.append(0)
            ready, _, _ = select.select(readers, [], [], self._remaining(start))
            if kernel.console in ready:
                self._listen(kernel)
            if wake in ready:
                os.read(wake, 512)
            self._pass_signals(kernel)
            if kernel.from_inside in ready:
                self._receive(kernel)
            elif kernel.warden_fd in ready:
                self._bury(kernel)
            if 0 in ready and self._status is None:
                self._pass_input(kernel)
        return self._status

    def _remaining(self, start: float) -> float | None:
        """Seconds to wait at most. Raises SandboxError when time is up."""
        passed = time.monotonic() - start
        limit = self._settings.timeout
        if limit is not None and passed >= limit:
            raise SandboxError(f"not done after {limit:g} s, so it was killed: give more time", status=_TIMED_OUT)
        if self._started:
            return None if limit is None else limit - passed
        if passed >= _BOOT_SECONDS:
            raise SandboxError(f"the kernel did not start within {_BOOT_SECONDS:g} s: {self._last_words()}")
        return min(_BOOT_SECONDS, limit or _BOOT_SECONDS) - passed

    # From the inside

    def _receive(self, kernel: Kernel) -> None:
        data = os.read(kernel.from_inside, _CHUNK)
        if not data:
            self._bury(kernel)
        for kind, payload in self._decoder.feed(data):
            if kind == wire.OUTPUT:
                self._emit(kernel, 1, payload)
            elif kind == wire.ERRORS:
                self._emit(kernel, 2, payload)
            elif kind == wire.CREDIT:
                self._credit += wire.COUNT.unpack(payload)[0]
            elif kind == wire.READY:
                self._send_config(kernel)
            elif kind == wire.STARTED:
                self._begin(kernel)
            elif kind == wire.EXIT:
                self._status = wire.COUNT.unpack(payload)[0]
            elif kind == wire.FAILED:
                raise SandboxError(f"the sandbox failed inside: {payload.decode(errors='replace')}")

    def _send_config(self, kernel: Kernel) -> None:
        part, self._config = self._config[: wire.WINDOW_BYTES], self._config[wire.WINDOW_BYTES :]
        _send(kernel, wire.CONFIG, part)

    def _begin(self, kernel: Kernel) -> None:
        self._started = True
        if 0 in self._terminals:
            self._raw.start()
        elif not _readable_input():
            self._end_input(kernel)

    def _emit(self, kernel: Kernel, stream: int, data: bytes) -> None:
        while data and stream not in self._broken:
            try:
                data = data[os.write(stream, data) :]
            except BlockingIOError:
                select.select([], [stream], [])
            except OSError:  # nobody reads it: the command learns that as it would outside
                self._broken.add(stream)
                _send(kernel, wire.HANGUP, wire.COUNT.pack(wire.OUTPUT if stream == 1 else wire.ERRORS))

    def _listen(self, kernel: Kernel) -> bool:
        try:
            data = os.read(kernel.console, _CHUNK)
        except BlockingIOError:
            return False
        self._console = (self._console + data)[-_CONSOLE_KEPT:]
        return bool(data)

    def _bury(self, kernel: Kernel) -> Never:
        """The kernel is gone, and has not said an exit status."""
        while self._listen(kernel):
            pass
        raise SandboxError(f"the sandbox's kernel ended before the command did: {self._last_words()}")

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._console.decode(errors="replace").splitlines() if line.strip()]
        panic = [line for line in lines if "panic" in line.lower()]
        return " / ".join(panic[:1] or lines[-3:]) or "its console is empty"

    # From the outside

    def _pass_signals(self, kernel: Kernel) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGWINCH:
                _send(kernel, wire.WINDOW, wire.WINSIZE.pack(*window(self._terminals)))
            else:
                _send(kernel, wire.SIGNAL, wire.COUNT.pack(number))

    def _pass_input(self, kernel: Kernel) -> None:
        try:
            data = os.read(0, min(self._credit, _CHUNK))
        except BlockingIOError:
            return
        except OSError:  # a terminal that was hung up
            data = b""
        if not data:
            self._end_input(kernel)
            return
        if 0 in self._terminals and self._escape.seen(data, time.monotonic()):
            raise _KilledError(signal.SIGKILL)
        self._credit -= len(data)
        _send(kernel, wire.INPUT, data)

    def _end_input(self, kernel: Kernel) -> None:
        self._input_open = False
        _send(kernel, wire.INPUT)


def _send(kernel: Kernel, kind: int, payload: bytes = b"") -> None:
    data = wire.frame(kind, payload)
    with contextlib.suppress(BrokenPipeError):  # its end is seen where it is read from
        while data:
            data = data[os.write(kernel.to_inside, data) :]


def _readable_input() -> bool:
    """Not if it is closed, and not if it is a terminal whose keys go to another job."""
    try:
        os.fstat(0)
    except OSError:
        return False
    return not os.isatty(0)
