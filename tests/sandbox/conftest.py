"""Starting the sandbox in a process of its own, as its users do, and looking for what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 60.0  # seconds: for a machine that is busy with other things

type_of_start = "Callable[..., subprocess.Popen[bytes]]"


class Sandboxes:
    """Starts them, and knows what belongs to those that it started: by a mark in their environment."""

    def __init__(self, scratch: Path) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self._scratch = scratch

    def start(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Standard streams are pipes. The directory for temporary files is the test's, so leftovers can be seen."""
        process = subprocess.Popen(
            [sys.executable, "-m", "reconciler.sandbox", "--timeout", str(PATIENCE), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(self._scratch)} | (environment or {}),
            cwd=Path(__file__).parents[2],
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, given: bytes = b"", environment: dict[str, str] | None = None) -> tuple[int, bytes, bytes]:
        process = self.start(*arguments, environment=environment)
        output, errors = process.communicate(given, timeout=PATIENCE)
        return process.returncode, output, errors


def kernels() -> dict[int, str]:
    """Run directories of the kernels on this machine, by the processes that belong to them, wardens too."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with contextlib.suppress(OSError):
                arguments = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
                found.update({int(path.name): word for word in arguments if word.startswith("uml_dir=")})
    return found


def descendants_of(pid: int) -> set[int]:
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(path.name)] = int((path / "stat").read_bytes().rpartition(b")")[2].split()[1])
    found: set[int] = set()
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found |= level
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)
