"""What happened, in order and with times; told whole when something is wrong."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

LAST: Final = 400
"""Lines of it that are shown."""


class Scenario:
    def __init__(self, *, aloud: bool) -> None:
        self._began = time.monotonic()
        self._aloud = aloud
        self._lines: list[str] = []
        self.done: Counter[str] = Counter()
        """Kinds of what was done to it."""
        self.refused: Counter[str] = Counter()
        """The same, where the host did not let it be done: the device was not there, or in use."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def tell(self, text: str) -> None:
        line = f"{self.seconds:7.1f} s  {text}"
        self._lines.append(line)
        if self._aloud:
            print(line, flush=True)

    def title(self, text: str) -> None:
        """What is shown in any case."""
        line = f"{self.seconds:7.1f} s  == {text}"
        self._lines.append(line)
        print(line, flush=True)

    def text(self) -> str:
        return "\n".join(self._lines[-LAST:])
