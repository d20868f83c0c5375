"""The file systems inside: the host's read-only, empty ones where programs must write, and the shared directories."""

from __future__ import annotations

import errno
import os

from reconciler.sandbox.inside.system import MS_BIND, MS_NODEV, MS_NOSUID, MS_RDONLY, mount

TYPE_CHECKING = False  # typing takes as long to import as all the rest
if TYPE_CHECKING:
    from typing import Final

    from reconciler.sandbox.config import Config

MODULES: Final = "/usr/lib/uml/modules"
# Directories whose contents stay to be seen while what is written to them is thrown away.
_OVERLAID: Final = ("/var/lib", "/etc/lvm")


def mount_kernel_filesystems() -> None:
    """What every program expects. The kernel may have mounted /dev by itself."""
    try:
        mount("devtmpfs", "/dev", "devtmpfs")
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
    mount("proc", "/proc", "proc")
    mount("sysfs", "/sys", "sysfs")
    for path in ("/dev/pts", "/dev/shm"):  # noqa: S108 - a mount point
        os.makedirs(path, exist_ok=True)  # noqa: PTH103 - pathlib takes 50 ms to import here
    mount("devpts", "/dev/pts", "devpts", MS_NOSUID, "gid=5,mode=620,ptmxmode=666")
    mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")  # noqa: S108
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        if not os.path.lexists(f"/dev/{name}"):
            os.symlink(target, f"/dev/{name}")  # noqa: PTH211


def mount_directories(config: Config) -> None:
    for path in config["scratch"]:
        mount("tmpfs", path, "tmpfs", MS_NOSUID, "mode=1777" if path.endswith("tmp") else "mode=755")
    for path in ("/run/lock", "/run/lvm", "/run/overlay", config["environment"]["HOME"]):
        os.makedirs(path, exist_ok=True)  # noqa: PTH103
    for path in _OVERLAID:
        if os.path.isdir(path):  # noqa: PTH112
            _overlay(path)
    if os.path.isdir("/lib/modules") and os.path.isdir(MODULES):  # noqa: PTH112
        mount(MODULES, "/lib/modules", "none", MS_BIND)  # where modprobe looks
    for path in sorted({*config["visible"], *config["share"]}):  # a parent sorts before what is in it
        os.makedirs(path, exist_ok=True)  # noqa: PTH103
        mount("hostfs", path, "hostfs", 0 if path in config["share"] else MS_RDONLY, path)


def _overlay(path: str) -> None:
    name = path.strip("/").replace("/", "-")
    upper, work = f"/run/overlay/{name}/upper", f"/run/overlay/{name}/work"
    os.makedirs(upper)  # noqa: PTH103
    os.makedirs(work)  # noqa: PTH103
    mount("overlay", path, "overlay", 0, f"lowerdir={path},upperdir={upper},workdir={work}")
