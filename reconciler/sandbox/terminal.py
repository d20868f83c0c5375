"""The caller's terminal, where its streams are one."""

from __future__ import annotations

import os
import termios
import tty
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import Any, Self

_STREAMS: Final = (0, 1, 2)
_DEFAULT_SIZE: Final = (24, 80)


def terminals() -> list[int]:
    """Which of the standard streams are a terminal. A terminal's input belongs to its foreground job alone."""
    found = [stream for stream in _STREAMS if os.isatty(stream)]
    if 0 in found and not _in_foreground():
        found.remove(0)
    return found


def window(streams: list[int]) -> tuple[int, int]:
    """Rows and columns."""
    for stream in streams:
        try:
            size = os.get_terminal_size(stream)
        except OSError:
            continue
        if size.lines and size.columns:
            return size.lines, size.columns
    return _DEFAULT_SIZE


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # a terminal, but not this session's: nobody else's either
        return True


class Raw:
    """Keys go to the terminal inside as they are, Ctrl-C too: its own line discipline makes signals of them."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        self._before = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSADRAIN)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)


class Escape:
    """Ctrl-] three times within a second: the way out when nothing inside answers."""

    _KEY: Final = 0x1D

    def __init__(self) -> None:
        self._times: list[float] = []

    def seen(self, data: bytes, now: float) -> bool:
        for byte in data:
            self._times = [*self._times[-2:], now] if byte == self._KEY else []
        return len(self._times) == 3 and now - self._times[0] <= 1
