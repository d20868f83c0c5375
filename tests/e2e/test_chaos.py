"""All that can break is broken, several things at a time, by an adversary that a seed drives; and all of it heals.

`make soak` does the same for longer, and with another seed each time.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.host import is_thrown_away
from chaos.ledger import lost_files
from chaos.records import Name, Records

TREE = Path(__file__).parents[2]
SEED = 2541
"""One whose first deeds have most of what is worst in them."""
MINUTES = 0.5
INSIDE = is_thrown_away()


@pytest.mark.skipif(not INSIDE, reason="it stops udev and fills disks: only in a kernel that is thrown away")
@pytest.mark.timeout(600)
def test_nothing_that_the_world_does_breaks_it(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "chaos", "--minutes", str(MINUTES), "--seed", str(SEED)]
    told = tmp_path / "told"  # what hangs may hold a pipe open
    with told.open("wb") as output:
        code = subprocess.run(words, check=False, stdout=output, stderr=output, cwd=TREE).returncode
    text = told.read_text(encoding="utf-8", errors="replace")
    assert code == 0, text
    assert "all is taken down; thin_check finds nothing" in text


def test_a_file_that_was_flushed_and_is_lost_is_noticed(tmp_path: Path) -> None:
    folder, ledger = tmp_path / "on", tmp_path / "ledger"
    folder.mkdir()
    lines = []
    for name in ("whole", "changed", "missing", "deleted", "unfinished"):
        content = name.encode()
        digest = hashlib.sha256(content).hexdigest()
        lines += [f"begun {name} {digest}", *([f"kept {name} {digest}"] if name != "unfinished" else [])]
        if name in ("whole", "changed"):
            (folder / name).write_bytes(content)
    ledger.write_text("\n".join([*lines, "gone deleted -", ""]), encoding="ascii")
    (folder / "changed").write_bytes(b"other")
    assert lost_files(ledger, folder) == ["changed: other content", "missing: No such file or directory"]


def test_what_somebody_did_to_the_manifests_is_undone_to_the_letter(tmp_path: Path) -> None:
    pool, device = Name("tank"), Name("tank", "a")
    records = Records(tmp_path, {pool: {"external": False}, device: {"size": "8MiB"}})
    records.write()
    before = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()}
    records.vanished.add(device)
    records.spoiled[pool.file] = "{"
    records.write()
    assert {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()} == {"tank.yaml": "{"}
    records.vanished.clear()
    records.spoiled.clear()
    records.write()
    assert {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()} == before
