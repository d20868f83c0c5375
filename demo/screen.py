"""What is shown. Colours and moving tables on a terminal only, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from demo.daemon import Daemon, Item

WIDTH = 118


@dataclass(slots=True)
class Outcome:
    """One row of the summary."""

    broken: str
    reason: str = ""
    seconds: float | None = None
    checked: str = ""
    held: bool = False


class Screen:
    def __init__(self) -> None:
        terminal = sys.stdout.isatty()
        width = None if terminal else int(os.environ.get("COLUMNS", WIDTH))
        self._console = Console(highlight=False, width=width, soft_wrap=not terminal)
        self._began = time.monotonic()

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Something that turns, on a terminal, while others work."""
        if self._console.is_terminal:
            with self._console.status(text, refresh_per_second=4):
                yield
        else:
            yield

    def say(self, text: str = "") -> None:
        self._console.print(Text(f"  {text}" if text else ""))

    def title(self, text: str) -> None:
        self._console.print(Text(f"\n{text}", style="bold"))

    def command(self, line: str) -> None:
        self._console.print(Text.assemble(("  $ ", "dim"), (line, "cyan")))

    def answer(self, text: str) -> None:
        """What a command printed."""
        for line in text.splitlines():
            self._console.print(Text(f"    {line}", style="dim"))

    def diff(self, where: str, old: Sequence[str], new: Sequence[str]) -> None:
        self.command(f"edit {where}")
        for line in old:
            self._console.print(Text(f"    - {line}", style="red"))
        for line in new:
            self._console.print(Text(f"    + {line}", style="green"))

    def found(self, reason: str, message: str) -> None:
        self._console.print(Text.assemble("  found    ", (reason, "yellow"), f": {message}"))

    def healed(self, seconds: float, what: str = "after it was broken") -> None:
        self._console.print(Text.assemble("  healed   ", (f"{seconds:.1f} s", "bold green"), f" {what}"))

    def checked(self, text: str) -> None:
        self._console.print(Text(f"  checked  {text}"))

    def step(self, text: str) -> None:
        """Something that the daemon did, with the time since the demo's begin."""
        self._console.print(Text.assemble((f"  {time.monotonic() - self._began:5.1f} s  ", "dim"), text))

    def wrong(self, text: str) -> None:
        self._console.print(Text(f"  WRONG    {text}", style="bold red"))

    def log(self, daemon: Daemon) -> None:
        self._console.print(Text("\nthe daemon's log, its last lines:", style="bold"))
        self.answer(daemon.tail())

    def states(self, items: Sequence[Item]) -> None:
        """As `dm-reconciler get` has it."""
        shown = Table(box=box.SIMPLE, pad_edge=False, header_style="bold")
        for heading in ("NAME", "DECLARED", "LIVE", "READY", "REASON", "SIZE"):
            shown.add_column(heading, no_wrap=True, justify="right" if heading == "SIZE" else "left")
        for item in items:
            status, spec = item["status"] or {}, item["spec"] or {}
            ready = bool(status.get("ready"))
            size = status.get("sizeBytes") or status.get("dataSizeBytes") or 0
            shown.add_row(
                item["metadata"]["name"],
                str(spec.get("state", "Active")),
                str(status.get("live", "")),
                Text("yes", "green") if ready else Text("no", "red"),
                str(status.get("reason", "")),
                f"{size >> 20} MiB" if size else "",
            )
        self._console.print(shown)

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        shown = Table(box=box.SIMPLE, pad_edge=False, header_style="bold")
        shown.add_column("WHAT WAS BROKEN", max_width=34)
        shown.add_column("WHAT IT SAID", no_wrap=True)
        shown.add_column("HEALED IN", justify="right", no_wrap=True)
        shown.add_column("HOW IT WAS CHECKED", max_width=38)
        shown.add_column("", no_wrap=True)
        for each in outcomes:
            time_taken = "" if each.seconds is None else f"{each.seconds:.1f} s"
            mark = Text("held", "green") if each.held else Text("NOT HELD", "bold red")
            shown.add_row(each.broken, each.reason.replace(", ", "\n"), time_taken, each.checked, mark)
        self._console.print(shown)

    def end(self, outcomes: Sequence[Outcome], expected: int) -> None:
        held = sum(outcome.held for outcome in outcomes)
        style = "bold green" if held == expected else "bold red"
        took = f"{time.monotonic() - self._began:.0f} s"
        self._console.print(
            Text(f"{held} of {expected} held, in {took}; nobody repaired anything by hand.", style=style)
        )
