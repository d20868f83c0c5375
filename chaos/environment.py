"""What every part works with, and what has been begun and has yet to be taken back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from chaos.daemon import Daemon
from chaos.foreign import Foreign
from chaos.host import Failed, NotSo
from chaos.records import Name, Records
from chaos.runtime import Runtime
from chaos.scenario import Scenario
from chaos.writers import Writers

TAKING_BACK: Final = 120.0
"""Seconds for everything to be taken back."""


@dataclass(slots=True)
class Undo:
    """What takes something back, and when."""

    due: float
    what: str
    act: Callable[[], object]


@dataclass(slots=True)
class Environment:
    scenario: Scenario
    daemon: Daemon
    records: Records
    writers: Writers
    runtime: Runtime
    foreign: Foreign
    metadata_loop: str
    stranger_ids: dict[str, set[int]] = field(default_factory=dict)
    """Thin ids that a stranger made in our pools, by pool."""
    thin_ids: dict[Name, set[int]] = field(default_factory=dict)
    """Of each device, all that were ever seen."""
    untouched: dict[str, str] = field(default_factory=dict)
    """The portrait of the foreign devices."""
    using: set[Name] = field(default_factory=set)
    """Whom the adversary wants to be mounted or written to."""
    undos: list[Undo] = field(default_factory=list)
    repairs: int = 0
    """Pools that were repaired by the commands that their status printed."""

    def later(self, seconds: float, what: str, act: Callable[[], object]) -> None:
        self.undos.append(Undo(time.monotonic() + seconds, what, act))

    def is_pending(self, what: str) -> bool:
        return any(undo.what == what for undo in self.undos)

    def undo_due(self) -> None:
        """What is due; what does not work now is tried again a little later."""
        for undo in [undo for undo in self.undos if undo.due <= time.monotonic()]:
            if not self._undo(undo):
                undo.due = time.monotonic() + 2.0

    def undo_all(self, within: float) -> None:
        """The last first. Raises NotSo with what cannot be taken back."""
        end = time.monotonic() + within
        while self.undos:
            for undo in reversed(self.undos):
                self._undo(undo)
            if time.monotonic() > end and self.undos:
                raise NotSo(f"cannot be taken back: {', '.join(undo.what for undo in self.undos)}")
            time.sleep(0.1)

    def _undo(self, undo: Undo) -> bool:
        try:
            undo.act()
        except Failed as failed:
            self.scenario.tell(f"  {undo.what}: not yet, {failed}")
            return False
        self.undos.remove(undo)
        self.scenario.tell(f"  {undo.what}")
        return True
