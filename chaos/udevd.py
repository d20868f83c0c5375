"""udevd as a process that stands still: it takes events, and does not work on them.

By signals and not by `udevadm control --stop-exec-queue`: what that sends is lost, with exit status 0, when it arrives
between udevd's accept of the connection and its asking for credentials (seen with udev 252 on a busy machine).
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

from chaos.host import until

NAME: Final = "systemd-udevd"
STOPPED: Final = "T"
START: Final = 19
"""Where /proc/PID/stat has the start time, counted from the state on: proc(5)."""
SECONDS: Final = 10.0


def stop() -> None:
    """Returns when it stands."""
    pid = _pid()
    os.kill(pid, signal.SIGSTOP)
    until(lambda: _stat(pid)[:1] == [STOPPED], "udevd stands still", SECONDS)


def go_on() -> None:
    os.kill(_pid(), signal.SIGCONT)


def _pid() -> int:
    """Of the oldest of that name: a worker has it too while it starts."""
    found = {int(file.parent.name) for file in Path("/proc").glob("[0-9]*/comm") if _text(file).strip() == NAME}
    since = {int(stat[START]): pid for pid in found if len(stat := _stat(pid)) > START}
    if not since:
        raise ProcessLookupError(f"{NAME} does not run")
    return since[min(since)]


def _stat(pid: int) -> list[str]:
    """From the state on; empty where there is no such process."""
    return _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()


def _text(file: Path) -> str:
    """Nothing of a process that has ended."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
