"""Whether the tests find a mutant: those of its file first, then simulated lives, then all that need no kernel."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.mutants.makers import Mutant

TREE: Final = Path(__file__).resolve().parents[2]
_COPIED: Final = ("reconciler", "tests", "tools", "benchmarks", "demo", "chaos", "docs", "manifests", "share", "deploy")
_FOLDERS: Final = {
    "planner": ("unit/planner",),
    "controller": ("unit/controller",),
    "store": ("unit/store",),
    "model": ("unit/model", "unit/planner"),
    "kernel": ("unit/kernel", "unit/controller"),
}
"""Of tests, by the layer that a file is in."""
_NO_KERNEL: Final = (
    *(
        f"unit/{name}"
        for name in ("model", "planner", "store", "sources", "controller", "daemon", "telemetry", "cli", "kernel")
    ),
    *("unit/doctor", "unit/test_trusted_files.py", "fuzz"),
    *("simulation/test_simulated_host.py", "simulation/test_conformance.py"),
)
"""All that needs neither a kernel nor a browser."""
_SECONDS: Final = 900.0
"""Of a stage: a mutant that takes longer goes round in circles, and is found by that."""


@dataclass(frozen=True, slots=True)
class Verdict:
    mutant: Mutant
    found_by: str
    """Empty: it has survived."""


class Judge:
    """In a copy of the tree, so that nobody's work is changed."""

    def __init__(self, copy: Path, lives: int) -> None:
        self._copy = copy
        self._lives = lives
        for name in _COPIED:
            shutil.copytree(TREE / name, copy / name)
        for file in [*TREE.glob("*.toml"), *TREE.glob("*.md"), TREE / "Makefile", TREE / ".importlinter"]:
            shutil.copy2(file, copy)

    def trouble(self) -> str:
        """What fails in the tree as it is: no mutant could be judged by that."""
        said = self._failing([self._pytest(*_NO_KERNEL), self._simulated()])
        return f"the tree itself fails: {said}" if said else ""

    def judge(self, mutant: Mutant) -> Verdict:
        with self._in_place(mutant):
            for stage, commands in self._stages(mutant.path):
                if self._failing(commands):
                    return Verdict(mutant, stage)
        return Verdict(mutant, "")

    def _stages(self, path: Path) -> Iterator[tuple[str, list[list[str]]]]:
        near = [self._pytest(*each) for each in (self._naming(path), _FOLDERS[path.parts[1]]) if each]
        yield "the tests of its file", near
        yield "lives", [self._simulated()]
        yield "all tests without a kernel", [self._pytest(*_NO_KERNEL)]

    def _naming(self, path: Path) -> list[str]:
        """Tests that import the file."""
        module = ".".join(path.with_suffix("").parts)
        tests = (file for name in _NO_KERNEL for file in self._files(self._copy / "tests" / name))
        return sorted(
            str(file.relative_to(self._copy / "tests")) for file in tests if module in file.read_text(encoding="utf-8")
        )

    def _files(self, where: Path) -> list[Path]:
        return sorted(where.glob("test_*.py")) if where.is_dir() else [where]

    def _pytest(self, *names: str) -> list[str]:
        options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", "--timeout", "120"]
        return [sys.executable, "-m", "pytest", *options, *(f"tests/{name}" for name in names)]

    def _simulated(self) -> list[str]:
        return [sys.executable, "-m", "tests.simulation", "--seeds", str(self._lives), "--jobs", "1", "--most", "1"]

    def _failing(self, commands: list[list[str]]) -> str:
        """The last that was said by the first that fails; empty: all are fine."""
        for command in commands:
            status, said = self._run(command)
            if status != 0:
                return said.strip().rpartition("\n")[2] or f"status {status}"
        return ""

    def _run(self, command: list[str]) -> tuple[int, str]:
        # Compiled files are told from others by the second in which their source was written: none is kept.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(self._copy)}
        with subprocess.Popen(
            command,
            cwd=self._copy,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                _end(process.pid)
                return 1, "it did not end"
            finally:
                _end(process.pid)  # also what a failing test has left behind
        return process.returncode, said

    @contextmanager
    def _in_place(self, mutant: Mutant) -> Iterator[None]:
        file = self._copy / mutant.path
        file.write_text(mutant.after, encoding="utf-8")
        try:
            yield
        finally:
            file.write_text(mutant.before, encoding="utf-8")


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
