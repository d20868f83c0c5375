"""`Udev` of the simulated host."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from reconciler.kernel.simulated.faults import fault
from reconciler.kernel.simulated.nodes import node_of
from reconciler.model.dm_tables import Devno
from reconciler.model.live import DeviceInfo

if TYPE_CHECKING:
    from reconciler.kernel.simulated.host import SimulatedHost


class SimulatedUdev:
    def __init__(self, host: SimulatedHost) -> None:
        self._host = host

    def running(self) -> bool:
        return self._host.nodes.running

    def missing(self, info: DeviceInfo) -> tuple[str, ...]:
        nodes = self._host.nodes
        wanted = (node_of(info.name), *nodes.promised.get(info.devno, ()))
        return tuple(path for path in wanted if nodes.paths.get(path) != info.devno)

    def why_not(self) -> str:
        return "" if self._host.nodes.running else "udevd does not run: `systemctl restart systemd-udevd`"

    def in_the_way(self, path: str) -> str:
        there = self._host.nodes.paths.get(path)
        return "" if there is None else f"a node of another device, {there}, is in its place: `rm {path}`"

    def look_again(self, devno: Devno) -> None:
        nodes, device = self._host.nodes, self._host.devices.by_devno(devno)
        if not nodes.running:
            raise fault("look again at", str(devno), errno.ECONNREFUSED, "udev is not running")
        if device is None:
            raise fault("look again at", str(devno), errno.ENOENT)
        if device.live is not None and device.live.length:
            nodes.make(device)
            nodes.link(device)
