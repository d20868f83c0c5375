"""What the controller sees of a pool's worker: looks and steps, each with an answer or a fault within a deadline.

What a process waits for, as /proc tells it: for the message about a worker that does not answer.

The functions of the kernel that it waits in are read from /proc/PID/stack (proc(5); it takes CAP_SYS_ADMIN), as wchan
and syscall are not there on every kernel. A worker that runs a program (thin_check, mkfs) waits for that one.
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
"""Frames that every wait has: the scheduler at one end of the stack, the way into the kernel at the other."""
_SHOWN: Final = 4
_DEEPEST: Final = 4
"""A worker runs a program, which may run another one."""
_STEPS: Final = (5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
"""Seconds that are told: a message that counted each second would be another one at every look."""


def wait_of(pid: int, proc: Path = _PROC, depth: int = _DEEPEST) -> str:
    """In words: `(pid 77) waits in the kernel, in target_message < ctl_ioctl`. Total: what cannot be read is left out."""
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
    """`10 s`, `5 min`, `2 h`: the last of a few steps that has been passed."""
    passed = max((step for step in _STEPS if step <= seconds), default=None)
    if passed is None:
        return f"{seconds:.0f} s"
    if passed < 60:  # seconds of a minute
        return f"{passed} s"
    return f"{passed // 60} min" if passed < 3600 else f"{passed // 3600} h"  # seconds of an hour


def _frames(pid: int, proc: Path) -> list[str]:
    """The innermost functions first, without those that every wait has."""
    functions = [match["function"] for line in _lines(proc / f"{pid}/stack") if (match := _FRAME.search(line))]
    return [function for function in functions if _SCHEDULER.fullmatch(function) is None][:_SHOWN]


def _state(pid: int, proc: Path) -> str:
    """The letter of proc(5); empty for a process that has ended."""
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
    except OSError:  # it has ended, or this kernel or user may not tell
        return []


LOOK_DEADLINE: Final = 5.0
"""Seconds. A look sends nothing that may block; one that takes longer means that something below hangs."""
IDS_DEADLINE: Final = 60.0
"""Seconds for a look that also reads the thin ids: thin_ls takes its time on a large pool."""
START_DEADLINE: Final = 20.0
"""Seconds for a new process to have read its modules. On a host that swaps it takes longer, and goes on all the same."""
PATIENCE: Final = 5.0
"""Seconds that a question waits before anybody asks why, and again each time."""

_log = logging.getLogger(__name__)
T = TypeVar("T")


class WorkerClient(Protocol):
    """All calls raise HostError; Unanswered if there is no answer in time; PoolLocked if another works on the pool."""

    def look(self, request: ScanRequest) -> PoolScan: ...

    def run(self, step: HostStep) -> StepResult: ...

    def watch(self, watched: ScanScope) -> None:
        """Look at something else from now on."""

    def abandon(self) -> None:
        """From any thread: whoever waits for an answer gets a fault at once; the worker ends after the step at hand."""

    def close(self, wait: float = 1.0) -> None:
        """The worker ends after the step at hand, and is waited for; one that hangs is left behind, with its lock."""

    def tell_of_waits(self, helper: StallHandler) -> None:
        """From now on this helper is told, by the thread that asks, while a question has no answer."""


class StallHandler(Protocol):
    """Who may be able to help while a pool's worker hangs."""

    def waiting(self, beside: WorkerClient) -> None:
        """Again and again. `beside` leads to a second worker, without the pool's lock, started when first asked."""

    def cause(self) -> str | None:
        """What the worker waits for, as far as the second one saw: `NAME, which it lies on, is suspended`. Or nothing."""

    def answered(self) -> None:
        """After waits: the worker is there again, or gone. The second one ends."""


class InlineWorkerClient:
    """The same in this process, for the simulated kernel and for one-shot looks at a host that does not hang."""

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
        """Nobody can wait: calls return before they could be asked to stop."""

    def close(self, wait: float = 1.0) -> None:
        """Nothing to end."""

    def tell_of_waits(self, helper: StallHandler) -> None:
        """Nothing waits."""


class ProcessWorkerClient:
    """A worker process, started with the first question, and again if it died; and a second one while that hangs."""

    def __init__(self, watched: ScanScope, state_dir: Path, *, lock: bool) -> None:
        self._hello = WorkerConfig(watched, str(state_dir), lock)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket | None = None
        self._connection: Connection | None = None
        self._late = False
        """A question is still unanswered: its answer is thrown away when it comes."""
        self._starting = False
        """The process was started, and has not said yet that it is ready: nothing has been asked of the pool."""
        self._asked: tuple[str, str] = ("look at", self._pool)
        """The question at hand: what, of which object."""
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
            with contextlib.suppress(OSError):  # closed in the same moment by its own thread
                ours.shutdown(SHUT_RDWR)
        if beside is not None:
            beside.abandon()

    def close(self, wait: float = 1.0) -> None:
        end = time.monotonic() + wait
        beside, self._beside = self._beside, None
        if beside is not None:
            beside.abandon()  # both begin to end at once
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
        if self._starting:  # it has made no call for the pool that could be cut off
            self._process.kill()
        try:
            self._process.wait(wait)
        except subprocess.TimeoutExpired:
            left = f"the worker of pool {self._pool} {wait_of(self._pid)}: left behind"
            _log.warning("%s", left, extra={"pool": self._pool, "reason": "Stuck"})
            self._process.returncode = 0  # it is not ours to wait for any more: no warning that it still runs
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
        """Within the deadline; meanwhile `at_times` is called whenever the patience has run out."""
        end = time.monotonic() + deadline
        self._late = True  # whatever ends this wait, until the answer is here
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
        """Says which question has no answer, for how long, and what the worker waits for."""
        seconds, waits = roughly(time.monotonic() - self._asked_at), wait_of(self._pid)
        if self._starting:
            detail = f"it has not started for {seconds}, as this host is slow or short of memory; it {waits}"
            return WorkerTimeoutError("start the worker of", self._pool, errno.ETIMEDOUT, detail)
        cause = self._helper.cause() if self._helper is not None else None
        detail = f"no answer for {seconds}; the worker {waits}" + (f"; {cause}" if cause else "")
        return WorkerTimeoutError(*self._asked, errno.ETIMEDOUT, detail)

    def _heard(self, connection: Connection) -> Answer | LogLine:
        """What it says next. A line for the log is written there."""
        told: Answer | LogLine = connection.recv()
        if isinstance(told, LogLine):
            logging.getLogger(told.logger).log(told.level, "%s", told.text, extra={"pool": self._pool})
        return told

    def _has_answered(self, connection: Connection) -> bool:
        """Whether the late answer has come, which nobody needs any more."""
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
        """Throw the late answer away if it has come, and have the next look tell everything."""
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
            # A session of its own: the terminal's Ctrl-C ends the daemon, which ends its workers in order.
            self._process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._socket = ours
        self._connection = connection = Connection(os.dup(ours.fileno()))
        self._starting, self._asked_at = True, time.monotonic()
        say(connection, self._hello)
        return self._started(connection, START_DEADLINE)

    def _started(self, connection: Connection, deadline: float) -> Connection:
        """Once it is ready. One that takes longer is waited for again with the next question."""
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

    # While it hangs

    def _call_for_help(self) -> None:
        if self._helper is None:
            return
        if self._beside is None:
            self._beside = ProcessWorkerClient(self._hello.watched, Path(self._hello.state_dir), lock=False)
        self._helper.waiting(self._beside)

    def _help_former(self, trouble: PoolLocked | HostError) -> None:
        """A worker of the same store, left behind by a daemon that is gone, hangs no less than one of our own."""
        if isinstance(trouble, PoolLocked) and trouble.state_dir == self._hello.state_dir:
            self._call_for_help()

    def _end_help(self) -> None:
        """Unless it still waits: the second worker has done its part."""
        if self._late or self._beside is None or self._helper is None:
            return
        self._helper.answered()
        if not self._beside.hangs():  # as long as it does, no third is started
            self._beside.close()
            self._beside = None

    def hangs(self) -> bool:
        """Whether a question is still unanswered."""
        return self._late and self._connection is not None and not self._connection.poll(0)


def _names_of(question: Question, pool: str) -> tuple[str, str]:
    """What is asked, of which object: for the message that there is no answer."""
    if isinstance(question, HostStep):
        return question.action, question.subject
    if isinstance(question, ScanRequest) and question.ids:
        return "read the thin ids of", pool
    return "look at", pool
