"""What is in /dev/mapper and /dev/disk: nodes that udev makes, or does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reconciler.model.dm_tables import Devno

if TYPE_CHECKING:
    from reconciler.kernel.simulated.device import Device


@dataclass
class Nodes:
    running: bool = True
    """udev. Without it libdevmapper makes the nodes itself."""
    lost: int = 0
    """So many events to come reach nobody."""
    paths: dict[str, Devno] = field(default_factory=dict)
    promised: dict[Devno, tuple[str, ...]] = field(default_factory=dict)
    """Links that udev's database names for a device."""

    def on_resume(self, device: Device, *, hidden: bool) -> None:
        if self.lost:
            self.lost -= 1
            return
        self.make(device)
        if self.running and not hidden:
            self.promised[device.devno] = (f"/dev/disk/by-id/dm-name-{device.name}",)
            self.link(device)

    def on_remove(self, device: Device) -> None:
        self.paths = {path: devno for path, devno in self.paths.items() if devno != device.devno}
        self.promised.pop(device.devno, None)

    def on_rename(self, device: Device, old: str) -> None:
        if self.paths.pop(node_of(old), None) is not None:
            self.make(device)

    def make(self, device: Device) -> None:
        self.paths[node_of(device.name)] = device.devno

    def link(self, device: Device) -> None:
        for path in self.promised.get(device.devno, ()):
            self.paths[path] = device.devno


def node_of(name: str) -> str:
    return f"/dev/mapper/{name}"
