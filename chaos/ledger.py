"""What writers were promised, and whether it is there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from chaos.host import node
from chaos.writer import SIZE


def kept(ledger: Path) -> dict[str, str]:
    """Names and digests of what was on the disk for certain, and was not begun to be changed since."""
    found: dict[str, str] = {}
    for line in ledger.read_text(encoding="ascii").splitlines() if ledger.exists() else []:
        what, name, digest = line.split(" ")
        if what == "kept":
            found[name] = digest
        elif what in ("begun", "gone"):
            found.pop(name, None)
    return found


def lost_files(ledger: Path, folder: Path) -> list[str]:
    """Names of what is not as it was promised, with why."""
    lost = []
    for name, digest in kept(ledger).items():
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            lost.append(f"{name}: {error.strerror}")
            continue
        if hashlib.sha256(content).hexdigest() != digest:
            lost.append(f"{name}: other content")
    return lost


def lost_blocks(ledger: Path, name: str) -> list[str]:
    lost = []
    opened = os.open(node(name), os.O_RDONLY)
    try:
        os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
        for block, digest in kept(ledger).items():
            content = os.pread(opened, SIZE, int(block) * SIZE)
            if hashlib.sha256(content).hexdigest() != digest:
                lost.append(f"block {block}: other content")
    finally:
        os.close(opened)
    return lost
