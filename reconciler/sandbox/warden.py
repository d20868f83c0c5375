"""Holds the kernel's processes, and ends them whenever the caller's process is gone, however it ended.

Killing the kernel alone is not enough: each process inside is a process of the host that the kernel traces, and without
the tracer its system calls would be made on the host. So all of them become children of this program when they are
orphaned. It is isolated from the caller's terminal, is started with `python -IS` and the specification as JSON, and
lives until the kernel or its own standard input ends. Then it kills all of them and removes the run directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import sys
from typing import Final, Never, TypedDict

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_INSTRUCTION_BYTES: Final = 8

_libc = ctypes.CDLL(None, use_errno=True)


class Specification(TypedDict):
    arguments: list[str]
    environment: dict[str, str]
    run: str  # the working directory of the kernel, removed at the end
    descriptors: list[int]  # the descriptors that the kernel keeps open
    console: int  # the one of them that is its standard output and standard error
    seccomp: str  # filter program in hexadecimal; empty for none
    cpu: int  # the one processor that it runs on


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))


def main() -> None:
    specification: Specification = json.loads(sys.argv[1])
    _control(_PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    kernel = 0
    try:
        kernel = os.fork()
        if kernel == 0:
            _become_kernel(specification)
        for fd in specification["descriptors"]:
            os.close(fd)
        select.select([0, os.pidfd_open(kernel)], [], [])
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if kernel:
            _end(kernel)
        shutil.rmtree(specification["run"], ignore_errors=True)


def _control(*arguments: int) -> None:
    if _libc.prctl(*(ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:5])) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "prctl")


def _become_kernel(specification: Specification) -> Never:
    """Runs in the child. The parent notices its end, and the reader of the console gets its output."""
    try:
        os.dup2(specification["console"], 1)
        os.dup2(specification["console"], 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.setpgid(0, 0)
        os.chdir(specification["run"])
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.sched_setaffinity(0, {specification["cpu"]})
        for fd in specification["descriptors"]:
            os.set_inheritable(fd, True)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        _control(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if specification["seccomp"]:
            _install(bytes.fromhex(specification["seccomp"]))
        os.execve(specification["arguments"][0], specification["arguments"], specification["environment"])  # noqa: S606
    except BaseException as error:  # noqa: BLE001 - this is a forked copy, which must not go on
        os.write(2, f"cannot start the kernel: {error}\n".encode(errors="replace"))
    os._exit(127)


def _install(program: bytes) -> None:
    _control(_PR_SET_NO_NEW_PRIVS, 1)
    buffer = ctypes.create_string_buffer(program, len(program))
    description = _Filter(len(program) // _INSTRUCTION_BYTES, ctypes.addressof(buffer))
    _control(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(description))


def _end(kernel: int) -> None:
    """Stops the kernel, so that nothing more starts; then kills it and what it traces, until nothing is left."""
    living: int | None = kernel
    _kill(kernel, signal.SIGSTOP)
    while True:
        for pid in _descendants():
            if pid != living:
                _kill(pid, signal.SIGKILL)
        if living is not None:
            _kill(living, signal.SIGKILL)
        try:
            reaped, _ = os.waitpid(-1, 0)
        except ChildProcessError:
            return
        if reaped == living:
            living = None


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def kill_session(session: int) -> None:
    """Kills a session whose warden was killed: the kernel dies with the warden, but not what it traced."""
    while pids := [pid for pid, (state, _, its) in _processes().items() if its == session and state not in "ZX"]:
        for pid in pids:
            _kill(pid, signal.SIGKILL)


def _descendants() -> list[int]:
    """The ids of all processes below this one."""
    processes = _processes()
    found: list[int] = []
    level = {os.getpid()}
    while level:
        level = {pid for pid, (_, parent, _) in processes.items() if parent in level}
        found.extend(level)
    return found


def _processes() -> dict[int, tuple[str, int, int]]:
    """The state, parent and session of every process: fields 3, 4 and 6 of stat in proc(5)."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - this starts with every kernel, and pathlib is slow to import
        if name.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:  # noqa: PTH123
                state, parent, _, session = stat.read().rpartition(b")")[2].split()[:4]
                found[int(name)] = (state.decode(), int(parent), int(session))
    return found


if __name__ == "__main__":
    main()
