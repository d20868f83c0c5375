"""The first process inside: mounts file systems, loads modules, starts udev, runs the command, and reports its exit
status.

It makes some system calls that Python's standard library does not have. The file systems inside are the host's,
read-only, with empty ones where programs must write, and the shared directories.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import signal
import struct
import termios

from reconciler.sandbox import wire
from reconciler.sandbox.inside.agent import Agent

TYPE_CHECKING = False  # importing typing takes as long as all other imports together
if TYPE_CHECKING:
    from typing import Final, Never

    from reconciler.sandbox.settings import Config


MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_BIND: Final = 4096

_NR_FINIT_MODULE: Final = 313  # the number on x86-64
_AF_INET, _SOCK_DGRAM = 2, 2
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """Mounts a file system. Raises OSError."""
    arguments = [os.fsencode(text) for text in (source, target, fstype)]
    _checked(_libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(data) or None), target)


def insert_module(path: str, parameters: str = "") -> None:
    """Loads a kernel module from its file, unless it is loaded already. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.syscall(_NR_FINIT_MODULE, fd, parameters.encode(), 0), path)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    finally:
        os.close(fd)


def set_hostname(name: str) -> None:
    encoded = name.encode()
    _checked(_libc.sethostname(encoded, len(encoded)), "hostname")


def interface_up(name: str) -> None:
    """Does what `ip link set NAME up` does, without starting a process."""
    fd = _checked(_libc.socket(_AF_INET, _SOCK_DGRAM, 0), name)
    try:
        fcntl.ioctl(fd, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), _IFF_UP))
    finally:
        os.close(fd)


def sync_filesystem(path: str) -> None:
    """Writes back this one file system, so that it never waits for a suspended device under another."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.syncfs(fd), path)
    finally:
        os.close(fd)


MODULES: Final = "/usr/lib/uml/modules"
# Directories whose contents stay visible, and whose changes are thrown away.
_OVERLAID: Final = ("/var/lib", "/etc/lvm")


def mount_kernel_filesystems() -> None:
    """Mounts what every program expects. The kernel may have mounted /dev by itself."""
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
    for path in sorted({*config["visible"], *config["share"]}):  # a parent comes before what is in it
        os.makedirs(path, exist_ok=True)  # noqa: PTH103
        mount("hostfs", path, "hostfs", 0 if path in config["share"] else MS_RDONLY, path)


def _overlay(path: str) -> None:
    name = path.strip("/").replace("/", "-")
    upper, work = f"/run/overlay/{name}/upper", f"/run/overlay/{name}/work"
    os.makedirs(upper)  # noqa: PTH103
    os.makedirs(work)  # noqa: PTH103
    mount("overlay", path, "overlay", 0, f"lowerdir={path},upperdir={upper},workdir={work}")


_LINE: Final = "/dev/ttyS0"
# The drivers in the order of their dependencies. One that is missing is built in, or this kernel does not have it.
_DRIVERS: Final = (
    "fs/overlayfs/overlay",
    "drivers/block/loop",
    "drivers/md/dm-mod",
    "drivers/md/dm-bufio",
    "drivers/md/dm-bio-prison",
    "drivers/md/persistent-data/dm-persistent-data",
    "drivers/md/dm-thin-pool",
    "drivers/md/dm-snapshot",
    "drivers/md/dm-flakey",
    "drivers/md/dm-delay",
    "drivers/md/dm-dust",
)
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main() -> Never:
    """Boots and runs the command. Never returns: the kernel is killed from outside, so no hanging
    device is waited for.
    """
    os.environ["PATH"] = _PATH
    mount_kernel_filesystems()
    line = _open_line()
    try:
        decoder = wire.Decoder()
        config = _receive_config(line, decoder)
        _bring_up(config)
        status = Agent(line, decoder, config).serve()
        for path in config["share"]:
            sync_filesystem(path)  # includes what was written through mmap
        _send(line, wire.frame(wire.EXIT, wire.COUNT.pack(status)))
    except Exception as error:  # noqa: BLE001 - the end of the first process is a panic: say why in words
        _send(line, wire.frame(wire.FAILED, f"{type(error).__name__}: {error}".encode(errors="replace")))
    while True:
        signal.pause()


def _open_line() -> int:
    """Opens the serial line, with every translation off, so that all bytes pass."""
    line = os.open(_LINE, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    mode = termios.tcgetattr(line)
    mode[0] = mode[1] = mode[3] = 0
    mode[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
    termios.tcsetattr(line, termios.TCSANOW, mode)
    return line


def _send(line: int, data: bytes) -> None:
    while data:
        data = data[os.write(line, data) :]


def _receive_config(line: int, decoder: wire.Decoder) -> Config:
    text = b""
    _send(line, wire.frame(wire.READY))
    while True:
        for _, part in decoder.feed(os.read(line, 4096)):
            if not part:
                config: Config = json.loads(text)
                return config
            text += part
            _send(line, wire.frame(wire.READY))


def _bring_up(config: Config) -> None:
    modules = f"{MODULES}/{os.uname().release}/kernel"
    for name in _DRIVERS:
        path = f"{modules}/{name}.ko"
        if os.path.exists(path):  # noqa: PTH110 - pathlib takes 50 ms to import here
            insert_module(path)
    mount_directories(config)
    set_hostname("sandbox")
    interface_up("lo")
    if config["udev"]:
        _start_udev(config["udev"])


def _start_udev(program: str) -> None:
    """Starts systemd-udevd, and a coldplug of the two subsystems that matter; all would take three times as long."""
    _run(program, "--daemon")
    for kind in ("block", "misc"):
        for name in os.listdir(f"/sys/class/{kind}"):  # noqa: PTH208
            with open(f"/sys/class/{kind}/{name}/uevent", "w", encoding="ascii") as uevent:  # noqa: PTH123
                uevent.write("add")
    _run("udevadm", "settle", "--timeout=30")


def _run(*command: str) -> None:
    """Runs a command without a fork, because copying this process's page tables is slow here."""
    pid = os.posix_spawnp(command[0], command, {"PATH": _PATH, **_tunables()})
    _, status = os.waitpid(pid, 0)
    if status:
        msg = f"{' '.join(command)} failed inside the sandbox with status {os.waitstatus_to_exitcode(status)}"
        raise RuntimeError(msg)


def _tunables() -> dict[str, str]:
    return {name: os.environ[name] for name in ("GLIBC_TUNABLES", "GODEBUG") if name in os.environ}
