"""What the command finds inside of the caller's surroundings: environment, working directory, directories."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import reconciler
from reconciler.sandbox.kernel import find_udev
from reconciler.sandbox.terminal import terminals, window

if TYPE_CHECKING:
    from reconciler.sandbox.config import Config
    from reconciler.sandbox.settings import Settings

HOME: Final = "/run/home"
# Empty and writable inside, where the host has them.
SCRATCH: Final = (
    "/tmp",  # noqa: S108 - the directory itself, as a mount point
    "/run",
    "/mnt",
    "/srv",
    "/media",
    "/var/tmp",  # noqa: S108
    "/var/log",
)
# Hidden too, by the kernel's own.
_HIDDEN: Final = (*SCRATCH, "/dev/shm")  # noqa: S108
# They name what is not there inside, or cannot be reached.
_DROPPED: Final = frozenset(
    {
        "DBUS_SESSION_BUS_ADDRESS",
        "DISPLAY",
        "LD_PRELOAD",
        "NOTIFY_SOCKET",
        "OLDPWD",
        "SSH_AUTH_SOCK",
        "TEMP",
        "TMP",
        "TMPDIR",
        "WAYLAND_DISPLAY",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_RUNTIME_DIR",
        "XDG_STATE_HOME",
    },
)
_SYSTEM_PATH: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")


def config(settings: Settings) -> Config:
    """Raises SandboxError."""
    directory = os.getcwd()  # noqa: PTH109 - a string is what is sent
    streams = terminals()
    return {
        "command": list(settings.command),
        "environment": environment(directory),
        "directory": directory,
        "scratch": [path for path in SCRATCH if Path(path).is_dir() and not Path(path).is_symlink()],
        "visible": visible(directory, settings.share),
        "share": [str(path) for path in settings.share],
        "terminals": streams,
        "window": list(window(streams)),
        "udev": find_udev() if settings.udev else "",
    }


def environment(directory: str) -> dict[str, str]:
    """The caller's, but for what names things of the host's; the administrator's directories are on PATH."""
    kept = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    path = [part for part in kept.get("PATH", "").split(":") if part]
    kept["PATH"] = ":".join([*path, *(part for part in _SYSTEM_PATH if part not in path)])
    kept |= {"HOME": HOME, "USER": "root", "LOGNAME": "root", "PWD": directory}
    return kept


def visible(directory: str, share: tuple[Path, ...]) -> list[str]:
    """Directories that the empty ones would hide, but that are needed: where the caller is, and this program itself."""
    package = Path(reconciler.__file__).resolve().parent.parent
    wanted = {Path(directory), package, Path(sys.prefix), Path(sys.base_prefix)}
    return sorted(
        str(path)
        for path in wanted
        if any(path.is_relative_to(hidden) and str(path) != hidden for hidden in _HIDDEN)
        and not any(path.is_relative_to(shared) for shared in share)
    )
