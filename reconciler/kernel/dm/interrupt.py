"""A call of the kernel that waits for ever, ended by a signal where it listens to any.

A flushing suspension sleeps so that a signal ends it, undone, with EINTR (dm.c, `dm_wait_for_completion`). The part that
freezes a mounted filesystem does not.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_AGAIN: Final = 1.0
"""Seconds between two signals: the first may come just before the call."""


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Signals reach the main thread only, which is where a worker makes its calls: in any other this does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGALRM, _wake)
    before = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, handler)


def _wake(_number: int, _frame: FrameType | None) -> None:
    """That it came is all: a call that is interrupted ends with EINTR."""
