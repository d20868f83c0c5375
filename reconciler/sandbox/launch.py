"""Starts the kernel under its warden, with the pipes that lead to it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.sandbox import warden
from reconciler.sandbox.kernel import Wires, command_line, find_kernel, memory_directory
from reconciler.sandbox.xstate import XstateWorkaround, xstate_workaround

if TYPE_CHECKING:
    from reconciler.sandbox.settings import Settings


@dataclass(slots=True)
class Kernel:
    """The pipes of a running kernel, and the warden that ends it."""

    to_inside: int
    from_inside: int
    console: int
    warden: subprocess.Popen[bytes]
    warden_fd: int  # can be read once the warden has ended
    run: Path
    environment: dict[str, str]  # what everything inside needs

    def kill(self) -> None:
        """At once, as a power cut. When this returns, none of its processes and files are left."""
        if self.warden.stdin and not self.warden.stdin.closed:
            self.warden.stdin.close()
        if self.warden.wait() != 0:  # it was killed, and could not do its work
            warden.kill_session(self.warden.pid)
            shutil.rmtree(self.run, ignore_errors=True)
        for fd in (self.to_inside, self.from_inside, self.console, self.warden_fd):
            os.close(fd)


def launch(settings: Settings) -> Kernel:
    """Raises SandboxError. The kernel boots when this returns."""
    program = find_kernel()
    run = Path(tempfile.mkdtemp(prefix="dm-reconciler-sandbox-", dir=memory_directory(settings.memory)))
    opened: list[int] = []
    try:
        for _ in range(3):
            opened.extend(os.pipe())
        inside_reads, to_inside, from_inside, inside_writes, console, console_writes = opened
        wires = Wires(inside_reads, inside_writes, console_writes)
        help_needed = xstate_workaround(run)
        process = _start(_specification(program, run, settings, wires, help_needed), wires)
    except BaseException:
        for fd in opened:
            os.close(fd)
        shutil.rmtree(run, ignore_errors=True)
        raise
    for fd in wires:
        os.close(fd)
    os.set_blocking(console, False)
    warden_fd = os.pidfd_open(process.pid)
    return Kernel(to_inside, from_inside, console, process, warden_fd, run, help_needed.environment)


def _specification(
    program: str, run: Path, settings: Settings, wires: Wires, workaround: XstateWorkaround
) -> warden.Specification:
    for number, disk in enumerate(settings.disks):
        (run / f"disk{number}").symlink_to(disk)
    environment = {"TMPDIR": str(run), "HOME": str(run), "PATH": os.environ.get("PATH", os.defpath)}
    if workaround.preload:
        environment["LD_PRELOAD"] = workaround.preload
    return {
        "arguments": command_line(program, run, settings.memory, len(settings.disks), wires, workaround.environment),
        "environment": environment,
        "run": str(run),
        "descriptors": list(wires),
        "console": wires.console,
        "seccomp": workaround.seccomp,
        # The kernel has one processor. Each system call inside is a switch between two processes of the host, which
        # takes twice as long where they run on different ones.
        "cpu": random.choice(sorted(os.sched_getaffinity(0))),  # noqa: S311 - not a secret
    }


def _start(specification: warden.Specification, wires: Wires) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-IS", warden.__file__, json.dumps(specification)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=wires.console,
        pass_fds=wires,
        start_new_session=True,
    )
