"""Saying how long work goes on: a line that changes on a terminal, elsewhere one line for each change."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from reconciler.cli.output import clean, console, note

if TYPE_CHECKING:
    from rich.status import Status


class Progress:
    """On stderr, so that results stay apart from it. Vanishes from a terminal when it ends."""

    def __init__(self) -> None:
        self._said = ""
        self._spinner: Status | None = None

    def say(self, line: str) -> None:
        """What is being done now. A repeat says nothing."""
        line = clean(line)
        if line == self._said:
            return
        self._said = line
        if self._spinner is None:
            note(line)
            return
        from rich.text import Text  # noqa: PLC0415  # only where it is shown

        self._spinner.update(Text(line))

    def __enter__(self) -> Self:
        if sys.stderr is not None and sys.stderr.isatty():
            self._spinner = console(stderr=True).status("")
            self._spinner.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._spinner is not None:
            self._spinner.stop()
