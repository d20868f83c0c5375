"""One dm_task: made, set, run and destroyed, with the errno of what failed; its cookie; and the lists that it answers with.

A cookie is a semaphore that goes with an event, and that udev's rules release when they are done. LIST, LIST_VERSIONS and
DEPS leave chains of structs in the library's buffer, which are read where they lie, as they are gone with their task.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_uint32, c_uint64, string_at
from struct import Struct
from types import TracebackType
from typing import Final, Self

from reconciler.kernel.dm.library import DmInfo, Handle, Library, TaskType, UdevFlag
from reconciler.kernel.nodes import CONTROL, UDEV_CONTROL, udevd_answers, udevd_listens, why_udevd_is_silent
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError
from reconciler.model.live import Listed

_HOST: Final = "device-mapper"
"""What a fault names where no device was asked."""


class Task:
    """`with Task(...) as task: task.run()`. Every failure is a HostError; leaving always frees the task."""

    __slots__ = ("_library", "handle", "operation", "subject")

    def __init__(self, library: Library, kind: TaskType, operation: str, subject: str = "") -> None:
        """`subject` is the device's name, or empty for what asks the whole host."""
        self._library = library
        self.operation = operation
        self.subject = subject
        library.last_error = ""  # of an earlier task
        handle = library.functions.dm_task_create(kind)
        if handle is None:  # the first task also asks for the driver's version, and fails so where there is no driver
            number = _control_errno()
            raise HostError(operation, subject or _HOST, number or errno.ENOMEM, "" if number else library.last_error)
        self.handle: Handle = handle

    def __enter__(self) -> Self:
        subject = self.subject
        if subject and not self._library.functions.dm_task_set_name(self.handle, to_bytes(subject)):
            self._library.functions.dm_task_destroy(self.handle)
            raise self._refused()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._library.functions.dm_task_destroy(self.handle)

    def set(self, accepted: int) -> None:
        """Raise where one of the library's setters refused its argument."""
        if not accepted:
            raise self._refused()

    def run(self) -> None:
        """The errno is the kernel's, or the control device's; where there is none, the library's own complaint is all."""
        if self._library.functions.dm_task_run(self.handle):
            return
        number = self._library.functions.dm_task_get_errno(self.handle) or _control_errno()
        raise HostError(self.operation, self.subject or _HOST, number, "" if number else self._library.last_error)

    def exists(self) -> bool:
        """INFO and STATUS of a device that is not there succeed, and say so here."""
        info = DmInfo()
        self.set(self._library.functions.dm_task_get_info(self.handle, byref(info)))
        return bool(info.exists)

    def targets(self) -> list[tuple[int, int, str, str]]:
        """Start, length (sectors), type and text of each target that TABLE or STATUS gave."""
        next_target, handle = self._library.functions.dm_get_next_target, self.handle
        start, length, kind, text = c_uint64(), c_uint64(), c_char_p(), c_char_p()
        references = (byref(start), byref(length), byref(kind), byref(text))
        found = []
        position: int | None = None
        while True:
            position = next_target(handle, position, *references)
            if kind.value is not None:  # NULL: no table at all
                found.append((start.value, length.value, to_text(kind.value), to_text(text.value).rstrip()))
            if position is None:
                return found

    def _refused(self) -> HostError:
        """By the library, which knows no errno then: too long a name, no memory."""
        return HostError(self.operation, self.subject or _HOST, errno.EINVAL, self._library.last_error)


def to_bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def to_text(raw: bytes | None) -> str:
    """The kernel takes any bytes for a name, a UUID and a table's paths: they come back as they were given."""
    return raw.decode(errors="surrogateescape") if raw else ""


def _control_errno() -> int:
    """Why the control device does not open (EACCES: not root; ENODEV, ENOENT: no driver), or 0 where it does."""
    try:
        os.close(os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or 0
    return 0


_ASKED_EVERY: Final = 5.0
"""Seconds of a wait after which udev is asked whether it is there at all, and between two such questions."""
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05
_HIDDEN: Final = UdevFlag.DISABLE_SUBSYSTEM_RULES | UdevFlag.DISABLE_DISK_RULES | UdevFlag.DISABLE_OTHER_RULES
_LOG: Final = logging.getLogger(__name__)


class Cookies:
    """One cookie for each task that sends an event (RESUME, REMOVE).

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


_NAME: Final = Struct("=QI")
"""struct dm_name_list: u64 dev, u32 offset of the next one from this one's start (0: last), char name[]."""
_VERSION: Final = Struct("=IIII")
"""struct dm_target_versions: u32 offset of the next one, u32 version[3], char name[]."""
_DEPS_HEAD: Final = 8
"""struct dm_target_deps: u32 count, u32 padding, u64 dev[]."""
_ALIGNMENT: Final = 8


def read_names(address: int | None) -> list[Listed]:
    """Of LIST. The first entry has number 0 where there is no device at all.

    After each name's NUL, at the next multiple of 8, comes the device's u32 event_nr (dm ioctl 4.38 and later).
    """
    found: list[Listed] = []
    if not address:
        return found
    while True:
        number, following = _NAME.unpack(string_at(address, _NAME.size))
        if number == 0:
            return found
        raw = string_at(address + _NAME.size)
        event_nr = c_uint32.from_address(address + event_offset(len(raw))).value
        found.append(Listed(to_text(raw), _devno(number), event_nr))
        if following == 0:
            return found
        address += following


def event_offset(name_length: int) -> int:
    """Where event_nr lies, from the start of an entry with a name of so many bytes."""
    end = _NAME.size + name_length + 1
    return -(-end // _ALIGNMENT) * _ALIGNMENT


def read_versions(address: int | None) -> dict[str, str]:
    """Of LIST_VERSIONS. A chain that is empty has an entry without a name."""
    found: dict[str, str] = {}
    while address:
        following, *version = _VERSION.unpack(string_at(address, _VERSION.size))
        name = string_at(address + _VERSION.size).decode()
        if name:
            found[name] = ".".join(str(part) for part in version)
        if following == 0:
            break
        address += following
    return found


def read_deps(address: int | None) -> list[Devno]:
    if not address:
        return []
    count = c_uint32.from_address(address).value
    numbers = (c_uint64 * count).from_address(address + _DEPS_HEAD)
    return [_devno(number) for number in numbers]


def _devno(number: int) -> Devno:
    """Of the kernel's huge_encode_dev, which is glibc's encoding too."""
    return Devno(os.major(number), os.minor(number))
