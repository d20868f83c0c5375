"""The simulated kernel as an environment for operations."""

from __future__ import annotations

from reconciler.kernel.protocol import Kernel
from reconciler.kernel.simulated import WouldBlockError, simulated_kernel
from reconciler.kernel.simulated.machine import Release
from reconciler.model.units import Bytes
from tests.simulation.host import PlayedHost

METADATA = 2 * 1024 * 1024
DATA_BLOCKS = 24


class SimulatedEnvironment:
    def __init__(self, prefix: str = "", release: Release = Release.V6_12) -> None:
        self.prefix = prefix
        self.host = PlayedHost(release=release)
        self._kernel = simulated_kernel(self.host)
        for disk, size in (("metadata", METADATA), ("data", DATA_BLOCKS * 65536)):
            self._kernel.disks.make_file(self.path(disk), Bytes(size), allocate=False)
            self._kernel.disks.attach(self.path(disk))

    @property
    def kernel(self) -> Kernel:
        return self._kernel

    def path(self, disk: str) -> str:
        return f"/srv/{disk}"

    def write(self, name: str, number: int, token: str) -> None:
        self._check(name)
        if not self.host.io.write(name, number, token):
            raise WouldBlockError("write", name, "the pool is full")
        self.host.io.flush(name)

    def read(self, name: str, number: int) -> str:
        self._check(name)
        return self.host.io.read(name, number)

    def _check(self, name: str) -> None:
        device = self.host.devices.get("open", name)
        if device.suspended or device.internal:
            raise WouldBlockError("open", name, "it is suspended")

    def remove_deferred(self, name: str) -> None:
        self.host.remove_deferred(name)

    def rename(self, name: str, new: str) -> None:
        self.host.rename(name, new)

    def garbage(self, disk: str) -> None:
        self.host.files[self.path(disk)].head = b"\xa5" * 4096

    def power_cut(self) -> None:
        self.host.power_cut()
        for disk in ("metadata", "data"):
            self._kernel.disks.attach(self.path(disk))
