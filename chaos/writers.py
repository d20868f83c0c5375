"""The users of devices: filesystems that are mounted and written to, and devices that are written to directly."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chaos import ledger
from chaos.host import Failed, attempt, is_really, node, run
from chaos.records import Name

ENDING: Final = 10.0
"""Seconds for a writer to notice that it was killed: it may wait for the disk."""


@dataclass(slots=True)
class Writers:
    folder: Path
    """Of ledgers."""
    mounts: Path
    files: tuple[Name, ...]
    """Devices with a filesystem that is mounted and written to."""
    blocks: tuple[Name, ...]
    """Devices that are written to as they are."""
    _processes: dict[Name, subprocess.Popen[bytes]] = field(default_factory=dict)

    def ledger(self, name: Name) -> Path:
        return self.folder / f"{name.dm}.ledger"

    def point(self, name: Name) -> Path:
        return self.mounts / name.dm

    def is_mounted(self, name: Name) -> bool:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
        return any(line.split(" ")[1] == str(self.point(name)) for line in mounts.splitlines())

    def mount(self, name: Name, *options: str) -> None:
        if self.is_mounted(name):
            return
        if not node(name.dm).exists() or not is_really(name.dm, node(name.dm).stat().st_rdev):
            raise Failed(f"{name.dm} is not there to be mounted")
        self.point(name).mkdir(parents=True, exist_ok=True)
        run("mount", *options, node(name.dm), self.point(name))

    def start(self, name: Name) -> None:
        """Let it be written to, mounted first where it has a filesystem."""
        if name in self._processes:
            return
        what, where = ("blocks", name.dm)
        if name in self.files:
            self.mount(name)
            what, where = ("files", str(self.point(name)))
        words = [sys.executable, "-m", "chaos.writer", what, where, str(self.ledger(name))]
        self._processes[name] = subprocess.Popen(words, stdin=subprocess.DEVNULL)

    def stop(self, name: Name) -> None:
        """Raises Failed while the writer waits for the disk, or the filesystem is in use."""
        process = self._processes.get(name)
        if process is not None:
            process.kill()
            try:
                process.wait(ENDING)
            except subprocess.TimeoutExpired:
                raise Failed(f"the writer on {name.dm} waits for the disk") from None
            del self._processes[name]
        self.unmount(name)

    def kill(self) -> None:
        """All of them, without waiting for who waits for the disk."""
        for process in self._processes.values():
            process.kill()

    def unmount(self, name: Name) -> None:
        if name in self.files and self.is_mounted(name):
            run("umount", self.point(name))

    def all(self) -> tuple[Name, ...]:
        return (*self.files, *self.blocks)

    def promised(self) -> int:
        """Files and blocks that must be there."""
        return sum(len(ledger.kept(self.ledger(name))) for name in self.all())

    def check(self, name: Name) -> list[str]:
        """What is lost on that device, which is live and not in use."""
        if name in self.blocks:
            return ledger.lost_blocks(self.ledger(name), name.dm)
        self._mount_again(name)
        try:
            return ledger.lost_files(self.ledger(name), self.point(name))
        finally:
            self.unmount(name)

    def _mount_again(self, name: Name) -> None:
        """A filesystem that saw errors wants to be looked at by an operator first."""
        said = attempt("mount", node(name.dm), self.point(name))
        if said.code:
            raise Failed(f"{name.dm} does not mount any more: {said.text}")
