"""What the host announces: udev's events, and device-mapper's own on its control device.

Both only say where to scan, and neither announces everything: pool health reaches only the control device, and a device
that is added or resized below a pool only udev. Nothing announces suspensions, inactive tables that were left, and
changed tables; the resync finds those.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import select
import selectors
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import pyudev

from reconciler.kernel.nodes import CONTROL, open_control
from reconciler.kernel.protocol import DeviceMapper
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError
from reconciler.model.live import Listed

_DM_IOCTL_SIZE: Final = 312
"""The size of struct dm_ioctl in bytes."""
_DM_DEV_ARM_POLL: Final = 3 << 30 | _DM_IOCTL_SIZE << 16 | 0xFD << 8 | 16
"""_IOWR(DM_IOCTL, DM_DEV_ARM_POLL_CMD, struct dm_ioctl), in dm ioctl 4.37 (Linux 4.14) and later."""
_ARM_REQUEST: Final = struct.pack(f"=3I2I{_DM_IOCTL_SIZE - 20}x", 4, 37, 0, _DM_IOCTL_SIZE, _DM_IOCTL_SIZE)

UDEV_BUFFER: Final = 16 * 1024 * 1024
"""The size of the buffer in bytes: enough for some ten thousand events."""


class DmEvents:
    """The control device as something to poll: readable once any device's event number has changed since `arm`.

    After each wake, arm first and then list and compare, so that a change in between causes another wake.
    """

    def __init__(self, path: str = CONTROL) -> None:
        """Opens an own descriptor: that of libdevmapper is another open file, which is armed separately."""
        self._path = path
        self._fd = open_control(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        return self._fd

    def arm(self) -> None:
        """Makes only later events count. Raises HostError (ENOTTY or EINVAL) on kernels before 4.14."""
        try:
            fcntl.ioctl(self._fd, _DM_DEV_ARM_POLL, _ARM_REQUEST)
        except OSError as error:
            raise HostError("arm", self._path, error.errno or 0) from error

    def is_readable(self) -> bool:
        """Whether a device's event number has changed since `arm`, without waiting."""
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        return bool(waiting.poll(0))

    def close(self) -> None:
        os.close(self._fd)


def changed(before: Iterable[Listed], after: Iterable[Listed]) -> set[str]:
    """The names that were added, removed, or have another device or event number; both names of a renamed device."""
    return {listed.name for listed in set(before) ^ set(after)}


@dataclass(frozen=True, slots=True)
class BlockEvent:
    """One uevent of a block device, as udev sends it after its rules."""

    action: str
    devno: Devno
    dm_name: str
    """The dm name; empty if it is not a dm device, and in the second of the two remove events of a dm device."""


@dataclass(frozen=True, slots=True)
class UdevBatch:
    """The events since the last batch."""

    events: tuple[BlockEvent, ...]
    overflow: bool = False
    """Whether the buffer was full and events were lost, so that everything must be scanned."""


class UdevMonitor:
    """udev's events of block devices, from the `udev` source, because the kernel's own events carry no DM_NAME."""

    def __init__(self, *, buffer: int = UDEV_BUFFER) -> None:
        """Starts to listen. `buffer` is in bytes; more than the host's limit takes CAP_NET_ADMIN."""
        try:
            self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
            self._monitor.filter_by("block")
            _enlarge(self._monitor, buffer)
            self._monitor.start()
        except (OSError, ImportError) as error:  # ImportError means that libudev is missing
            raise HostError("listen", "udev", getattr(error, "errno", 0) or 0, str(error)) from error
        self._socket = socket.socket(fileno=os.dup(self._monitor.fileno()))

    def fileno(self) -> int:
        return int(self._monitor.fileno())

    def receive(self) -> UdevBatch:
        """Returns all events that have arrived, without waiting."""
        events: list[BlockEvent] = []
        overflow = False
        while True:
            try:
                device = self._monitor.poll(timeout=0)
            except OSError as error:
                if not self._overflowed(error):
                    raise HostError("receive", "udev", error.errno or 0, str(error)) from error
                overflow = True
                continue
            if device is None:
                return UdevBatch(tuple(events), overflow)
            events.append(_event(device))

    def close(self) -> None:
        """Closes the monitor. Its socket is closed when the monitor is garbage collected."""
        self._socket.close()
        del self._monitor

    def _overflowed(self, error: OSError) -> bool:
        """Whether the buffer was full. pyudev's poll() loses the errno, but the socket keeps it until it is read."""
        pending = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return errno.ENOBUFS in {error.errno, pending}


def _enlarge(monitor: pyudev.Monitor, buffer: int) -> None:
    """Enlarges the buffer as far as is allowed. If it is too small, `receive` reports it and a full scan follows."""
    try:
        monitor.set_receive_buffer_size(buffer)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        with socket.socket(fileno=os.dup(monitor.fileno())) as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)  # net.core.rmem_max limits what is granted


def _event(device: pyudev.Device) -> BlockEvent:
    number, properties = device.device_number, device.properties
    return BlockEvent(
        action=device.action,
        devno=Devno(os.major(number), os.minor(number)),
        dm_name=properties.get("DM_NAME", ""),
    )


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostChange:
    """The dm names to which something happened; `everything` if the names are unknown."""

    names: frozenset[str] = frozenset()
    everything: bool = False


class HostMonitor:
    """Listens to the host, for one thread. Without udev, device-mapper's events and the resync have to be enough."""

    def __init__(self, dm: DeviceMapper) -> None:
        self._dm = dm
        self._events: DmEvents | None = None
        self._udev: UdevMonitor | None = None
        self._listing: list[Listed] = []

    def open(self, selector: selectors.BaseSelector) -> None:
        """Starts to listen. Raises HostError if the host has no device-mapper."""
        self._events = DmEvents()
        self._events.arm()
        self._listing = self._dm.list_all()
        selector.register(self._events, selectors.EVENT_READ, self._hear_dm)
        try:
            self._udev = UdevMonitor()
        except HostError as fault:
            _log.warning("%s: what udev would announce is found at the next resync only", fault)
            return
        selector.register(self._udev, selectors.EVENT_READ, self._hear_udev)

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
        if self._udev is not None:
            self._udev.close()

    def _hear_dm(self) -> HostChange:
        if self._events is None:
            return HostChange()
        self._events.arm()  # comes before the listing, so that a change in between causes another wake
        before, self._listing = self._listing, self._dm.list_all()
        return HostChange(frozenset(changed(before, self._listing)))

    def _hear_udev(self) -> HostChange:
        if self._udev is None:
            return HostChange()
        heard = self._udev.receive()
        return HostChange(frozenset(event.dm_name for event in heard.events if event.dm_name), heard.overflow)
