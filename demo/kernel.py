"""The kernel as anybody sees it: with dmsetup and losetup, beside the daemon and without asking it."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from pathlib import Path

from demo.daemon import NotSo


def shell(line: str, *, check: bool = True) -> str:
    """Run one command, without a shell, and give what it printed; raises NotSo if it fails."""
    done = subprocess.run(
        shlex.split(line), check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
    )
    if check and done.returncode:
        raise NotSo(f"`{line}` ended with {done.returncode}: {done.stdout.strip()}")
    return done.stdout.strip()


def table(name: str) -> str:
    """Of a live device; empty where there is none."""
    said = shell(f"dmsetup table {name}", check=False)
    return said if said[:1].isdigit() else ""


def is_live(name: str, target: str) -> bool:
    """Whether the device is there, not suspended, and of that target."""
    shown = shell(f"dmsetup info -c --noheadings --separator / -o suspended,tables_loaded {name}", check=False)
    return shown == "Active/Live" and f" {target} " in f"{table(name)} "


def devices() -> list[str]:
    """All of device-mapper's, thin devices before pools: the order in which they can be removed."""
    lines = [line.split() for line in shell("dmsetup table").splitlines()]
    tables = {words[0].rstrip(":"): words[3] for words in lines if len(words) > 3}
    return sorted(tables, key=lambda name: (tables[name] == "thin-pool", name))


def loops() -> list[str]:
    return shell("losetup --list --noheadings --output NAME").split()


def has_thin_id(pool: str, number: int) -> bool:
    """Whether the pool knows it: a device on an id that is not there cannot be made."""
    name = f"{pool}-probe"
    said = shell(f"dmsetup create {name} --readonly --table '0 8 thin /dev/mapper/{pool} {number}'", check=False)
    if not said:
        shell(f"dmsetup remove --retry {name}")
        return True
    if "No data available" in said:
        return False
    raise NotSo(f"thin id {number} of {pool} cannot be probed: {said}")


def digest(file: Path) -> str:
    """Of a file's content as it is on the disk, not as it is remembered."""
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]


def write_letters(folder: Path, mebibytes: int) -> str:
    """A file with random content, synced; its digest."""
    file = folder / "letters"
    with file.open("wb") as opened:
        for _ in range(mebibytes):
            opened.write(os.urandom(1 << 20))
        os.fsync(opened.fileno())
    return digest(file)
