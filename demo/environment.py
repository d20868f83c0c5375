"""What every scene works with: the daemon, the screen, and one way to break a thing and to see it healed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from demo.daemon import Daemon, until
from demo.kernel import shell
from demo.screen import Outcome, Screen

MOUNTED = Path("/mnt/scratch")
"""Where the demo has tank-scratch mounted, with a file on it."""


@dataclass(slots=True)
class Environment:
    daemon: Daemon
    screen: Screen
    digest: str = ""
    """Of the file on tank-scratch."""
    outcomes: list[Outcome] = field(default_factory=list)

    def run(self, line: str, *, check: bool = True) -> str:
        """Show a command, run it, show what it said."""
        self.screen.command(line)
        said = shell(line, check=check)
        if said:
            self.screen.answer(said)
        return said

    def edit(self, name: str, old: str, new: str) -> Path:
        """Replace a line in the record of that name, as with an editor, and show it as a diff does."""
        file = self.daemon.edit(name, old, new)
        self.screen.diff(f"{file.name}, {name}", (old,), (new,))
        return file

    def add(self, file: Path, document: str) -> None:
        self.daemon.add(file, document)
        self.screen.diff(file.name, (), ("---", *document.splitlines()))

    def see_healed(self, name: str, since: float, holds: Callable[[], bool], outcome: Outcome) -> None:
        """Wait until the daemon says so, and the kernel too. `since`: when it was broken, wall clock."""
        with self.screen.waiting("the daemon looks, and heals"):
            found = until(
                lambda: self.daemon.events(since, name, "Found"), f"the daemon sees what is wrong with {name}"
            )
            outcome.reason = found[0]["reason"]
            self.screen.found(outcome.reason, found[0]["message"])
            until(lambda: self.daemon.status(name).get("ready"), f"the daemon has healed {name}")
            until(holds, f"{outcome.checked}, though the daemon says that {name} is as it should be", within=3)
        outcome.seconds = time.time() - since
        self.screen.healed(outcome.seconds)
        self.screen.checked(outcome.checked)
        outcome.held = True
