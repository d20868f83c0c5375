"""Waiting for udev: a semaphore (the "cookie") goes with an event, and udev's rules release it when they are done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_int, c_uint32
from typing import Final

from reconciler.kernel.dm.library import UdevFlag
from reconciler.kernel.dm.loader import Library
from reconciler.kernel.dm.task import Task
from reconciler.kernel.udevd import UDEV_CONTROL, udevd_answers, udevd_listens, why_udevd_is_silent

_ASKED_EVERY: Final = 5.0
"""Seconds of a wait after which udev is asked whether it is there at all, and between two such questions."""
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05
_HIDDEN: Final = UdevFlag.DISABLE_SUBSYSTEM_RULES | UdevFlag.DISABLE_DISK_RULES | UdevFlag.DISABLE_OTHER_RULES
_LOG: Final = logging.getLogger(__name__)


class Cookies:
    """One cookie for each task that sends an event (RESUME, REMOVE, RENAME).

    Without a running udev there are no cookies, and the library makes the nodes itself. Whether udev runs is asked of its
    control socket each time, as its file outlives a udevd that was killed (observed on udev 252). One that does not
    answer is waited for once; until it answers again, all goes on as if there was none. So it does where the host has
    no semaphore left. The library asks only once whether udev runs: a process whose first change came before udev goes
    on without cookies.
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
        self._library = library
        self._functions = library.functions
        self._clock = clock
        self._sleep = sleep
        self._deadline = deadline
        self._udev_control = udev_control
        self._deaf = False
        """udev left a cookie alone, and has not answered since."""
        self._ask_again = 0.0

    @contextmanager
    def around(self, task: Task, *, hidden: bool = False) -> Iterator[None]:
        """Run the task inside. Leaves when udev is done with its event, or was given up; never leaves a semaphore.

        A deadline missed is no failure: the kernel did what was asked, and only nodes or links may be missing, which
        the next look finds. It is logged as a warning.
        """
        cookie = c_uint32(0)
        if not (self._synchronised() and self._take(task, cookie, hidden=hidden)):
            self._functions.dm_udev_set_sync_support(0)
            if hidden:  # what the rules are told needs no semaphore
                task.set(self._functions.dm_task_set_cookie(task.handle, byref(cookie), _HIDDEN))
            yield
            self._functions.dm_task_update_nodes()
            return
        try:
            yield
            self._wait(task, cookie.value)
        except BaseException:  # a failed task has released its share; an interrupted wait has not
            self._give_up(cookie.value)
            raise

    def _synchronised(self) -> bool:
        """Told each time, as the library would else switch off udev's rules for a task that has no cookie."""
        if not udevd_listens(self._udev_control) or not self._hears():
            return False
        self._functions.dm_udev_set_sync_support(1)
        return bool(self._functions.dm_udev_get_sync_support())

    def _hears(self) -> bool:
        if self._deaf and self._clock() >= self._ask_again:
            self._deaf = not udevd_answers(self._udev_control)
            self._ask_again = self._clock() + _ASKED_EVERY
        return not self._deaf

    def _take(self, task: Task, cookie: c_uint32, *, hidden: bool) -> bool:
        """Whether there is a semaphore for it. A host that has none left must not keep a device from coming up."""
        flags = UdevFlag.DISABLE_LIBRARY_FALLBACK | (_HIDDEN if hidden else 0)
        if self._functions.dm_task_set_cookie(task.handle, byref(cookie), flags):
            return True
        _LOG.warning(
            "%s %s goes on without waiting for udev: no semaphore can be made (%s). `ipcs -s` shows who has them, "
            "`dmsetup udevcomplete_all 10` ends those that device-mapper's programs left behind",
            task.operation,
            task.subject,
            self._library.last_error,
        )
        return False

    def _wait(self, task: Task, cookie: int) -> None:
        """The semaphore cannot be polled, and dm_udev_wait has no deadline: so look, with growing pauses."""
        until = self._clock() + self._deadline
        pause, ask = _FIRST_PAUSE, self._clock() + _ASKED_EVERY
        while not self._done(cookie):
            now = self._clock()
            if now >= ask and udevd_answers(self._udev_control):  # it is at work
                ask = now + _ASKED_EVERY
            if now >= min(ask, until):
                self._go_on_without(task, cookie)
                return
            self._sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _go_on_without(self, task: Task, cookie: int) -> None:
        self._deaf, self._ask_again = True, self._clock()
        answers = udevd_answers(self._udev_control)
        why = "its rules are slow, or somebody has stopped them" if answers else why_udevd_is_silent()
        _LOG.warning("udev did not finish with %s of %s: going on without it; %s", task.operation, task.subject, why)
        self._give_up(cookie)

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
