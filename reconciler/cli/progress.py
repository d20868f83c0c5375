"""Saying how long work goes on: a line that changes on a terminal, elsewhere one line for each change."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from reconciler.cli.console import clean, console, note

if TYPE_CHECKING:
    from rich.status import Status


class Progress:
    """On stderr, so that results stay apart from it. Vanishes from a terminal when it ends."""

    def __init__(self, *, terminal_only: bool = False) -> None:
        """`terminal_only`: for what mostly is too quick to be worth a line in somebody's log."""
        self._animated = _is_terminal()
        self._silent = terminal_only and not self._animated
        self._said = ""
        self._spinner: Status | None = None

    def say(self, line: str, passing: str = "") -> None:
        """What is being done now. A repeat says nothing. `passing` is added on a terminal: what changes all the time."""
        line = clean(line)
        if self._animated:
            self._spin(line + clean(passing))
        elif line != self._said and not self._silent:
            note(line)
        self._said = line

    def pause(self) -> None:
        """Until the next `say`: before anything else is printed, which would go where the line is."""
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    def _spin(self, line: str) -> None:
        from rich.text import Text  # noqa: PLC0415  # only where it is shown

        if self._spinner is None:
            self._spinner = console(stderr=True).status(Text(line))
            self._spinner.start()
            return
        self._spinner.update(Text(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False  # there is no standard error, or it is closed
