"""A program at work on a mounted device. It keeps a journal's order: a number in one block, flushed, then in the next.

So at each moment the second is as the first, or one behind it; and no smaller than what was acknowledged before.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from tests.crash.site import Site

FILE = "journal"
BLOCK = 4096
_DIGITS = 8
_PAUSE = 0.002
"""Seconds between two pairs: it shares the processor with who is to be looked at."""


def blocks_of(number: int) -> bytes:
    """Both, as they are at rest. Text, as debugfs prints it."""
    return 2 * _text_of(number).ljust(BLOCK, b".")


def numbers_in(content: bytes) -> tuple[int, int]:
    return int(content[:_DIGITS]), int(content[BLOCK:][:_DIGITS])


def _text_of(number: int) -> bytes:
    return b"%0*d" % (_DIGITS, number)


class Writer:
    """A process of its own, as it waits where the device is suspended."""

    def __init__(self, site: Site, device: str, begin: int, acknowledge: Callable[[int], None]) -> None:
        self._stack = ExitStack()
        place = self._stack.enter_context(site.mounted(device))
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _write(str(place / FILE), begin, acknowledge)
            finally:
                os._exit(1)

    def stop(self) -> None:
        """Raises AssertionError if it had an error before."""
        os.kill(self._pid, signal.SIGTERM)
        _, status = os.waitpid(self._pid, 0)
        self._stack.close()
        assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM, "the program on the device failed"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _write(path: str, number: int, acknowledge: Callable[[int], None]) -> None:
    file = os.open(path, os.O_WRONLY)
    while True:
        number += 1
        for place in (0, BLOCK):
            os.pwrite(file, _text_of(number), place)
            os.fdatasync(file)
        acknowledge(number)
        time.sleep(_PAUSE)
