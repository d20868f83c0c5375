"""One run: boots the kernel, forwards streams and signals until the command has ended, and leaves nothing behind.

It also prepares what the command sees of the caller's environment, working directory, directories and terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from pathlib import Path
from typing import TYPE_CHECKING, Final, Never

import reconciler
from reconciler.sandbox import SandboxError, wire
from reconciler.sandbox.kernel import find_udev, launch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any, Self

    from reconciler.sandbox.kernel import Kernel
    from reconciler.sandbox.settings import Config, Settings


_STREAMS: Final = (0, 1, 2)
_DEFAULT_SIZE: Final = (24, 80)


def terminals() -> list[int]:
    """The standard streams that are a terminal. The input of a terminal belongs to its foreground job only."""
    found = [stream for stream in _STREAMS if os.isatty(stream)]
    if 0 in found and not _in_foreground():
        found.remove(0)
    return found


def window(streams: list[int]) -> tuple[int, int]:
    """The rows and columns of the terminal."""
    for stream in streams:
        try:
            size = os.get_terminal_size(stream)
        except OSError:
            continue
        if size.lines and size.columns:
            return size.lines, size.columns
    return _DEFAULT_SIZE


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # it is not our controlling terminal, so its foreground job is none of ours either
        return True


class Raw:
    """Passes keys to the terminal inside as they are, Ctrl-C too: the line discipline there makes the signals."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        self._before = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSADRAIN)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)


class Escape:
    """Ctrl-] three times within a second, which ends the kernel if nothing inside responds."""

    _KEY: Final = 0x1D

    def __init__(self) -> None:
        self._times: list[float] = []

    def seen(self, data: bytes, now: float) -> bool:
        for byte in data:
            self._times = [*self._times[-2:], now] if byte == self._KEY else []
        return len(self._times) == 3 and now - self._times[0] <= 1


HOME: Final = "/run/home"
# Directories of the host that are empty and writable inside.
SCRATCH: Final = (
    "/tmp",  # noqa: S108 - the directory itself, as a mount point
    "/run",
    "/mnt",
    "/srv",
    "/media",
    "/var/tmp",  # noqa: S108
    "/var/log",
)
# Directories that are hidden too, by the kernel's own.
_HIDDEN: Final = (*SCRATCH, "/dev/shm")  # noqa: S108
# Variables that name what does not exist or cannot be reached inside.
_DROPPED: Final = frozenset(
    {
        "DBUS_SESSION_BUS_ADDRESS",
        "DISPLAY",
        "LD_PRELOAD",
        "NOTIFY_SOCKET",
        "OLDPWD",
        "SSH_AUTH_SOCK",
        "TEMP",
        "TMP",
        "TMPDIR",
        "WAYLAND_DISPLAY",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_RUNTIME_DIR",
        "XDG_STATE_HOME",
    },
)
_SYSTEM_PATH: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")


def config(settings: Settings) -> Config:
    """The configuration for the first process inside. Raises SandboxError."""
    directory = os.getcwd()  # noqa: PTH109 - a string is what is sent
    streams = terminals()
    return {
        "command": list(settings.command),
        "environment": environment(directory),
        "directory": directory,
        "scratch": [path for path in SCRATCH if Path(path).is_dir() and not Path(path).is_symlink()],
        "visible": visible(directory, settings.share),
        "share": [str(path) for path in settings.share],
        "terminals": streams,
        "window": list(window(streams)),
        "udev": find_udev() if settings.udev else "",
    }


def environment(directory: str) -> dict[str, str]:
    """The caller's environment without variables that name things of the host, and administrators'
    directories on PATH.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    path = [part for part in kept.get("PATH", "").split(":") if part]
    kept["PATH"] = ":".join([*path, *(part for part in _SYSTEM_PATH if part not in path)])
    kept |= {"HOME": HOME, "USER": "root", "LOGNAME": "root", "PWD": directory}
    return kept


def visible(directory: str, share: tuple[Path, ...]) -> list[str]:
    """Directories that are needed though an empty one would hide them: the working directory, and this program."""
    package = Path(reconciler.__file__).resolve().parent.parent
    wanted = {Path(directory), package, Path(sys.prefix), Path(sys.base_prefix)}
    return sorted(
        str(path)
        for path in wanted
        if any(path.is_relative_to(hidden) and str(path) != hidden for hidden in _HIDDEN)
        and not any(path.is_relative_to(shared) for shared in share)
    )


_CHUNK: Final = 65536
_CONSOLE_KEPT: Final = 16384
_BOOT_SECONDS: Final = 120.0
_TIMED_OUT: Final = 124  # as in timeout(1)
_FATAL: Final = (signal.SIGTERM, signal.SIGHUP)


class _KilledError(BaseException):
    """A signal demands an immediate end. Not an Exception, so that it passes through all handlers."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Session:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._decoder = wire.Decoder()
        self._config = b""  # the part that has not been sent yet
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
        """Runs the command and returns its exit status. Raises SandboxError."""
        with self._handlers() as wake:
            try:
                return self._run(wake)
            except _KilledError as killed:
                return 128 + killed.number

    @contextlib.contextmanager
    def _handlers(self) -> Iterator[int]:
        """Yields a descriptor that becomes readable when a signal comes. Only the main thread can handle signals."""
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        before = {}
        if threading.current_thread() is threading.main_thread():
            previous = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
            for number in (*_FATAL, signal.SIGINT, signal.SIGWINCH):
                # A signal that is ignored (by nohup, or in a background job of a script) stays ignored.
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
            stream.flush()  # keeps the order with what was printed before
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
        """The longest time to wait, in seconds. Raises SandboxError when the time is up."""
        passed = time.monotonic() - start
        limit = self._settings.timeout
        if limit is not None and passed >= limit:
            raise SandboxError(f"not done after {limit:g} s, so it was killed: give more time", status=_TIMED_OUT)
        if self._started:
            return None if limit is None else limit - passed
        if passed >= _BOOT_SECONDS:
            raise SandboxError(f"the kernel did not start within {_BOOT_SECONDS:g} s: {self._last_words()}")
        return min(_BOOT_SECONDS, limit or _BOOT_SECONDS) - passed

    # From inside

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
            except OSError:  # nobody reads the stream, which the command learns as it would outside
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
        """Raises because the kernel has ended without reporting an exit status."""
        while self._listen(kernel):
            pass
        raise SandboxError(f"the sandbox's kernel ended before the command did: {self._last_words()}")

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._console.decode(errors="replace").splitlines() if line.strip()]
        panic = [line for line in lines if "panic" in line.lower()]
        return " / ".join(panic[:1] or lines[-3:]) or "its console is empty"

    # To the inside

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
        except OSError:  # the terminal was hung up
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
    with contextlib.suppress(BrokenPipeError):  # the end is noticed where the pipe is read
        while data:
            data = data[os.write(kernel.to_inside, data) :]


def _readable_input() -> bool:
    """Whether standard input can be read: it is open, and no terminal that belongs to another job."""
    try:
        os.fstat(0)
    except OSError:
        return False
    return not os.isatty(0)
