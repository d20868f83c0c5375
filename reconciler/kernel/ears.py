"""What the host announces: udev's events, and device-mapper's own on its control device.

Both only say where to look. Suspensions, leftover tables and drifted ones announce nothing: those the resync finds.
"""

from __future__ import annotations

import logging
import selectors
from dataclasses import dataclass

from reconciler.kernel.monitor import DmEvents, UdevMonitor, changed
from reconciler.kernel.protocol import DeviceMapper
from reconciler.model.errors import HostFault
from reconciler.model.live import Listed

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Heard:
    """dm names that something happened to; `everything` if that cannot be told."""

    names: frozenset[str] = frozenset()
    everything: bool = False


class Ears:
    """For one thread. Where there is no udev, device-mapper's own events and the resync have to do."""

    def __init__(self, dm: DeviceMapper) -> None:
        self._dm = dm
        self._events: DmEvents | None = None
        self._udev: UdevMonitor | None = None
        self._listing: list[Listed] = []

    def open(self, selector: selectors.BaseSelector) -> None:
        """Begin to listen. Raises HostFault where the host has no device-mapper."""
        self._events = DmEvents()
        self._events.arm()
        self._listing = self._dm.list_all()
        selector.register(self._events, selectors.EVENT_READ, self._hear_dm)
        try:
            self._udev = UdevMonitor()
        except HostFault as fault:
            _log.warning("%s: what udev would announce is found at the next resync only", fault)
            return
        selector.register(self._udev, selectors.EVENT_READ, self._hear_udev)

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
        if self._udev is not None:
            self._udev.close()

    def _hear_dm(self) -> Heard:
        if self._events is None:
            return Heard()
        self._events.arm()  # before the listing, so that what happens in between wakes again
        before, self._listing = self._listing, self._dm.list_all()
        return Heard(frozenset(changed(before, self._listing)))

    def _hear_udev(self) -> Heard:
        if self._udev is None:
            return Heard()
        heard = self._udev.receive()
        return Heard(frozenset(event.dm_name for event in heard.events if event.dm_name), heard.overflow)
