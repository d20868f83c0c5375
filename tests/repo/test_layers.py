"""The contracts of .importlinter hold, and would say so if they did not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINTER = Path(sys.executable).parent / "lint-imports"
BREACHES = [
    ("model/units.py", "from reconciler.kernel import protocol", "One way through the house"),
    ("planner/plan.py", "import os", "Planner and model do no I/O"),
    ("planner/plan.py", "from reconciler.store import store", "One way through the house"),
    ("sandbox/settings.py", "from reconciler.model import names", "The sandbox imports nothing of the others"),
    ("controller/queue.py", "import ctypes", "Only the kernel layer touches ctypes"),
]


@pytest.mark.parametrize(("file", "line", "contract"), BREACHES)
def test_a_layer_that_is_broken_fails_its_contract(tmp_path: Path, file: str, line: str, contract: str) -> None:
    shutil.copytree(ROOT / "reconciler", tmp_path / "reconciler", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    broken = tmp_path / "reconciler" / file
    broken.write_text(broken.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    done = subprocess.run(
        [LINTER, "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode, done.stdout
    assert any(contract in row and "BROKEN" in row for row in done.stdout.splitlines()), done.stdout
