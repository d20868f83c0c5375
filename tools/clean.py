"""`make clean`: .venv and everything that was generated, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

TREE: Final = Path(__file__).resolve().parent.parent
GENERATED: Final = (
    ".hypothesis",
    ".import_linter_cache",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "build",
    "dist",
)


def main() -> None:
    for name in GENERATED:
        shutil.rmtree(TREE / name, ignore_errors=True)
    for folder in list(TREE.rglob("__pycache__")):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
