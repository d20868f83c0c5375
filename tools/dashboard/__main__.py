"""`make dashboards`: write the dashboard into the tree. With `--check`: only say whether it is what would be written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.dashboard.dashboard import text

TREE: Final = Path(__file__).resolve().parents[2]
FILE: Final = TREE / "grafana" / "dashboards" / "dm-reconciler.json"


def main(arguments: Sequence[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: python -m tools.dashboard [--check]", file=sys.stderr)
        return 2
    name, made = FILE.relative_to(TREE), text()
    there = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    if there == made:
        print(f"{name} is what tools/dashboard makes")
        return 0
    if arguments:
        print(f"{name} is not what tools/dashboard makes: type `make dashboards`", file=sys.stderr)
        return 1
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(made, encoding="utf-8")
    print(f"{name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
