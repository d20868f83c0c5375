"""One dm_task: made, set, run and destroyed, with the errno of what failed; its cookie; and the lists that it returns.

A cookie is a semaphore that goes with an event, and that udev's rules release when they are done. LIST, LIST_VERSIONS
and DEPS leave chains of structs in the library's buffer, which must be read in place, because they are freed with their
task.
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
"""What an error names as its object if no device was asked."""


class Task:
    """A task, used as `with Task(...) as task: task.run()`. Every failure is a HostError; the task is always freed."""

    __slots__ = ("_library", "handle", "operation", "subject")

    def __init__(self, library: Library, kind: TaskType, operation: str, subject: str = "") -> None:
        """`subject` is the name of the device, or empty if the whole host is asked."""
        self._library = library
        self.operation = operation
        self.subject = subject
        library.last_error = ""  # clears the error of an earlier task
        handle = library.functions.dm_task_create(kind)
        if handle is None:  # the first task also asks for the driver's version, and fails here if there is no driver
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
        """Raises HostError if one of the library's setters has refused its argument."""
        if not accepted:
            raise self._refused()

    def run(self) -> None:
        """Runs the task. The errno is from the kernel or the control device; without one, the library's last error is
        all there is.
        """
        if self._library.functions.dm_task_run(self.handle):
            return
        number = self._library.functions.dm_task_get_errno(self.handle) or _control_errno()
        raise HostError(self.operation, self.subject or _HOST, number, "" if number else self._library.last_error)

    def exists(self) -> bool:
        """Whether the device exists. INFO and STATUS of a missing device succeed, and report it only here."""
        info = DmInfo()
        self.set(self._library.functions.dm_task_get_info(self.handle, byref(info)))
        return bool(info.exists)

    def targets(self) -> list[tuple[int, int, str, str]]:
        """The start and length (sectors), type and text of each target that TABLE or STATUS returned."""
        next_target, handle = self._library.functions.dm_get_next_target, self.handle
        start, length, kind, text = c_uint64(), c_uint64(), c_char_p(), c_char_p()
        references = (byref(start), byref(length), byref(kind), byref(text))
        found = []
        position: int | None = None
        while True:
            position = next_target(handle, position, *references)
            if kind.value is not None:  # NULL means that there is no table
                found.append((start.value, length.value, to_text(kind.value), to_text(text.value).rstrip()))
            if position is None:
                return found

    def _refused(self) -> HostError:
        """The error for what the library itself refused, without an errno: a name that is too long, no memory."""
        return HostError(self.operation, self.subject or _HOST, errno.EINVAL, self._library.last_error)


def to_bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def to_text(raw: bytes | None) -> str:
    """Decodes bytes. The kernel takes any bytes for a name, a UUID and a table's paths; they can be encoded back."""
    return raw.decode(errors="surrogateescape") if raw else ""


def _control_errno() -> int:
    """Why the control device does not open (EACCES: not root; ENODEV, ENOENT: no driver); 0 if it does."""
    try:
        os.close(os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or 0
    return 0


_ASKED_EVERY: Final = 5.0
"""Seconds of a wait after which udev is asked whether it runs at all, and between two such questions."""
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05
_HIDDEN: Final = UdevFlag.DISABLE_SUBSYSTEM_RULES | UdevFlag.DISABLE_DISK_RULES | UdevFlag.DISABLE_OTHER_RULES
_LOG: Final = logging.getLogger(__name__)


class Cookies:
    """One cookie for each task that sends an event (RESUME, REMOVE).

    Without a running udev there are no cookies, and the library makes the nodes itself. The control socket is tested
    each time, because its file survives a udevd that was killed (observed on udev 252). A udevd that does not respond
    is waited for once, and then treated as missing until it responds again; a host without a free semaphore is treated
    the same. The library tests only once whether udev runs, so a process whose first change came before udev goes on
    without cookies.
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
        """`deadline` is in seconds, for each wait."""
        self._library = library
        self._functions = library.functions
        self._clock = clock
        self._sleep = sleep
        self._deadline = deadline
        self._udev_control = udev_control
        self._deaf = False
        """Whether udev has left a cookie alone, and has not responded since."""
        self._ask_again = 0.0

    @contextmanager
    def around(self, task: Task, *, hidden: bool = False) -> Iterator[None]:
        """Runs the task inside, and leaves when udev is done with the event or the deadline has passed, never with a
        semaphore.

        A missed deadline is no failure: the kernel did what was asked, and only nodes or links may be missing, which
        the next scan finds. It is logged as a warning.
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
        except BaseException:  # a failed task has released its share of the semaphore, an interrupted wait has not
            self._give_up(cookie.value)
            raise

    def _synchronised(self) -> bool:
        """Whether cookies are in use. The library is told each time; otherwise it disables udev's rules for tasks
        without a cookie.
        """
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
        """Takes a semaphore, and returns whether there was one. A host without a free one must still be able to
        activate a device.
        """
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
        """Waits for the cookie with growing pauses; the semaphore cannot be polled, and
        dm_udev_wait has no deadline.
        """
        until = self._clock() + self._deadline
        pause, ask = _FIRST_PAUSE, self._clock() + _ASKED_EVERY
        while not self._done(cookie):
            now = self._clock()
            if now >= ask and udevd_answers(self._udev_control):  # udev responds, so it is still at work
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
        """Whether the cookie is complete. It removes the semaphore, and is also True if that is gone (`dmsetup
        udevcomplete_all`).
        """
        ready = c_int(0)
        self._functions.dm_udev_wait_immediate(cookie, byref(ready))
        return bool(ready.value)

    def _give_up(self, cookie: int) -> None:
        """Completes the cookie in udev's place, so that the semaphore is removed. If udev completes it later, it only
        logs an error.
        """
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
    """Parses the result of LIST. The first entry has number 0 if there is no device at all.

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
    """The offset of event_nr from the start of an entry, for a name of this many bytes."""
    end = _NAME.size + name_length + 1
    return -(-end // _ALIGNMENT) * _ALIGNMENT


def read_versions(address: int | None) -> dict[str, str]:
    """Parses the result of LIST_VERSIONS. An empty chain has one entry without a name."""
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
    """The device number in the kernel's huge_encode_dev, which is also glibc's encoding."""
    return Devno(os.major(number), os.minor(number))
