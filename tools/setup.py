"""`make setup`: system packages that are missing, and .venv with the project and its tools in it.

Runs with the host's own Python and its standard library. Takes a fraction of a second when there is nothing to do.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tools.packages import VENV, install, missing, say

TREE: Final = Path(__file__).resolve().parent.parent
ENVIRONMENT: Final = TREE / ".venv"
PYTHON: Final = ENVIRONMENT / "bin" / "python"
STAMP: Final = ENVIRONMENT / "setup-stamp"
PACKAGES: Final = ("reconciler", "demo", "chaos", "tests", "benchmarks", "tools")
LEAST: Final = (3, 11)


def main() -> int:
    if sys.version_info < LEAST:
        say(
            f"this is Python {sys.version.split()[0]}: give one that is 3.11 or later, as in `make PYTHON=python3.11 setup`"
        )
        return 1
    absent = missing()
    if absent and not install(absent):
        if VENV in absent and not STAMP.exists():
            return 1
        say("going on without them; what needs them will say so")
    if not _is_current() and not _make():
        return 1
    _compile()
    return 0


def _stamp() -> str:
    """What .venv was made from. The tree's path too: it is written into .venv, and a tree may be copied."""
    parts = ((TREE / "pyproject.toml").read_text(encoding="utf-8"), str(TREE), str(PYTHON.resolve()))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _is_current() -> bool:
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text(encoding="ascii") == _stamp()


def _make() -> bool:
    if not _works():
        say(f"making {ENVIRONMENT.name} with Python {sys.version.split()[0]}")
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    say("installing dm-reconciler and the tools for its tests into it")
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", ".[dev]"]
    if subprocess.run(pip, cwd=TREE, check=False).returncode:
        say("pip did not work: see above; it needs a package index (https://pypi.org, or what pip is configured for)")
        return False
    STAMP.write_text(_stamp(), encoding="ascii")
    return True


def _works() -> bool:
    """Whether there is one that pip can be run in."""
    if not PYTHON.exists():
        return False
    return subprocess.run([PYTHON, "-m", "pip", "--version"], check=False, capture_output=True).returncode == 0


def _compile() -> None:
    """The sandbox sees the tree read-only: what is not compiled here is compiled there, at each start anew."""
    folders = [folder for folder in PACKAGES if (TREE / folder).is_dir()]
    subprocess.run([PYTHON, "-m", "compileall", "-qq", *folders], cwd=TREE, check=False)


if __name__ == "__main__":
    sys.exit(main())
