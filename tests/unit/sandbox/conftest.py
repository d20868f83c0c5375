"""Starting the sandbox in a process of its own, as its users do, and looking for what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATIENCE = 60.0  # seconds: for a machine that is busy with other things


class Sandboxes:
    """Starts them, and knows which processes and files belong to one."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """With pipes as standard streams."""
        process = subprocess.Popen(
            [sys.executable, "-m", "reconciler.sandbox", "--timeout", f"{_PATIENCE:g}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | (environment or {}),
            cwd=Path(__file__).parents[3],
        )
        self.started.append(process)
        return process

    def run(
        self, *arguments: str, given: bytes = b"", environment: dict[str, str] | None = None
    ) -> tuple[int, bytes, bytes]:
        """Exit status, standard output, standard error."""
        process = self.start(*arguments, environment=environment)
        output, errors = process.communicate(given, timeout=2 * _PATIENCE)
        return process.returncode, output, errors

    def traces(self, process: subprocess.Popen[bytes]) -> set[Path]:
        """Everything that must be gone later: directories in /proc of the processes, and the run directory."""
        parents = {}
        for path in Path("/proc").iterdir():
            if path.name.isdecimal():
                with contextlib.suppress(OSError):
                    parents[path] = (path / "stat").read_text().rpartition(")")[2].split()[1]
        found: set[Path] = set()
        level = {str(process.pid)}
        while level:
            children = {path for path, parent in parents.items() if parent in level}
            found |= children
            level = {path.name for path in children}
        for path in list(found):
            with contextlib.suppress(OSError):
                words = (path / "cmdline").read_text(errors="replace").split("\0")
                found |= {Path(word.removeprefix("uml_dir=")) for word in words if word.startswith("uml_dir=")}
        assert len(found) >= 4, f"no warden, kernel, command and run directory in {found}"
        return found

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.005)


@pytest.fixture
def sandboxes() -> Iterator[Sandboxes]:
    if not shutil.which("linux.uml"):
        pytest.skip("NOT TESTED: linux.uml is missing; apt-get install user-mode-linux udev dmsetup")
    made = Sandboxes()
    # Started in the background of a script, the tests inherit that SIGINT is ignored, and would pass that on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield made
    signal.signal(signal.SIGINT, before)
    for process in made.started:
        process.terminate()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
