"""The README's way onto a real host, taken in the sandbox: its very lines, one after the other."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
BINARIES = Path(sys.executable).parent
NOT_HERE = ("apt-get", "PIPX_")
"""What cannot be done in the sandbox, where the tree is installed already and the host is read-only."""
UNTIL_READY = "timeout 60 dm-reconciler wait device tank/app --timeout 50s"


def steps() -> list[str]:
    """Every line of code of the README's part about a real host."""
    text = (TREE / "README.md").read_text(encoding="utf-8")
    part = text.partition("## On a real host")[2].partition("\n## ")[0]
    blocks = re.findall(r"^   ```sh\n(.*?)^   ```$", part, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()]


def script() -> str:
    """The daemon in the background, what follows for a moment, and all else as it stands there."""
    lines = ["set -eux", f"cd {TREE}"]
    for step in steps():
        line = step.replace("/etc/dm-reconciler", "/srv/manifests")
        if line.startswith(NOT_HERE):
            continue
        if line.startswith("dm-reconciler plan"):
            line += " || test $? = 4"  # changes pending: nothing is there yet
        elif line.startswith("dm-reconciler doctor"):
            line += " || test $? = 4"  # what it finds missing is the sandbox's
        elif line.startswith("dm-reconciler run"):
            line += f" & {UNTIL_READY}"
        elif "--follow" in line:
            line = f"timeout 5 {line} || test $? = 124"
        lines.append(line)
    return "\n".join([*lines, "dmsetup table tank-app", "kill %1", "wait %1"])


@pytest.mark.skipif(not shutil.which("linux.uml"), reason="NOT TESTED: linux.uml is missing, see `make setup`")
@pytest.mark.timeout(420)
def test_the_steps_of_the_readme_work() -> None:
    assert len(steps()) > len(NOT_HERE)
    done = subprocess.run(
        [sys.executable, "-m", "reconciler.sandbox", "--timeout", "400", "--", "bash", "-c", script()],
        cwd=TREE,
        env={"PATH": f"{BINARIES}:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^0 524288 thin ", done.stdout, re.MULTILINE)
