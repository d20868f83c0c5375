"""Finds libdevmapper, binds its functions, and turns its log away from stderr."""

from __future__ import annotations

import ctypes
import errno
import logging
from functools import cache
from typing import Any, Final

from reconciler.kernel.dm.library import FUNCTIONS, LOG_ERROR, LOG_LEVEL_MASK, MANGLING_NONE, Functions, LogFunction
from reconciler.model.errors import HostFault

SONAME: Final = "libdevmapper.so.1.02.1"
_INSTALL: Final = (
    "install libdevmapper1.02.1 (Debian, Ubuntu), device-mapper-libs (Fedora, RHEL) or libdevmapper1_03 (SUSE)"
)
_LOG: Final = logging.getLogger("reconciler.kernel.dm")


class Library:
    """The loaded library. Its state (log function, control device, cookies) is the process's: there is one.

    Not for two threads at once, as libdevmapper is not.
    """

    def __init__(self, functions: Functions) -> None:
        self.functions = functions
        self.last_error = ""
        """What the library logged last as an error, with its printf placeholders unfilled: for people only."""
        self._log_function = LogFunction(self._log)  # the library calls it as long as the process lives: never dropped

    def prepare(self) -> None:
        r"""Take over the log, and have names and UUIDs pass as the kernel has them.

        Without mangling, a name such as `a\x20b`, which LVM's library made of `a b`, reads as the kernel and /dev/mapper
        have it, and can be given back as it is.
        """
        self.functions.dm_log_with_errno_init(self._log_function)
        self.functions.dm_set_name_mangling_mode(MANGLING_NONE)

    def _log(self, level: int, file: int | None, line: int, _errno: int, text: int | None) -> None:
        """Called for every level, several times an ioctl: it has to be cheap while nobody listens."""
        severity = level & LOG_LEVEL_MASK
        if severity <= LOG_ERROR:
            self.last_error = _string(text)
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s:%d level %d: %s", _string(file), line, severity, _string(text))


def _string(address: int | None) -> str:
    return ctypes.string_at(address).decode(errors="replace") if address else ""


@cache
def load() -> Library:
    """The library, loaded at the first call. HostFault, saying what to install, where there is none or too old a one."""
    try:
        library = ctypes.CDLL(SONAME)
    except OSError as error:
        raise HostFault("load", SONAME, errno.ENOENT, f"{error}; {_INSTALL}") from error
    loaded = Library(bind(library))
    loaded.prepare()
    return loaded


def bind(library: Any) -> Functions:
    """All functions of the table, typed. `library` is a CDLL."""
    missing = [name for name in FUNCTIONS if not hasattr(library, name)]
    if missing:
        detail = f"it has no {', '.join(missing)}; at least version 1.02.124 is needed: {_INSTALL}"
        raise HostFault("load", SONAME, errno.ENOSYS, detail)
    bound: dict[str, Any] = {}
    for name, (arguments, result) in FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = result
        bound[name] = function
    return Functions(**bound)
