"""Finds libdevmapper, binds those of its functions that are called, and redirects its log from stderr.

The declarations are from libdevmapper.h of 1.02.185 (2022); all of them exist since 1.02.124 (2016).
"""

from __future__ import annotations

import ctypes
import errno
import logging
from collections.abc import Callable, Mapping
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int32, c_uint16, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import cache
from typing import Any, Final

from reconciler.model.errors import HostError

Handle = int
"""A `struct dm_task *`. ctypes returns None for NULL."""


class TaskType(IntEnum):
    """DM_DEVICE_*; the order is part of the library's ABI."""

    CREATE = 0
    RELOAD = 1
    REMOVE = 2
    SUSPEND = 4
    RESUME = 5
    INFO = 6
    DEPS = 7
    STATUS = 10
    TABLE = 11
    LIST = 13
    CLEAR = 14
    MKNODES = 15
    LIST_VERSIONS = 16
    TARGET_MSG = 17


class UdevFlag(IntFlag):
    """DM_UDEV_*: what udev's rules are told with an event."""

    DISABLE_SUBSYSTEM_RULES = 0x02
    DISABLE_DISK_RULES = 0x04
    DISABLE_OTHER_RULES = 0x08
    DISABLE_LIBRARY_FALLBACK = 0x20
    """Only udev makes the nodes; libdevmapper neither makes nor checks them."""


MANGLING_NONE: Final = 0
LOG_LEVEL_MASK: Final = 0x7
LOG_ERROR: Final = 3


class DmInfo(Structure):
    """struct dm_info, of symbol version DM_1_02_97."""

    exists: int
    suspended: int
    live_table: int
    inactive_table: int
    open_count: int
    event_nr: int
    major: int
    minor: int
    read_only: int
    deferred_remove: int
    internal_suspend: int

    _fields_ = (
        ("exists", c_int),
        ("suspended", c_int),
        ("live_table", c_int),
        ("inactive_table", c_int),
        ("open_count", c_int32),
        ("event_nr", c_uint32),
        ("major", c_uint32),
        ("minor", c_uint32),
        ("read_only", c_int),
        ("target_count", c_int32),
        ("deferred_remove", c_int),
        ("internal_suspend", c_int),
    )


LogFunction = CFUNCTYPE(None, c_int, c_void_p, c_int, c_int, c_void_p)
"""dm_log_with_errno_fn: level, file, line, errno, format, and printf's values, which a Python function cannot read."""

_TASK = c_void_p
_OUT_STRING = POINTER(c_char_p)

FUNCTIONS: Final[Mapping[str, tuple[tuple[Any, ...], Any]]] = {
    "dm_driver_version": ((c_char_p, c_uint32), c_int),
    "dm_get_library_version": ((c_char_p, c_uint32), c_int),
    "dm_get_next_target": ((_TASK, c_void_p, POINTER(c_uint64), POINTER(c_uint64), _OUT_STRING, _OUT_STRING), c_void_p),
    "dm_log_with_errno_init": ((LogFunction,), None),
    "dm_set_name_mangling_mode": ((c_int,), c_int),
    "dm_task_add_target": ((_TASK, c_uint64, c_uint64, c_char_p, c_char_p), c_int),
    "dm_task_create": ((c_int,), c_void_p),
    "dm_task_destroy": ((_TASK,), None),
    "dm_task_get_deps": ((_TASK,), c_void_p),
    "dm_task_get_errno": ((_TASK,), c_int),
    "dm_task_get_info": ((_TASK, POINTER(DmInfo)), c_int),
    "dm_task_get_names": ((_TASK,), c_void_p),
    "dm_task_get_uuid": ((_TASK,), c_char_p),
    "dm_task_get_versions": ((_TASK,), c_void_p),
    "dm_task_no_flush": ((_TASK,), c_int),
    "dm_task_query_inactive_table": ((_TASK,), c_int),
    "dm_task_run": ((_TASK,), c_int),
    "dm_task_set_cookie": ((_TASK, POINTER(c_uint32), c_uint16), c_int),
    "dm_task_set_message": ((_TASK, c_char_p), c_int),
    "dm_task_set_name": ((_TASK, c_char_p), c_int),
    "dm_task_set_ro": ((_TASK,), c_int),
    "dm_task_set_sector": ((_TASK, c_uint64), c_int),
    "dm_task_skip_lockfs": ((_TASK,), c_int),
    "dm_task_set_uuid": ((_TASK, c_char_p), c_int),
    "dm_task_update_nodes": ((), None),
    "dm_udev_complete": ((c_uint32,), c_int),
    "dm_udev_get_sync_support": ((), c_int),
    "dm_udev_set_sync_support": ((c_int,), None),
    "dm_udev_wait_immediate": ((c_uint32, POINTER(c_int)), c_int),
}
"""The functions by C name: argument and result types. A result of 0 is a failure, except for errnos
and sync support.
"""


@dataclass(frozen=True, slots=True)
class Functions:
    """The same functions, bound. Any stands for a pointer or reference that ctypes made."""

    dm_driver_version: Callable[[Any, int], int]
    dm_get_library_version: Callable[[Any, int], int]
    dm_get_next_target: Callable[[Handle, int | None, Any, Any, Any, Any], int | None]
    dm_log_with_errno_init: Callable[[Any], None]
    dm_set_name_mangling_mode: Callable[[int], int]
    dm_task_add_target: Callable[[Handle, int, int, bytes, bytes], int]
    dm_task_create: Callable[[int], Handle | None]
    dm_task_destroy: Callable[[Handle], None]
    dm_task_get_deps: Callable[[Handle], int | None]
    dm_task_get_errno: Callable[[Handle], int]
    dm_task_get_info: Callable[[Handle, Any], int]
    dm_task_get_names: Callable[[Handle], int | None]
    dm_task_get_uuid: Callable[[Handle], bytes | None]
    dm_task_get_versions: Callable[[Handle], int | None]
    dm_task_no_flush: Callable[[Handle], int]
    dm_task_query_inactive_table: Callable[[Handle], int]
    dm_task_run: Callable[[Handle], int]
    dm_task_set_cookie: Callable[[Handle, Any, int], int]
    dm_task_set_message: Callable[[Handle, bytes], int]
    dm_task_set_name: Callable[[Handle, bytes], int]
    dm_task_set_ro: Callable[[Handle], int]
    dm_task_set_sector: Callable[[Handle, int], int]
    dm_task_skip_lockfs: Callable[[Handle], int]
    dm_task_set_uuid: Callable[[Handle, bytes], int]
    dm_task_update_nodes: Callable[[], None]
    dm_udev_complete: Callable[[int], int]
    dm_udev_get_sync_support: Callable[[], int]
    dm_udev_set_sync_support: Callable[[int], None]
    dm_udev_wait_immediate: Callable[[int, Any], int]


SONAME: Final = "libdevmapper.so.1.02.1"
_INSTALL: Final = (
    "install libdevmapper1.02.1 (Debian, Ubuntu), device-mapper-libs (Fedora, RHEL) or libdevmapper1_03 (SUSE)"
)
_LOG: Final = logging.getLogger("reconciler.kernel.dm")


class Library:
    """The loaded library. Its state (log function, control device, cookies) belongs to the process, so there is one
    object.

    Not thread-safe, because libdevmapper is not.
    """

    def __init__(self, functions: Functions) -> None:
        self.functions = functions
        self.last_error = ""
        """The last error that the library logged, with its printf placeholders unfilled; only for messages."""
        # Never dropped, because the library calls it as long as the process lives.
        self._log_function = LogFunction(self._log)

    def prepare(self) -> None:
        r"""Redirects the log, and makes names and UUIDs pass as the kernel has them.

        Without mangling, a name such as `a\x20b`, which LVM's library made of `a b`, reads as in the kernel and in
        /dev/mapper, and can be passed back unchanged.
        """
        self.functions.dm_log_with_errno_init(self._log_function)
        self.functions.dm_set_name_mangling_mode(MANGLING_NONE)

    def _log(self, level: int, file: int | None, line: int, _errno: int, text: int | None) -> None:
        """The log function. It is called for every level, several times an ioctl, so it must be cheap if nothing is
        logged.
        """
        severity = level & LOG_LEVEL_MASK
        if severity <= LOG_ERROR:
            self.last_error = _string(text)
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s:%d level %d: %s", _string(file), line, severity, _string(text))


def _string(address: int | None) -> str:
    return ctypes.string_at(address).decode(errors="replace") if address else ""


@cache
def load() -> Library:
    """The library, loaded at the first call. Raises HostError, saying what to install, if it is missing or too old."""
    try:
        library = ctypes.CDLL(SONAME)
    except OSError as error:
        raise HostError("load", SONAME, errno.ENOENT, f"{error}; {_INSTALL}") from error
    loaded = Library(bind(library))
    loaded.prepare()
    return loaded


def bind(library: Any) -> Functions:
    """Binds all functions of the table, with their types. `library` is a CDLL."""
    missing = [name for name in FUNCTIONS if not hasattr(library, name)]
    if missing:
        detail = f"it has no {', '.join(missing)}; at least version 1.02.124 is needed: {_INSTALL}"
        raise HostError("load", SONAME, errno.ENOSYS, detail)
    bound: dict[str, Any] = {}
    for name, (arguments, result) in FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = result
        bound[name] = function
    return Functions(**bound)
