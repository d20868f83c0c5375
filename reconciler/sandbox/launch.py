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

from reconciler.sandbox import warden, xstate
from reconciler.sandbox.kernel import command_line, find_kernel, memory_directory

if TYPE_CHECKING:
    from reconciler.sandbox.settings import Settings


@dataclass(slots=True)
class Kernel:
    """The pipes of a running kernel, and the warden that ends it."""

    to_inside: int
    from_inside: int
    console: int
    warden: subprocess.Popen[bytes]
    run: Path
    environment: dict[str, str]  # what everything inside needs

    def kill(self) -> None:
        """At once, as a power cut. When this returns, none of its processes and files are left."""
        if self.warden.stdin and not self.warden.stdin.closed:
            self.warden.stdin.close()
        self.warden.wait()
        for fd in (self.to_inside, self.from_inside, self.console):
            os.close(fd)
        shutil.rmtree(self.run, ignore_errors=True)  # if the warden was killed


def launch(settings: Settings) -> Kernel:
    """Raises SandboxError. The kernel boots when this returns."""
    program = find_kernel()
    run = Path(tempfile.mkdtemp(prefix="dm-reconciler-sandbox-", dir=memory_directory(settings.memory)))
    opened: list[int] = []
    try:
        workaround = xstate.workaround(run)
        for number, disk in enumerate(settings.disks):
            (run / f"disk{number}").symlink_to(disk)
        for _ in range(3):
            opened.extend(os.pipe())
        inside_reads, to_inside, from_inside, inside_writes, console, console_writes = opened
        line = (inside_reads, inside_writes)
        specification: warden.Specification = {
            "arguments": command_line(
                program, run, settings.memory, len(settings.disks), line, console_writes, workaround.environment
            ),
            "environment": _environment(run, workaround.preload),
            "run": str(run),
            "descriptors": list(line),
            "console": console_writes,
            "seccomp": workaround.seccomp,
            # The kernel has one processor. Each system call inside is a switch between two processes of the host,
            # which takes twice as long where they run on different ones.
            "cpu": random.choice(sorted(os.sched_getaffinity(0))),  # noqa: S311 - not a secret
        }
        process = subprocess.Popen(
            [sys.executable, "-IS", warden.__file__, json.dumps(specification)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=console_writes,
            pass_fds=(*line, console_writes),
            start_new_session=True,
        )
    except BaseException:
        for fd in opened:
            os.close(fd)
        shutil.rmtree(run, ignore_errors=True)
        raise
    for fd in (*line, console_writes):
        os.close(fd)
    return Kernel(to_inside, from_inside, console, process, run, workaround.environment)


def _environment(run: Path, preload: str) -> dict[str, str]:
    environment = {"TMPDIR": str(run), "HOME": str(run), "PATH": os.environ.get("PATH", os.defpath)}
    if preload:
        environment["LD_PRELOAD"] = preload
    return environment
