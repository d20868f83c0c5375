"""The user-mode kernel on this host: where it is, where its memory goes, and its command line."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from reconciler.sandbox import inside
from reconciler.sandbox.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM: Final = "linux.uml"
_UDEV: Final = ("/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd")
_NOWHERE: Final = "; install it with `apt-get install user-mode-linux udev dmsetup` (Debian, amd64), or use a machine with device-mapper"


def find_kernel() -> str:
    """The kernel's path. Raises SandboxError."""
    machine = platform.machine()
    if machine != "x86_64":
        raise SandboxError(f"the sandbox's kernel exists for x86-64 only, this is {machine}: use an x86-64 machine")
    found = shutil.which(PROGRAM)
    if not found:
        raise SandboxError(f"{PROGRAM} not found{_NOWHERE}")
    return found


def find_udev() -> str:
    """systemd-udevd's path. Raises SandboxError."""
    for path in _UDEV:
        if os.access(path, os.X_OK):
            return path
    raise SandboxError("systemd-udevd not found; install it with `apt-get install udev`, or run without udev")


def memory_directory(size: int) -> Path:
    """Where the file that is the kernel's memory goes: the first that has room and may hold code. Raises SandboxError.

    The kernel runs its code from that file, so a noexec mount (as containers have on /dev/shm) is of no use.
    """
    seen = []
    for path in dict.fromkeys((Path("/dev/shm"), Path(tempfile.gettempdir()))):  # noqa: S108 - a private directory in it
        if not (path.is_dir() and os.access(path, os.W_OK | os.X_OK)):
            seen.append(f"{path}: cannot be written")
            continue
        if any(character.isspace() or character in "\"',:" for character in str(path)):
            seen.append(f"{path}: has characters in its name that mean something on a kernel's command line")
            continue
        room = os.statvfs(path)
        if room.f_flag & os.ST_NOEXEC:
            seen.append(f"{path}: mounted noexec")
        elif room.f_bavail * room.f_frsize < size:
            seen.append(f"{path}: {room.f_bavail * room.f_frsize >> 20} MiB free")
        else:
            return path
    raise SandboxError(
        f"no place for {size >> 20} MiB of memory ({'; '.join(seen)}): set TMPDIR to one with room, or give less memory",
    )


class Wires(NamedTuple):
    """Descriptors that the kernel keeps open."""

    line_in: int
    line_out: int
    console: int


def command_line(
    kernel: str, run: Path, memory: int, disks: int, wires: Wires, environment: Mapping[str, str]
) -> list[str]:
    """environment: of the first process inside.

    Disks are symbolic links disk0, disk1, ... in run: the driver splits names at ',' and ':'. 'd' keeps it from taking
    what is on the disk for a copy-on-write header. Unknown NAME=value become the first process's environment.
    raid6_select_algo measures for 0.85 s, a third of the boot, which algorithm is fastest; without it there is no RAID 6.
    """
    return [
        kernel,
        f"mem={memory >> 10}K",
        f"uml_dir={run}",
        "rootfstype=hostfs",
        "ro",
        "quiet",
        "loglevel=3",
        "noreboot",
        "panic=-1",
        "initcall_blacklist=raid6_select_algo",
        "con=null",
        f"con0=null,fd:{wires.console}",
        "ssl=null",
        f"ssl0=fd:{wires.line_in},fd:{wires.line_out}",
        *(f"ubd{number}d={run}/disk{number}" for number in range(disks)),
        *(f"{name}={value}" for name, value in environment.items()),
        f"init={_quoted(os.path.realpath(sys.executable))}",
        "--",
        "-IS",
        _quoted(str(Path(inside.__file__).resolve().parent / "init.py")),
    ]


def _quoted(text: str) -> str:
    """As the kernel's own parser wants it. It knows no escape for the quote itself."""
    if '"' in text:
        raise SandboxError(f"the path {text} has a quote in it, which no kernel command line can: move it")
    return f'"{text}"' if any(character.isspace() for character in text) else text
