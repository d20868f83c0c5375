"""The controller's end of the socket to a pool's worker: scans and steps, each answered or failed within a deadline.

For a worker that does not answer, /proc shows what it waits for. The kernel functions that it waits in are read from
/proc/PID/stack (proc(5); it takes CAP_SYS_ADMIN), because wchan and syscall are not on every kernel. A worker that runs
a program (thin_check, mkfs) waits for that program.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from socket import SHUT_RDWR, socket, socketpair
from typing import Final, Protocol, TypeVar

from reconciler.kernel.locks import PoolLocked
from reconciler.kernel.protocol import Kernel
from reconciler.kernel.steps.table import run_step
from reconciler.kernel.worker.messages import Answer, LogLine, Question, ResetCache, WorkerConfig, say
from reconciler.kernel.worker.scan import PoolScanner
from reconciler.model.errors import HostError, WorkerDiedError, WorkerTimeoutError
from reconciler.model.live import PoolScan, ScanRequest, ScanScope
from reconciler.model.steps import HostStep, StepResult

_PROC: Final = Path("/proc")
_FRAME: Final = re.compile(r"\] (?P<function>\w+)[.+]")
_SCHEDULER: Final = re.compile(
    r"_*switch_to|_*schedule|schedule_timeout\w*|io_schedule\w*|_*wait_for_common\w*|.*syscall.*|_*x64_sys_\w+"
    r"|do_sys\w*|sys_\w+|ret_from_\w+|entry_\w+|userspace|fork_handler|new_thread_handler|handle_mm_fault|asm_\w+"
)
"""Frames that every wait has: the scheduler at one end of the stack, the entry into the kernel at the other."""
_SHOWN: Final = 4
_DEEPEST: Final = 4
"""How many levels of programs are followed down: a program of the worker may run another one."""
_STEPS: Final = (5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
"""The durations that are shown, in seconds. A message with the exact number would be a new message at each scan."""


def wait_of(pid: int, proc: Path = _PROC, depth: int = _DEEPEST) -> str:
    """What the process waits for, as `(pid 77) waits in the kernel, in target_message < ctl_ioctl`,
    if it is readable.
    """
    child = _child_of(pid, proc) if depth else None
    if child is not None:
        return f"(pid {pid}) waits for {_command(child, proc)}, which {wait_of(child, proc, depth - 1)}"
    state = _state(pid, proc)
    if state == "T":
        return f"(pid {pid}) was stopped by a signal: `kill -CONT {pid}` lets it go on"
    if state == "R":
        return f"(pid {pid}) is at work"
    if state in {"", "Z", "X"}:
        return f"(pid {pid}) has ended"
    frames = _frames(pid, proc)
    return f"(pid {pid}) waits in the kernel" + (f", in {' < '.join(frames)}" if frames else "")


def roughly(seconds: float) -> str:
    """The duration as `10 s`, `5 min` or `2 h`: the largest step that it has reached."""
    passed = max((step for step in _STEPS if step <= seconds), default=None)
    if passed is None:
        return f"{seconds:.0f} s"
    if passed < 60:  # seconds in a minute
        return f"{passed} s"
    return f"{passed // 60} min" if passed < 3600 else f"{passed // 3600} h"  # seconds in an hour


def _frames(pid: int, proc: Path) -> list[str]:
    """The functions of the stack, the innermost first, without those that every wait has."""
    functions = [match["function"] for line in _lines(proc / f"{pid}/stack") if (match := _FRAME.search(line))]
    return [function for function in functions if _SCHEDULER.fullmatch(function) is None][:_SHOWN]


def _state(pid: int, proc: Path) -> str:
    """The state as a letter of proc(5); empty for a process that has ended."""
    lines = _lines(proc / f"{pid}/stat")
    return lines[0].rpartition(")")[2].split()[0] if lines else ""


def _child_of(pid: int, proc: Path) -> int | None:
    lines = _lines(proc / f"{pid}/task/{pid}/children")
    pids = [int(word) for line in lines for word in line.split() if word.isdecimal()]
    return next((child for child in pids if _state(child, proc) not in {"", "Z", "X"}), None)


def _command(pid: int, proc: Path) -> str:
    lines = _lines(proc / f"{pid}/comm")
    return lines[0] if lines else "a program"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # the process has ended, or the kernel does not show it to this user
        return []


LOOK_DEADLINE: Final = 5.0
"""Seconds for a scan. It makes no call that may block, so one that takes longer means that something below hangs."""
IDS_DEADLINE: Final = 60.0
"""Seconds for a scan that also reads the thin ids, because thin_ls is slow on a large pool."""
START_DEADLINE: Final = 20.0
"""Seconds for a new process to import its modules. On a host that swaps it may take longer, and is waited for again."""
PATIENCE: Final = 5.0
"""Seconds that a question waits before the stall handler is told, and between two such calls."""

_log = logging.getLogger(__name__)
T = TypeVar("T")


class WorkerClient(Protocol):
    """All calls raise HostError; WorkerTimeoutError if there is no answer in time; PoolLocked if another process works
    on the pool.
    """

    def look(self, request: ScanRequest) -> PoolScan: ...

    def run(self, step: HostStep) -> StepResult: ...

    def watch(self, watched: ScanScope) -> None:
        """Changes what is scanned from now on."""

    def abandon(self) -> None:
        """Gives up on the worker; thread-safe. Whoever waits for an answer gets an error at once; the worker ends after
        its step.
        """

    def close(self, wait: float = 1.0) -> None:
        """Waits for the worker to end after its present step. One that hangs is left behind, with its lock."""

    def tell_of_waits(self, helper: StallHandler) -> None:
        """Sets the handler that is called, in the thread that asks, while a question has no answer."""


class StallHandler(Protocol):
    """May be able to help while a pool's worker hangs."""

    def waiting(self, beside: WorkerClient) -> None:
        """Called repeatedly while the worker hangs. `beside` leads to a second worker without the pool's lock, which
        starts on first use.
        """

    def cause(self) -> str | None:
        """What the worker waits for, as the second one saw it (`NAME, which it lies on, is suspended`); else None."""

    def answered(self) -> None:
        """Called when the worker answers again or is gone. The second worker ends then."""


class InlineWorkerClient:
    """The same in this process, for the simulated kernel and for single scans of a host that does not hang."""

    def __init__(self, kernel: Kernel, watched: ScanScope, state_dir: Path) -> None:
        self._kernel = kernel
        self._observer = PoolScanner(kernel, watched, state_dir)

    def look(self, request: ScanRequest) -> PoolScan:
        return self._observer.look(request)

    def run(self, step: HostStep) -> StepResult:
        return run_step(self._kernel, step)

    def watch(self, watched: ScanScope) -> None:
        self._observer.watch(watched)

    def abandon(self) -> None:
        """Does nothing, because no call waits: each returns before it could be abandoned."""

    def close(self, wait: float = 1.0) -> None:
        """Does nothing, because there is no process."""

    def tell_of_waits(self, helper: StallHandler) -> None:
        """Does nothing, because no call waits."""


class ProcessWorkerClient:
    """A worker process, started with the first question and again if it died; and a second one if that hangs."""

    def __init__(self, watched: ScanScope, state_dir: Path, *, lock: bool) -> None:
        self._hello = WorkerConfig(watched, str(state_dir), lock)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket | None = None
        self._connection: Connection | None = None
        self._late = False
        """Whether a question is still unanswered; its answer is discarded when it comes."""
        self._starting = False
        """Whether the process was started and has not yet reported ready; nothing has been asked of the pool then."""
        self._asked: tuple[str, str] = ("look at", self._pool)
        """The present question: what is asked, and about which object."""
        self._asked_at = 0.0
        self._helper: StallHandler | None = None
        self._beside: ProcessWorkerClient | None = None

    def look(self, request: ScanRequest) -> PoolScan:
        return self._ask(request, PoolScan, IDS_DEADLINE if request.ids else LOOK_DEADLINE)

    def run(self, step: HostStep) -> StepResult:
        return self._ask(step, StepResult, step.deadline)

    def watch(self, watched: ScanScope) -> None:
        self._hello = WorkerConfig(watched, self._hello.state_dir, self._hello.lock)
        if self._connection is not None:
            self._ask(watched, type(None), LOOK_DEADLINE)

    def tell_of_waits(self, helper: StallHandler) -> None:
        self._helper = helper

    def abandon(self) -> None:
        ours, beside = self._socket, self._beside
        if ours is not None:
            with contextlib.suppress(OSError):  # its own thread has closed it at the same moment
                ours.shutdown(SHUT_RDWR)
        if beside is not None:
            beside.abandon()

    def close(self, wait: float = 1.0) -> None:
        end = time.monotonic() + wait
        beside, self._beside = self._beside, None
        if beside is not None:
            beside.abandon()  # lets both begin to end at once
        self._end(wait)
        if beside is not None:
            beside.close(max(0.0, end - time.monotonic()))

    def _end(self, wait: float = 1.0) -> None:
        if self._connection is not None and self._socket is not None:
            self._connection.close()
            self._socket.close()
        self._connection = self._socket = None
        if self._process is None:
            return
        if self._starting:  # it has made no call for the pool that an end could interrupt
            self._process.kill()
        try:
            self._process.wait(wait)
        except subprocess.TimeoutExpired:
            left = f"the worker of pool {self._pool} {wait_of(self._pid)}: left behind"
            _log.warning("%s", left, extra={"pool": self._pool, "reason": "Stuck"})
            # Avoids Python's warning that the process still runs, as nobody waits for it any more.
            self._process.returncode = 0
        self._process, self._late, self._starting = None, False, False

    @property
    def _pool(self) -> str:
        return self._hello.watched.pool

    @property
    def _pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def _ask(self, question: Question, kind: type[T], deadline: float) -> T:
        connection = self._connected()
        try:
            self._asked, self._asked_at = _names_of(question, self._pool), time.monotonic()
            say(connection, question)
            answer = self._receive(connection, deadline, self._call_for_help)
        except (EOFError, ConnectionError) as error:
            self._end()
            raise WorkerDiedError(
                "ask the worker of", self._pool, errno.EPIPE, "it died; the next look starts another"
            ) from error
        finally:
            self._end_help()
        if isinstance(answer, HostError | PoolLocked):
            raise answer
        assert isinstance(answer, kind), answer  # noqa: S101  # the worker's protocol
        return answer

    def _receive(self, connection: Connection, deadline: float, at_times: Callable[[], None] | None = None) -> Answer:
        """Receives the answer within the deadline. `at_times` is called whenever the patience has run out."""
        end = time.monotonic() + deadline
        self._late = True  # stays so however this wait ends, until the answer is here
        while True:
            if connection.poll(max(0.0, min(PATIENCE, end - time.monotonic()))):
                answer = self._heard(connection)
                if not isinstance(answer, LogLine):
                    self._late = False
                    return answer
            elif time.monotonic() >= end:
                raise self._unanswered()
            elif at_times is not None:
                at_times()

    def _unanswered(self) -> WorkerTimeoutError:
        """The error that names the question, how long it has been unanswered, and what the worker waits for."""
        seconds, waits = roughly(time.monotonic() - self._asked_at), wait_of(self._pid)
        if self._starting:
            detail = f"it has not started for {seconds}, as this host is slow or short of memory; it {waits}"
            return WorkerTimeoutError("start the worker of", self._pool, errno.ETIMEDOUT, detail)
        cause = self._helper.cause() if self._helper is not None else None
        detail = f"no answer for {seconds}; the worker {waits}" + (f"; {cause}" if cause else "")
        return WorkerTimeoutError(*self._asked, errno.ETIMEDOUT, detail)

    def _heard(self, connection: Connection) -> Answer | LogLine:
        """Receives the next message. A log line is logged at once."""
        told: Answer | LogLine = connection.recv()
        if isinstance(told, LogLine):
            logging.getLogger(told.logger).log(told.level, "%s", told.text, extra={"pool": self._pool})
        return told

    def _has_answered(self, connection: Connection) -> bool:
        """Whether the late answer, which nobody needs any more, has come."""
        while connection.poll(0):
            if not isinstance(self._heard(connection), LogLine):
                return True
        return False

    def _connected(self) -> Connection:
        if self._connection is None:
            return self._start()
        if self._starting:
            return self._started(self._connection, LOOK_DEADLINE)
        if self._late:
            self._catch_up(self._connection)
        return self._connection

    def _catch_up(self, connection: Connection) -> None:
        """Discards the late answer if it has come, and makes the next scan report everything."""
        try:
            if not self._has_answered(connection):
                self._call_for_help()
                raise self._unanswered()
            say(connection, ResetCache())
            self._receive(connection, LOOK_DEADLINE)
        except (EOFError, ConnectionError):
            self._end()
            self._start()

    def _start(self) -> Connection:
        ours, theirs = socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "reconciler.kernel.worker", str(theirs.fileno())]
            # The worker gets its own session, so that Ctrl-C in a terminal reaches the daemon only, which ends its
            # workers in order.
            self._process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._socket = ours
        self._connection = connection = Connection(os.dup(ours.fileno()))
        self._starting, self._asked_at = True, time.monotonic()
        say(connection, self._hello)
        return self._started(connection, START_DEADLINE)

    def _started(self, connection: Connection, deadline: float) -> Connection:
        """The connection once the worker is ready. If that takes too long, the next question waits for it again."""
        try:
            answer = self._receive(connection, deadline)
        except (EOFError, ConnectionError) as error:
            self._end()
            raise HostError(
                "start the worker of", self._pool, errno.EPIPE, "it ended at once: see its error"
            ) from error
        if isinstance(answer, PoolLocked | HostError):
            self._end()
            self._help_former(answer)
            raise answer
        self._starting = False
        seconds = time.monotonic() - self._asked_at
        _log.debug("worker of pool %s (pid %d) started in %.2f s", self._pool, self._pid, seconds)
        return connection

    # What is done while the worker hangs.

    def _call_for_help(self) -> None:
        if self._helper is None:
            return
        if self._beside is None:
            self._beside = ProcessWorkerClient(self._hello.watched, Path(self._hello.state_dir), lock=False)
        self._helper.waiting(self._beside)

    def _help_former(self, trouble: PoolLocked | HostError) -> None:
        """Helps a worker of the same store that an earlier daemon has left behind, as it hangs like one of our own."""
        if isinstance(trouble, PoolLocked) and trouble.state_dir == self._hello.state_dir:
            self._call_for_help()

    def _end_help(self) -> None:
        """Ends the second worker, whose work is done, unless it hangs too."""
        if self._late or self._beside is None or self._helper is None:
            return
        self._helper.answered()
        if not self._beside.hangs():  # no third worker is started while the second hangs
            self._beside.close()
            self._beside = None

    def hangs(self) -> bool:
        """Whether a question is still unanswered."""
        return self._late and self._connection is not None and not self._connection.poll(0)


def _names_of(question: Question, pool: str) -> tuple[str, str]:
    """What is asked and about which object, for the message that there is no answer."""
    if isinstance(question, HostStep):
        return question.action, question.subject
    if isinstance(question, ScanRequest) and question.ids:
        return "read the thin ids of", pool
    return "look at", pool
