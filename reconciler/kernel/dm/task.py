"""One dm_task: made, set, run and destroyed, with the errno of what failed."""

from __future__ import annotations

import errno
import os
from ctypes import byref, c_char_p, c_uint64
from types import TracebackType
from typing import Final, Self

from reconciler.kernel.dm.library import DmInfo, Handle, TaskType
from reconciler.kernel.dm.loader import Library
from reconciler.kernel.nodes import CONTROL
from reconciler.model.errors import HostFault

_HOST: Final = "device-mapper"
"""What a fault names where no device was asked."""


class Task:
    """`with Task(...) as task: task.run()`. Every failure is a HostFault; leaving always frees the task."""

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
            raise HostFault(operation, subject or _HOST, number or errno.ENOMEM, "" if number else library.last_error)
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
        raise HostFault(self.operation, self.subject or _HOST, number, "" if number else self._library.last_error)

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

    def _refused(self) -> HostFault:
        """By the library, which knows no errno then: too long a name, no memory."""
        return HostFault(self.operation, self.subject or _HOST, errno.EINVAL, self._library.last_error)


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
