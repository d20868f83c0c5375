"""The first process inside: file systems, modules, udev, then the command, and its exit status out."""

from __future__ import annotations

import json
import os
import signal
import termios

from reconciler.sandbox import wire
from reconciler.sandbox.inside.agent import Agent
from reconciler.sandbox.inside.mounts import MODULES, mount_directories, mount_kernel_filesystems
from reconciler.sandbox.inside.system import insert_module, interface_up, set_hostname, sync_filesystem

TYPE_CHECKING = False  # typing takes as long to import as all the rest
if TYPE_CHECKING:
    from typing import Final, Never

    from reconciler.sandbox.config import Config

_LINE: Final = "/dev/ttyS0"
# In the order of their dependencies. One that is missing is built in, or this kernel has none.
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
    """Never returns: the kernel is killed from outside, so nothing here can wait for a device that hangs."""
    os.environ["PATH"] = _PATH
    mount_kernel_filesystems()
    line = _open_line()
    try:
        decoder = wire.Decoder()
        config = _receive_config(line, decoder)
        _bring_up(config)
        status = Agent(line, decoder, config).serve()
        for path in config["share"]:
            sync_filesystem(path)  # what was written through mmap
        _send(line, wire.frame(wire.EXIT, wire.COUNT.pack(status)))
    except Exception as error:  # noqa: BLE001 - the end of the first process is a panic: say why in words
        _send(line, wire.frame(wire.FAILED, f"{type(error).__name__}: {error}".encode(errors="replace")))
    while True:
        signal.pause()


def _open_line() -> int:
    """The serial line, with every translation off, so that any byte passes."""
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
    """systemd-udevd, and a coldplug of the two subsystems that matter here: all of them take three times as long."""
    _run(program, "--daemon")
    for kind in ("block", "misc"):
        for name in os.listdir(f"/sys/class/{kind}"):  # noqa: PTH208
            with open(f"/sys/class/{kind}/{name}/uevent", "w", encoding="ascii") as uevent:  # noqa: PTH123
                uevent.write("add")
    _run("udevadm", "settle", "--timeout=30")


def _run(*command: str) -> None:
    """Without a fork: copying this process's page tables is what is slow here."""
    pid = os.posix_spawnp(command[0], command, {"PATH": _PATH, **_tunables()})
    _, status = os.waitpid(pid, 0)
    if status:
        msg = f"{' '.join(command)} failed inside the sandbox with status {os.waitstatus_to_exitcode(status)}"
        raise RuntimeError(msg)


def _tunables() -> dict[str, str]:
    return {name: os.environ[name] for name in ("GLIBC_TUNABLES", "GODEBUG") if name in os.environ}
