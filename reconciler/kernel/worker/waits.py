"""What a process waits for, as /proc tells it: for the message about a worker that does not answer.

The functions of the kernel that it waits in are read from /proc/PID/stack (proc(5); it takes CAP_SYS_ADMIN), as wchan
and syscall are not there on every kernel. A worker that runs a program (thin_check, mkfs) waits for that one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

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
