"""A dm device and its two slots for tables; what is in /dev/mapper and /dev/disk: nodes that udev makes, or does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from reconciler.model.dm_tables import Devno, Target
from reconciler.model.units import Sectors


class SimpleTarget:
    """`error`, `zero`, and what others share."""

    def __init__(self, line: Target, on: tuple[Devno, ...] = ()) -> None:
        self.line = line
        self.on = on

    def table(self) -> Target:
        return self.line

    def status(self) -> str:
        return ""

    def close(self) -> None:
        """Its table goes."""


@dataclass(eq=False)
class Loaded:
    """A table in one of a device's two slots."""

    targets: list[SimpleTarget]
    read_only: bool

    @property
    def length(self) -> Sectors:
        return Sectors(sum(target.line.length for target in self.targets))

    @property
    def on(self) -> set[Devno]:
        return {devno for target in self.targets for devno in target.on}

    def close(self) -> None:
        for target in self.targets:
            target.close()


@dataclass(eq=False)
class Device:
    name: str
    uuid: str
    devno: Devno
    announce: Callable[[], None]
    """Something that /dev/mapper/control tells by poll."""
    live: Loaded | None = None
    inactive: Loaded | None = None
    suspended: bool = False
    internal: int = 0
    """How often it was suspended by its pool."""
    table_read_only: bool = False
    protected: bool = False
    """By `blockdev --setro`: no table changes it."""
    leaving: int = 0
    """So many more tries to freeze the filesystem on it fail, as it is just being unmounted (Linux 6.8 and later)."""
    deferred: bool = False
    event_nr: int = 0
    typed: bool = False
    """Its first table was accepted: from then on a table's devices are looked at only when it is swapped in."""
    openers: list[str] = field(default_factory=list)
    queued: list[tuple[int, str]] = field(default_factory=list)
    """Writes that wait: (block, token)."""

    def event(self) -> None:
        self.event_nr += 1
        self.announce()

    @property
    def read_only(self) -> bool:
        """The one flag that the kernel tells."""
        return self.table_read_only or self.protected

    @property
    def tables(self) -> Iterator[Loaded]:
        yield from (table for table in (self.live, self.inactive) if table is not None)


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

    def make(self, device: Device) -> None:
        self.paths[node_of(device.name)] = device.devno

    def link(self, device: Device) -> None:
        for path in self.promised.get(device.devno, ()):
            self.paths[path] = device.devno


def node_of(name: str) -> str:
    return f"/dev/mapper/{name}"
