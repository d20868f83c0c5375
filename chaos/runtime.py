"""An environment-in for a container runtime: it has a pool of its own, and makes layers in it with dmsetup, beside everybody.

Its images are thins with content, its containers snapshots of them. It keeps its own books, as such programs do.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chaos.host import Failed, attach, attempt, dmsetup, is_there, node, run, table

POOL: Final = "theirs"
SECTORS: Final = 8 << 11
"""Of each thin: 8 MiB."""
MIB: Final = 2
"""That have content."""
ADOPTED: Final = {"image": 1, "container": 2}
"""Devices that records look after, and their thin ids."""


@dataclass(slots=True)
class Runtime:
    metadata: str
    """The loop that the pool's metadata lies on."""
    line: str
    """The pool's table."""
    ids: dict[int, str] = field(default_factory=dict)
    """Its thins, each with the digest of its content; empty where it does not know that it is all there."""
    next: int = 10

    def make_layer(self) -> None:
        """A new image: made, filled, and put away."""
        number = self._number()
        dmsetup("message", POOL, "0", f"create_thin {number}")
        self.ids[number] = ""
        self.ids[number] = self.fill(number)

    def snapshot(self, device: str) -> None:
        """A new container of a device that is in use: suspended for that moment, as the kernel asks for."""
        number = self._number()
        dmsetup("suspend", device)
        try:
            dmsetup("message", POOL, "0", f"create_snap {number} {ADOPTED[device.removeprefix('theirs-')]}")
            self.ids[number] = ""
        finally:
            dmsetup("resume", device)

    def delete(self, position: int) -> None:
        """One of its layers, whose device is not there."""
        mine = sorted(set(self.ids) - set(ADOPTED.values()))
        if not mine:
            raise Failed("it has no layer to delete")
        number = mine[position % len(mine)]
        dmsetup("message", POOL, "0", f"delete {number}")
        del self.ids[number]

    def portrait(self) -> str:
        """What of its pool's table nobody else may change."""
        return table(POOL)

    def lost(self) -> list[str]:
        """Layers whose content is not what it was."""
        lost = []
        for number, digest in self.ids.items():
            if digest and self._look(number) != digest:
                lost.append(f"thin {number} of {POOL}: other content")
        return lost

    def _number(self) -> int:
        self.next += 1
        return self.next

    def fill(self, number: int) -> str:
        name, content = f"{POOL}-layer{number}", os.urandom(MIB << 20)
        dmsetup("create", name, "--table", f"0 {SECTORS} thin /dev/mapper/{POOL} {number}")
        try:
            _write(name, content)
        finally:
            self._put_away(name)
        return hashlib.sha256(content).hexdigest()

    def _look(self, number: int) -> str:
        name = f"{POOL}-look{number}"
        dmsetup("create", name, "--readonly", "--table", f"0 {SECTORS} thin /dev/mapper/{POOL} {number}")
        try:
            with _device(name).open("rb") as opened:
                return hashlib.sha256(opened.read(MIB << 20)).hexdigest()
        finally:
            self._put_away(name)

    def _put_away(self, name: str) -> None:
        for _ in range(20):  # udev has it open for moments
            said = attempt("dmsetup", "--noudevsync", "remove", "--retry", name)
            if said.code == 0:
                return
        raise Failed(f"{name} is in use: {said.text}")

    def take_down(self) -> None:
        for name in (f"{POOL}-{device}" for device in ADOPTED):
            if is_there(name):
                self._put_away(name)
        self._put_away(POOL)


def _device(name: str) -> Path:
    """Its own number's node: udev may be late, or stopped."""
    number = run("dmsetup", "info", "-c", "--noheadings", "-o", "blkdevname", name)
    return Path("/dev", number)


def _write(name: str, content: bytes) -> None:
    with _device(name).open("r+b", buffering=0) as opened:
        opened.write(content)
        os.fsync(opened.fileno())


def begin(folder: Path) -> Runtime:
    """Its pool, and the two devices that are going to be adopted, filled."""
    loops = []
    for kind, mib in (("meta", 4), ("data", 128)):
        file = folder / f"{POOL}.{kind}"
        run("truncate", "--size", f"{mib}M", file)
        loops.append(attach(file))
    line = f"0 {128 << 11} thin-pool {loops[0]} {loops[1]} 128 0"
    dmsetup("create", POOL, "--uuid", f"RUNTIME-{POOL}", "--table", line)
    dmsetup("message", POOL, "0", "set_transaction_id 0 40")
    runtime = Runtime(loops[0], table(POOL))
    for device, number in ADOPTED.items():
        dmsetup("message", POOL, "0", f"create_thin {number}")
        runtime.ids[number] = runtime.fill(number)
        dmsetup("create", f"{POOL}-{device}", "--table", f"0 {SECTORS} thin {node(POOL)} {number}")
    return runtime
