"""Devices that look like the reconciler's and are not. Nothing about them may change, not even what is wrong with them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chaos.host import attach, dmsetup, look, node, run

OTHER_STORE: Final = "DMR-0123456789ab-" + "0" * 32
"""The UUID that another host's reconciler may have given."""
SECTORS: Final = 8192
POOL: Final = "alpha2"
SUSPENDED: Final = "beta-old"
WAITING: Final = "gamma-shadow"


@dataclass(frozen=True, slots=True)
class Foreign:
    """All of them, on one loop each kind."""

    loop: str
    names: tuple[str, ...] = (POOL, "alpha2-raw", "alpha-image", "beta-image.private", SUSPENDED, WAITING)


def make(folder: Path) -> Foreign:
    loops = {}
    for name, mib in (("foreign", 16), ("alpha2.meta", 4), ("alpha2.data", 16)):
        file = folder / f"{name}.disk"
        run("truncate", "--size", f"{mib}M", file)
        loops[name] = attach(file)
    run("dd", "if=/dev/urandom", f"of={loops['foreign']}", "bs=1M", "count=16", "oflag=direct")
    dmsetup("create", POOL, "--table", f"0 32768 thin-pool {loops['alpha2.meta']} {loops['alpha2.data']} 128 0")
    dmsetup("message", POOL, "0", "create_thin 0")
    dmsetup("message", POOL, "0", "create_thin 7")
    dmsetup("create", "alpha2-raw", "--uuid", OTHER_STORE, "--table", f"0 {SECTORS} thin /dev/mapper/{POOL} 0")
    for number, (name, uuid) in enumerate(
        (("alpha-image", ""), ("beta-image.private", "CRYPT-foreign"), (SUSPENDED, f"LVM-{SUSPENDED}"), (WAITING, ""))
    ):
        line = f"0 {SECTORS} linear {loops['foreign']} {number * SECTORS}"
        dmsetup("create", name, *(("--uuid", uuid) if uuid else ()), "--table", line)
    run("udevadm", "settle")
    run("dd", "if=/dev/urandom", "of=/dev/mapper/alpha2-raw", "bs=1M", "count=2", "oflag=direct")
    dmsetup("suspend", SUSPENDED)
    dmsetup("load", WAITING, "--table", f"0 {SECTORS} error")
    return Foreign(loops["foreign"])


def portrait(foreign: Foreign) -> dict[str, str]:
    """All that there is to see of them, and their content."""
    there = look()
    seen = {name: str(there.get(name)) for name in foreign.names}
    seen[f"{WAITING}, waiting"] = run("dmsetup", "table", "--inactive", WAITING)
    for name in foreign.names:
        if name not in (POOL, SUSPENDED):
            seen[f"{name}, content"] = _digest(node(name))
    seen[f"{SUSPENDED}, content"] = _digest(Path(foreign.loop))
    status = run("dmsetup", "status", "--noflush", POOL).split()
    seen["status of the pool"] = f"{status[3]} {status[5]}"
    return seen


def _digest(path: Path) -> str:
    """Of what is on the disk, not of what is remembered."""
    with path.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]
