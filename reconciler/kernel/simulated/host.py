"""The simulated world: one host, and what lies on it."""

from __future__ import annotations

from reconciler.kernel.simulated.devices import Devices
from reconciler.kernel.simulated.io import Io
from reconciler.kernel.simulated.machine import Machine


class SimulatedHost(Machine):
    """Files, disks, and all that lies on them. Making one makes an empty host."""

    def boot(self) -> None:
        super().boot()
        self.devices = Devices(self)
        self.io = Io(self.devices)
