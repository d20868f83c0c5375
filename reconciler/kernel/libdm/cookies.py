"""Waiting for udev: a semaphore (the "cookie") goes with an event, and udev's rules release it when they are done."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_int, c_uint32
from typing import Final

from reconciler.kernel.libdm.loader import Library
from reconciler.kernel.libdm.signatures import UdevFlag
from reconciler.kernel.libdm.task import Task

UDEV_CONTROL: Final = "/run/udev/control"
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05
_HIDDEN: Final = UdevFlag.DISABLE_SUBSYSTEM_RULES | UdevFlag.DISABLE_DISK_RULES | UdevFlag.DISABLE_OTHER_RULES
_LOG: Final = logging.getLogger(__name__)


class Cookies:
    """One cookie for each task that sends an event (RESUME, REMOVE, RENAME).

    Without a running udev there are no cookies, and the library makes the nodes itself. Whether udev runs is looked at
    each time, by its control socket, as libudev does; the socket outlives a udevd that was stopped (observed on
    udev 252), and then each call waits out its deadline. The library asks only once whether udev runs: a process whose
    first change came before udev goes on without cookies.
    """

    def __init__(
        self,
        library: Library,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        deadline: float,
        udev_control: str = UDEV_CONTROL,
    ) -> None:
        """`deadline` in seconds, of each wait."""
        self._functions = library.functions
        self._clock = clock
        self._sleep = sleep
        self._deadline = deadline
        self._udev_control = udev_control

    @contextmanager
    def around(self, task: Task, *, hidden: bool = False) -> Iterator[None]:
        """Run the task inside. Leaves when udev is done with its event, or was given up; never leaves a semaphore.

        A deadline missed is no failure: the kernel did what was asked, and only nodes or links may be missing, which
        the next look finds. It is logged as a warning.
        """
        if not self._synchronised():
            yield
            self._functions.dm_task_update_nodes()
            return
        cookie = c_uint32(0)
        flags = UdevFlag.DISABLE_LIBRARY_FALLBACK | (_HIDDEN if hidden else 0)
        task.set(self._functions.dm_task_set_cookie(task.handle, byref(cookie), flags))
        try:
            yield
            self._wait(task, cookie.value)
        except BaseException:  # a failed task has released its share; an interrupted wait has not
            self._give_up(cookie.value)
            raise

    def _synchronised(self) -> bool:
        if not os.path.exists(self._udev_control):  # noqa: PTH110  # a Path for each call costs more than the call
            # told each time, as the library would else switch off udev's rules for a task that has no cookie
            self._functions.dm_udev_set_sync_support(0)
            return False
        self._functions.dm_udev_set_sync_support(1)
        return bool(self._functions.dm_udev_get_sync_support())

    def _wait(self, task: Task, cookie: int) -> None:
        """The semaphore cannot be polled, and dm_udev_wait has no deadline: so look, with growing pauses."""
        until = self._clock() + self._deadline
        pause = _FIRST_PAUSE
        while not self._done(cookie):
            if self._clock() >= until:
                _LOG.warning(
                    "udev did not finish with %s of %s in %g s: going on without it",
                    task.operation,
                    task.subject,
                    self._deadline,
                )
                self._give_up(cookie)
                return
            self._sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _done(self, cookie: int) -> bool:
        """Also removes the semaphore, and also true where it is gone (`dmsetup udevcomplete_all`)."""
        ready = c_int(0)
        self._functions.dm_udev_wait_immediate(cookie, byref(ready))
        return bool(ready.value)

    def _give_up(self, cookie: int) -> None:
        """Take udev's part, so that the semaphore goes. What udev completes later finds none, and only logs that."""
        if not self._done(cookie):
            self._functions.dm_udev_complete(cookie)
            self._done(cookie)
