"""Starts the command, and carries its streams, signals and exit status over the line."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import termios

from reconciler.sandbox import wire

TYPE_CHECKING = False  # importing typing takes as long as all other imports together
if TYPE_CHECKING:
    from typing import Final

    from reconciler.sandbox.settings import Config

_CHUNK: Final = 16384
_LINGER_MS: Final = 50  # how long to wait for the rest of a terminal's output while others hold the terminal open
_NOT_FOUND, _NOT_RUNNABLE = 127, 126  # as in shells


class Agent:
    def __init__(self, line: int, decoder: wire.Decoder, config: Config) -> None:
        self._line, self._decoder, self._config = line, decoder, config
        self._outputs: dict[int, int] = {}  # file descriptor -> kind of its frames
        self._input = -1
        self._pending: list[bytes] = []  # standard input that the command has not taken yet; b"" marks its end
        self._master = -1
        self._pid = -1
        self._status: int | None = None

    def serve(self) -> int:
        """Runs the command to its end, and returns its exit status."""
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if not self._start():
            return self._status or 0
        self._send(wire.STARTED)
        while self._status is None:
            self._step(wake)
        self._drain()
        return self._status

    def _send(self, kind: int, payload: bytes = b"") -> None:
        data = wire.frame(kind, payload)
        while data:
            data = data[os.write(self._line, data) :]

    # Starting

    def _start(self) -> bool:
        """Starts the command in a session of its own. False if that is not possible."""
        os.environ.clear()
        os.environ.update(self._config["environment"])
        try:
            os.chdir(self._config["directory"])
        except OSError:
            os.chdir("/")
        theirs, actions = self._streams()
        command = self._config["command"]
        try:
            self._pid = os.posix_spawnp(
                command[0],
                command,
                self._config["environment"],
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except OSError as error:
            self._send(wire.ERRORS, f"{command[0]}: {error.strerror}\n".encode(errors="replace"))
            self._status = _NOT_FOUND if error.errno == errno.ENOENT else _NOT_RUNNABLE
        for fd in theirs:
            os.close(fd)
        return self._status is None

    def _streams(self) -> tuple[list[int], list[tuple[int, ...] | tuple[int, int, str, int, int]]]:
        """Makes each stream what it is outside: the terminal for those that are one, pipes for the others."""
        theirs: list[int] = []
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
        terminals = self._config["terminals"]
        if terminals:
            # The child opens it by name, which makes it the controlling terminal of its new session.
            name = self._open_terminal()
            first = terminals[0]
            actions.append((os.POSIX_SPAWN_OPEN, first, name, os.O_RDWR, 0))
            actions.extend((os.POSIX_SPAWN_DUP2, first, stream) for stream in terminals[1:])
        for stream, kind in ((0, 0), (1, wire.OUTPUT), (2, wire.ERRORS)):
            if stream in terminals:
                continue
            reader, writer = os.pipe()
            mine, their = (writer, reader) if stream == 0 else (reader, writer)
            if stream == 0:
                self._input = mine
                os.set_blocking(mine, False)
            else:
                self._outputs[mine] = kind
            theirs.append(their)
            actions.append((os.POSIX_SPAWN_DUP2, their, stream))
        return theirs, actions

    def _open_terminal(self) -> str:
        self._master, slave = os.openpty()
        name = os.ttyname(slave)
        self._resize(*self._config["window"])
        os.close(slave)
        self._outputs[self._master] = wire.OUTPUT if 1 in self._config["terminals"] else wire.ERRORS
        if 0 in self._config["terminals"]:
            self._input = self._master
        return name

    def _resize(self, rows: int, columns: int) -> None:
        if self._master >= 0:
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    # Running

    def _step(self, wake: int) -> None:
        poll = select.poll()
        for fd in (wake, self._line, *self._outputs):
            poll.register(fd, select.POLLIN)
        if self._pending and self._input >= 0:
            poll.register(self._input, select.POLLOUT | (select.POLLIN if self._input in self._outputs else 0))
        for fd, event in poll.poll():
            if fd == wake:
                os.read(wake, 512)
                self._reap()
            elif fd == self._line:
                self._handle(self._decoder.feed(os.read(self._line, _CHUNK)))
            else:
                if fd in self._outputs and event & ~select.POLLOUT:
                    self._forward(fd)
                if fd == self._input and event & ~select.POLLIN:
                    self._feed()

    def _reap(self) -> None:
        """Reaps all children; orphans become children of the first process."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid:
                code = os.waitstatus_to_exitcode(status)
                self._status = code if code >= 0 else 128 - code

    def _forward(self, fd: int) -> bool:
        """Forwards what can be read. False at the end of the stream."""
        try:
            data = os.read(fd, _CHUNK)
        except OSError:  # EIO means that all have closed the terminal
            data = b""
        if data:
            self._send(self._outputs[fd], data)
            return True
        del self._outputs[fd]
        if fd != self._master:
            os.close(fd)
        return False

    def _drain(self) -> None:
        """Forwards what the command had written when it ended. Others may keep its streams open, so
        no end is awaited.
        """
        for fd in list(self._outputs):
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            while poll.poll(_LINGER_MS if fd == self._master else 0) and self._forward(fd):
                pass

    def _handle(self, frames: list[tuple[int, bytes]]) -> None:
        for kind, payload in frames:
            if kind == wire.INPUT:
                self._pending.append(payload)
                self._feed()
            elif kind == wire.SIGNAL:
                self._signal(wire.COUNT.unpack(payload)[0])
            elif kind == wire.WINDOW:
                self._resize(*wire.WINSIZE.unpack(payload))
            elif kind == wire.HANGUP:
                self._hang_up(wire.COUNT.unpack(payload)[0])

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._pid, number)
        except ProcessLookupError:
            return

    def _hang_up(self, kind: int) -> None:
        """Closes the stream for the command, as nobody reads it outside."""
        for fd in [fd for fd, its_kind in self._outputs.items() if its_kind == kind and fd != self._master]:
            del self._outputs[fd]
            os.close(fd)

    def _feed(self) -> None:
        """Writes pending standard input as far as the command takes it, and reports how far that was."""
        while self._pending and self._input >= 0:
            data = self._pending[0]
            if not data:
                self._close_input()
                return
            try:
                written = os.write(self._input, data)
            except BlockingIOError:
                return
            except OSError:  # the command has closed it, so the rest is of no use
                self._send(wire.CREDIT, wire.COUNT.pack(len(data)))
                del self._pending[0]
                continue
            self._send(wire.CREDIT, wire.COUNT.pack(written))
            if written == len(data):
                del self._pending[0]
            else:
                self._pending[0] = data[written:]

    def _close_input(self) -> None:
        self._pending.clear()
        if self._input != self._master:
            os.close(self._input)
        self._input = -1
