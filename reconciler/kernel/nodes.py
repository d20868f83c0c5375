"""The nodes in /dev/mapper, and whether udevd is there to make them.

The existence of udevd's socket does not show that udevd runs or responds: the file survives a udevd that was killed,
and one that was stopped by a signal still listens.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import Final

from reconciler.kernel.block.loops import devno_of, told_as
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError

UDEV_CONTROL: Final = "/run/udev/control"
_ANSWERS_WITHIN: Final = 3
"""Seconds to wait for the reply to a ping, which udevd sends between two events."""
_NAMES: Final = ("systemd-udevd", "udevd")
_PATH: Final = f"{os.defpath}:/usr/sbin:/sbin"


def udevd_listens(control: str = UDEV_CONTROL) -> bool:
    """Whether somebody holds udev's control socket: udevd itself, or systemd, which would start it.

    The test connects with the wrong type of socket: the error differs from that of a socket without a holder, and udevd
    is not woken.
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
    """Whether udevd listens and replies to `udevadm control --ping`, which starts a program: only
    for cases of doubt.
    """
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
    """Why udevd does not respond, with the command that helps."""
    if not udevd_listens():
        return "udevd does not run: `systemctl restart systemd-udevd`"
    stopped = next((pid for pid in _udevd_pids() if _udevd_state(pid) == "T"), None)
    if stopped is not None:
        return f"udevd (pid {stopped}) was stopped by a signal and does not answer: `kill -CONT {stopped}`"
    return f"udevd does not answer within {_ANSWERS_WITHIN} s: `systemctl restart systemd-udevd`"


def _udevd_pids() -> list[int]:
    """The process ids of udevd, the oldest first: udevd itself comes before its workers."""
    return sorted(int(file.parent.name) for file in Path("/proc").glob("[0-9]*/comm") if _text(file).strip() in _NAMES)


def _udevd_state(pid: int) -> str:
    words = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return words[0] if words else ""


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # the process has ended meanwhile
        return ""


FOLDER: Final = "/dev/mapper"
CONTROL: Final = f"{FOLDER}/control"
_MISC: Final = Path("/proc/misc")
_MISC_MAJOR: Final = 10


def node_of(name: str) -> str:
    return f"{FOLDER}/{name}"


def leads_to(path: str) -> Devno | None:
    """The number of the block device at the path, after following links."""
    try:
        facts = os.stat(path)  # noqa: PTH116  # a Path costs more than the call
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise HostError("look at", path, error.errno or 0, error.strerror or "") from error
    return devno_of(facts.st_rdev) if stat.S_ISBLK(facts.st_mode) else None


def in_the_way(path: str) -> str | None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return f"{os.path.dirname(path)} is no folder: `rm {os.path.dirname(path)}`"  # noqa: PTH120  # it is text
    if stat.S_ISDIR(mode):
        return f"a folder is in its place: `rm -r {path}`"
    if stat.S_ISLNK(mode):
        return f"a link to {os.readlink(path)}, {_end_of(path)}, is in its place: `rm {path}`"  # noqa: PTH115
    if stat.S_ISREG(mode):
        return f"a plain file is in its place: `rm {path}`"
    if stat.S_ISBLK(mode):
        return f"a node of another device, {leads_to(path)}, is in its place: `rm {path}`"
    return f"something that is no block device is in its place: `rm {path}`"


def make_folder() -> None:
    """Makes the folder, because somebody may have removed it with all its nodes."""
    try:
        os.makedirs(FOLDER, mode=0o755, exist_ok=True)  # noqa: PTH103  # as above
    except OSError as error:
        raise HostError("make", FOLDER, error.errno or 0, in_the_way(f"{FOLDER}/x") or error.strerror or "") from error


def open_control(path: str = CONTROL) -> int:
    """Opens device-mapper's control node, which is made if it is missing, and returns the descriptor."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError as error:
        if path != CONTROL or not _make_control():
            raise HostError("open", path, errno.ENOENT) from error
    except OSError as error:
        raise HostError("open", path, error.errno or 0) from error
    try:
        return os.open(path, flags)
    except OSError as error:
        raise HostError("open", path, error.errno or 0) from error


def _make_control() -> bool:
    """Makes the control node with the number that the kernel gave it. False if this kernel has no device-mapper."""
    lines = (line.split() for line in _MISC.read_text(encoding="ascii").splitlines())
    number = next((int(minor) for minor, name in lines if name == "device-mapper"), None)
    if number is None:
        return False
    make_folder()
    try:
        os.mknod(CONTROL, 0o600 | stat.S_IFCHR, os.makedev(_MISC_MAJOR, number))
    except FileExistsError:  # another process made it first
        return True
    except OSError as error:
        raise HostError("make", CONTROL, error.errno or 0) from error
    return True


def _end_of(link: str) -> str:
    found = leads_to(link)
    if found is not None:
        return f"another device ({found})"
    return "which is no block device" if os.path.exists(link) else "which leads nowhere"  # noqa: PTH110
