"""Whether udevd is there, and whether it answers. Its socket's file tells neither: it outlives a udevd that was killed,
and one that was stopped by a signal still listens.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Final

from reconciler.kernel.block.hostcalls import told_as

UDEV_CONTROL: Final = "/run/udev/control"
_ANSWERS_WITHIN: Final = 3
"""Seconds, for a ping that udevd answers between two events."""
_NAMES: Final = ("systemd-udevd", "udevd")
_PATH: Final = f"{os.defpath}:/usr/sbin:/sbin"


def udevd_listens(control: str = UDEV_CONTROL) -> bool:
    """Somebody holds udev's control socket: udevd itself, or systemd, which would start it.

    Asked with another kind of socket, which is told apart from a socket that nobody holds, and does not wake udevd.
    """
    with told_as("ask", control), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ours:
        try:
            ours.connect(control)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise
        return True


def udevd_answers(control: str = UDEV_CONTROL) -> bool:
    """It listens, and answered a ping: `udevadm control --ping`. For whom has doubts, as it starts a program."""
    if not udevd_listens(control):
        return False
    udevadm = shutil.which("udevadm", path=_PATH)
    if udevadm is None:
        return True
    command = (udevadm, "control", "--ping", f"--timeout={_ANSWERS_WITHIN}")
    try:
        return subprocess.run(command, check=False, capture_output=True, timeout=_ANSWERS_WITHIN * 2).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def why_udevd_is_silent() -> str:
    """Why it does not answer, with the command that helps."""
    if not udevd_listens():
        return "udevd does not run: `systemctl restart systemd-udevd`"
    stopped = next((pid for pid in _udevd_pids() if _udevd_state(pid) == "T"), None)
    if stopped is not None:
        return f"udevd (pid {stopped}) was stopped by a signal and does not answer: `kill -CONT {stopped}`"
    return f"udevd does not answer within {_ANSWERS_WITHIN} s: `systemctl restart systemd-udevd`"


def _udevd_pids() -> list[int]:
    """The oldest first: udevd itself, before its workers."""
    return sorted(int(file.parent.name) for file in Path("/proc").glob("[0-9]*/comm") if _text(file).strip() in _NAMES)


def _udevd_state(pid: int) -> str:
    words = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return words[0] if words else ""


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended meanwhile
        return ""
