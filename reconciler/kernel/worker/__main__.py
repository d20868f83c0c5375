"""A pool's worker: the process that makes all kernel calls for one pool.

A call can hang where no signal reaches it (for example a message to a pool whose metadata device is suspended); then
this process hangs, and nothing else does. It inherits neither the daemon's lock nor its sockets, and holds the pool's
own lock until it ends, so that no second worker touches the pool while a call of the first may still be going on.

It is started as `python -m reconciler.kernel.worker FD`, where FD is one end of a socket pair. When the other end is
closed, the worker ends after its present step.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from reconciler.kernel.host import host_kernel
from reconciler.kernel.locks import PoolLock, PoolLocked
from reconciler.kernel.privileges import drop_all_others, lock_memory
from reconciler.kernel.protocol import Kernel
from reconciler.kernel.steps.table import run_step
from reconciler.kernel.worker.messages import Answer, LogLine, Question, ResetCache, WorkerConfig, say
from reconciler.kernel.worker.scan import PoolScanner
from reconciler.model.errors import HostError
from reconciler.model.live import ScanRequest, ScanScope
from reconciler.model.steps import HostStep

_log = logging.getLogger(__name__)


class _ToDaemon(logging.Handler):
    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more, and the worker is about to end
            say(self._connection, LogLine(record.name, record.levelno, self.format(record)))


def serve(connection: Connection) -> None:
    """Answers questions until the other end is closed."""
    hello: WorkerConfig = connection.recv()
    lock = PoolLock(hello.watched.pool)
    if hello.lock:
        try:
            lock.take(hello.state_dir)
        except PoolLocked as held:
            say(connection, held)
            return
    with contextlib.closing(lock):
        lock_memory()
        kernel = host_kernel()
        observer = PoolScanner(kernel, hello.watched, Path(hello.state_dir))
        say(connection, None)
        while True:
            say(connection, answer(kernel, observer, connection.recv()))


def answer(kernel: Kernel, observer: PoolScanner, question: Question) -> Answer:
    try:
        match question:
            case ScanRequest():
                return observer.look(question)
            case ScanScope():
                observer.watch(question)
                return None
            case ResetCache():
                observer.forget()
                return None
            case HostStep():
                return run_step(kernel, question)
    except HostError as fault:
        return fault


def main() -> None:
    # Ctrl-C in a terminal is for the daemon, which ends its workers by closing their sockets, after their present step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    drop_all_others()  # commands start workers too, with all privileges of their shell
    with contextlib.suppress(EOFError, ConnectionError), Connection(int(sys.argv[1])) as connection:
        logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_ToDaemon(connection)])
        _serve_or_say(connection)


def _serve_or_say(connection: Connection) -> None:
    try:
        serve(connection)
    except (EOFError, ConnectionError):
        raise
    except Exception:  # noqa: BLE001  # logged in full, with its trace
        _log.exception("the worker failed; this is a bug")
        sys.exit(1)


if __name__ == "__main__":
    main()
