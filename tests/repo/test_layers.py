"""The contracts of .importlinter hold, and would say so if they did not; and no two modules import each other."""

from __future__ import annotations

import ast
import graphlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINTER = Path(sys.executable).parent / "lint-imports"
BREACHES = [
    ("model/units.py", "from reconciler.kernel import protocol", "One way through the layers"),
    ("planner/plan.py", "import os", "Planner and model do no I/O"),
    ("planner/plan.py", "from reconciler.store import store", "One way through the layers"),
    ("sandbox/settings.py", "from reconciler.model import names", "The sandbox imports nothing of the others"),
    ("controller/queue.py", "import ctypes", "Only the kernel layer touches ctypes"),
]


@pytest.mark.security("S33")
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


def imports_of(module: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules that it imports, also for types only, and also within functions."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{module} imports by a relative name"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names
            if not names <= modules.keys():  # else they are modules of a package, and nothing of its __init__
                found.add(node.module)
    return found & modules.keys() - {module}


def modules_of(root: Path) -> dict[str, Path]:
    paths = (root / "reconciler").rglob("*.py")
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def cycle_of(root: Path) -> list[str]:
    """Modules each of which imports the one before it, and the first the last; empty if there are none such."""
    modules = modules_of(root)
    imports = {module: imports_of(module, path, modules) for module, path in modules.items()}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert cycle_of(ROOT) == []


@pytest.mark.parametrize(
    "line",
    [
        "from reconciler.kernel.simulated.host import SimulatedHost",
        "from reconciler.kernel.simulated import host",
        "import reconciler.kernel.simulated.host",
        "if TYPE_CHECKING:\n    from reconciler.kernel.simulated.host import SimulatedHost",
        "def late() -> None:\n    from reconciler.kernel.simulated.host import SimulatedHost",
    ],
)
def test_a_circle_is_found(tmp_path: Path, line: str) -> None:
    """The simulated host has its devices, which know nothing of it."""
    shutil.copytree(ROOT / "reconciler", tmp_path / "reconciler", ignore=shutil.ignore_patterns("__pycache__"))
    lower = tmp_path / "reconciler/kernel/simulated/devices.py"
    lower.write_text(lower.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    assert {"reconciler.kernel.simulated.host", "reconciler.kernel.simulated.devices"} <= set(cycle_of(tmp_path))
