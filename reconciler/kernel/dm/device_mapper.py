"""The DeviceMapper protocol on libdevmapper.

No call retries or decides. Facts about the kernel are from drivers/md/dm-ioctl.c; those marked "observed" were seen on
Linux 6.1 with libdevmapper 1.02.185.

A suspend with a flush can wait for ever. It sleeps so that a signal ends it, undone, with EINTR (dm.c,
`dm_wait_for_completion`), and this module sends such signals. The part that freezes a mounted filesystem cannot be
interrupted.
"""

from __future__ import annotations

import errno
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref, create_string_buffer
from types import FrameType
from typing import Final

from reconciler.kernel.command_lines import (
    dmsetup_clear,
    dmsetup_create,
    dmsetup_deps,
    dmsetup_info,
    dmsetup_list_all,
    dmsetup_load,
    dmsetup_message,
    dmsetup_mknodes,
    dmsetup_remove,
    dmsetup_resume,
    dmsetup_resume_unfrozen,
    dmsetup_status,
    dmsetup_suspend,
    dmsetup_table,
    dmsetup_targets,
    dmsetup_versions,
)
from reconciler.kernel.dm.library import DmInfo, Library, TaskType, load
from reconciler.kernel.dm.task import Cookies, Task, read_deps, read_names, read_versions, to_bytes, to_text
from reconciler.kernel.monitor import DmEvents
from reconciler.kernel.nodes import UDEV_CONTROL, make_folder
from reconciler.model.dm_tables import Devno, Table, Target
from reconciler.model.errors import HostError
from reconciler.model.live import DeviceInfo, Listed
from reconciler.model.units import Sectors

_AGAIN: Final = 1.0
"""Seconds between two signals, as the first may come just before the call."""


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Sends signals after some seconds. They reach the main thread only, where a worker makes its calls; elsewhere this
    does nothing.
    """
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
    """Handles the signal by doing nothing: its arrival alone ends an interrupted call with EINTR."""


UDEV_DEADLINE: Final = 30.0
"""Seconds to wait for udev. udev itself kills the program of a rule after 180."""
SUSPEND_DEADLINE: Final = 10.0
"""Seconds for a suspend, because the writes that it waits for may themselves wait for its end. The kernel then keeps
the device running (observed).
"""
_VERSION_LENGTH: Final = 64
_CALLS: Final = logging.getLogger("reconciler.kernel.command_lines")


class LibDm:
    """The host's device-mapper. The constructor loads the library and touches nothing of the host.

    Not thread-safe, because libdevmapper is not. Several instances share the library of the process.
    """

    def __init__(
        self,
        library: Library | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        udev_deadline: float = UDEV_DEADLINE,
        udev_control: str = UDEV_CONTROL,
    ) -> None:
        self._library = library or load()
        self._functions = self._library.functions
        self._cookies = Cookies(
            self._library, clock=clock, sleep=sleep, deadline=udev_deadline, udev_control=udev_control
        )
        self._info = DmInfo()  # one object for all calls, as INFO is asked for every device every few seconds
        self._info_reference = byref(self._info)
        self._events: DmEvents | None = None

    # ---- the host

    def versions(self) -> tuple[str, str]:
        _show(dmsetup_versions)
        library, driver = create_string_buffer(_VERSION_LENGTH), create_string_buffer(_VERSION_LENGTH)
        self._functions.dm_get_library_version(library, _VERSION_LENGTH)
        with Task(self._library, TaskType.LIST_VERSIONS, "reach") as task:  # reports why, if there is no driver
            task.set(self._functions.dm_driver_version(driver, _VERSION_LENGTH))
        return library.value.decode(), driver.value.decode()

    def targets(self) -> dict[str, str]:
        _show(dmsetup_targets)
        with Task(self._library, TaskType.LIST_VERSIONS, "targets") as task:
            task.run()
            return read_versions(self._functions.dm_task_get_versions(task.handle))

    def list_all(self) -> list[Listed]:
        _show(dmsetup_list_all)
        with Task(self._library, TaskType.LIST, "list") as task:
            task.run()
            return read_names(self._functions.dm_task_get_names(task.handle))

    def has_changed(self) -> bool:
        if self._events is None:
            self._events = DmEvents()
        elif not self._events.is_readable():
            return False
        self._events.arm()  # comes before the caller's LIST, so that a change in between is counted
        return True

    # ---- looking at one device

    def info(self, name: str) -> DeviceInfo | None:
        if _CALLS.isEnabledFor(logging.DEBUG):
            _CALLS.debug("%s", dmsetup_info(name))
        with Task(self._library, TaskType.INFO, "info", name) as task:
            task.run()
            info = self._info
            task.set(self._functions.dm_task_get_info(task.handle, self._info_reference))
            if not info.exists:
                return None
            return DeviceInfo(
                name,
                to_text(self._functions.dm_task_get_uuid(task.handle)),
                Devno(info.major, info.minor),
                info.open_count,
                info.event_nr,
                bool(info.suspended),
                bool(info.live_table),
                bool(info.inactive_table),
                bool(info.read_only),
                bool(info.deferred_remove),  # the kernel's flag, 0x20000 (observed)
                bool(info.internal_suspend),
            )

    def deps(self, name: str) -> list[Devno]:
        _show(dmsetup_deps, name)
        with Task(self._library, TaskType.DEPS, "deps", name) as task:
            task.run()
            return read_deps(self._functions.dm_task_get_deps(task.handle))

    def table(self, name: str, *, inactive: bool = False) -> Table:
        if _CALLS.isEnabledFor(logging.DEBUG):
            _CALLS.debug("%s", dmsetup_table(name, inactive=inactive))
        with Task(self._library, TaskType.TABLE, "table", name) as task:
            if inactive:
                task.set(self._functions.dm_task_query_inactive_table(task.handle))
            task.run()
            return tuple(
                Target(Sectors(start), Sectors(length), kind, params) for start, length, kind, params in task.targets()
            )

    def status(self, name: str) -> Sequence[tuple[str, str]]:
        """The status lines. The ioctl returns ENXIO for a missing device, and the library reports
        success (observed).
        """
        if _CALLS.isEnabledFor(logging.DEBUG):
            _CALLS.debug("%s", dmsetup_status(name))
        with Task(self._library, TaskType.STATUS, "status", name) as task:
            task.set(self._functions.dm_task_no_flush(task.handle))
            task.run()
            found = [(kind, text) for _, _, kind, text in task.targets()]
            if not found and not task.exists():
                raise HostError("status", name, errno.ENXIO)
            return found

    # ---- changing one device

    def create(self, name: str, uuid: str) -> None:
        """CREATE, RELOAD and RESUME are separate tasks, because the library's create with a table loses the errno."""
        _show(dmsetup_create, name, uuid)
        with Task(self._library, TaskType.CREATE, "create", name) as task:
            if uuid:
                task.set(self._functions.dm_task_set_uuid(task.handle, to_bytes(uuid)))
            task.run()

    def load(self, name: str, table: Table, *, read_only: bool = False) -> None:
        if _CALLS.isEnabledFor(logging.DEBUG):
            _CALLS.debug("%s", dmsetup_load(name, table, read_only=read_only))
        with Task(self._library, TaskType.RELOAD, "load", name) as task:
            for target in table:
                kind, params = to_bytes(target.type), to_bytes(target.params)
                task.set(self._functions.dm_task_add_target(task.handle, target.start, target.length, kind, params))
            if read_only:
                task.set(self._functions.dm_task_set_ro(task.handle))
            task.run()

    def resume(self, name: str, *, hidden: bool = False, freeze: bool = True) -> None:
        _show(dmsetup_resume if freeze else dmsetup_resume_unfrozen, name)
        with Task(self._library, TaskType.RESUME, "resume", name) as task, self._cookies.around(task, hidden=hidden):
            if not freeze:
                task.set(self._functions.dm_task_no_flush(task.handle))
                task.set(self._functions.dm_task_skip_lockfs(task.handle))
            task.run()

    def suspend(self, name: str) -> None:
        _show(dmsetup_suspend, name)
        with Task(self._library, TaskType.SUSPEND, "suspend", name) as task, interrupted_after(SUSPEND_DEADLINE):
            task.run()

    def remove(self, name: str) -> None:
        _show(dmsetup_remove, name)
        with Task(self._library, TaskType.REMOVE, "remove", name) as task, self._cookies.around(task):
            task.run()

    def clear(self, name: str) -> None:
        _show(dmsetup_clear, name)
        with Task(self._library, TaskType.CLEAR, "clear", name) as task:
            task.run()

    def message(self, name: str, text: str) -> None:
        _show(dmsetup_message, name, text)
        with Task(self._library, TaskType.TARGET_MSG, "message", name) as task:
            task.set(self._functions.dm_task_set_sector(task.handle, 0))
            task.set(self._functions.dm_task_set_message(task.handle, to_bytes(text)))
            task.run()

    def mknodes(self, name: str) -> None:
        _show(dmsetup_mknodes, name)
        make_folder()
        with Task(self._library, TaskType.MKNODES, "mknodes", name) as task:
            task.run()
            self._functions.dm_task_update_nodes()


def _show(command: Callable[..., str], *words: str) -> None:
    """Logs the dmsetup command that does the same; it is built only if the log level asks for it."""
    if _CALLS.isEnabledFor(logging.DEBUG):
        _CALLS.debug("%s", command(*words))
