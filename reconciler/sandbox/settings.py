"""The settings, checked before anything is started, and the part of them that the first process inside gets as JSON."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

from reconciler.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Config(TypedDict):
    command: list[str]
    environment: dict[str, str]
    directory: str
    scratch: list[str]  # directories that become empty and writable
    visible: list[str]  # directories inside those that stay visible, read-only
    share: list[str]  # directories that are writable, also on the host
    terminals: list[int]  # those of the streams 0, 1 and 2 that are a terminal
    window: list[int]  # the rows and columns of the terminal
    udev: str  # the program; empty for none


MOST_DISKS: Final = 8  # /dev/ubda to /dev/ubdh, as many as the kernel's driver has
_LEAST_MEMORY: Final = 128 << 20  # bytes; with less, udev's workers run out of memory
_USAGE: Final = 2  # the exit status for wrong usage, as in a shell
_UNITS: Final = {"K": 10, "M": 20, "G": 30, "T": 40}
# The kernel inside has its own content for these, so nothing of the host can be shared there.
_NEVER_SHARED: Final = ("/", "/dev", "/proc", "/sys", "/run")


@dataclass(frozen=True, slots=True)
class Settings:
    command: tuple[str, ...]
    share: tuple[Path, ...]
    memory: int  # bytes
    disks: tuple[Path, ...]
    timeout: float | None  # seconds
    udev: bool


def checked(
    command: Sequence[str],
    *,
    share: Sequence[Path],
    memory: str,
    disks: Sequence[Path],
    timeout: float | None,
    udev: bool,
) -> Settings:
    """Checks the settings. Raises SandboxError with what is wrong."""
    if timeout is not None and timeout <= 0:
        raise SandboxError(f"a timeout of {timeout:g} s leaves no time to start: give more, or none")
    if len(disks) > MOST_DISKS:
        raise SandboxError(f"{len(disks)} disks, but the kernel has {MOST_DISKS}: give fewer")
    return Settings(
        command=tuple(command) or (os.environ.get("SHELL") or "bash",),
        share=tuple(_shared(Path(path)) for path in share),
        memory=memory_bytes(memory),
        disks=tuple(_disk(Path(path)) for path in disks),
        timeout=timeout,
        udev=udev,
    )


def memory_bytes(text: str) -> int:
    """The bytes in '512M' or '1G': binary units, as in the kernel's mem=. Raises SandboxError."""
    match = re.fullmatch(r"([0-9]{1,12})\s*([KMGT])(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise SandboxError(f"memory {text!r} is no size: write it as 512M or 1G", status=_USAGE)
    size = int(match[1]) << _UNITS[match[2].upper()]
    if size < _LEAST_MEMORY:
        raise SandboxError(
            f"memory {text!r} is too little for the kernel and udev: give at least {_LEAST_MEMORY >> 20}M",
            status=_USAGE,
        )
    return size


def _shared(path: Path) -> Path:
    real = path.resolve()
    if not real.is_dir():
        raise SandboxError(f"cannot share {path}: no such directory; create it first")
    if str(real) in _NEVER_SHARED or real.is_relative_to("/proc") or real.is_relative_to("/sys"):
        raise SandboxError(f"cannot share {path}: the sandbox has its own; share a directory with files of yours")
    return real


def _disk(path: Path) -> Path:
    real = path.resolve()
    if not real.is_file():
        raise SandboxError(f"disk {path} is no file: create it, for example with `truncate -s 1G {path}`")
    if not os.access(real, os.R_OK | os.W_OK):
        raise SandboxError(f"disk {path} cannot be written by this user: change its permissions or take another")
    return real
