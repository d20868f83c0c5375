"""A dm device with its two table slots, and the nodes in /dev/mapper and /dev/disk, which udev may fail to make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from reconciler.model.dm_tables import Devno, Target
from reconciler.model.units import Sectors


class SimpleTarget:
    """The targets `error` and `zero`, and the base class of the others."""

    def __init__(self, line: Target, on: tuple[Devno, ...] = ()) -> None:
        self.line = line
        self.on = on

    def table(self) -> Target:
        return self.line

    def status(self) -> str:
        return ""

    def close(self) -> None:
        """Closes the target when its table is dropped."""


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
    """Reports a change that poll on /dev/mapper/control announces."""
    live: Loaded | None = None
    inactive: Loaded | None = None
    suspended: bool = False
    internal: int = 0
    """How many times the pool of the device has suspended it."""
    table_read_only: bool = False
    protected: bool = False
    """The flag that `blockdev --setro` sets; no table changes it."""
    leaving: int = 0
    """How many more attempts to freeze its filesystem fail, because that is being unmounted (Linux 6.8 and later)."""
    deferred: bool = False
    event_nr: int = 0
    typed: bool = False
    """Whether its first table was accepted. After that, the devices of a table are checked when it is swapped in."""
    openers: list[str] = field(default_factory=list)
    queued: list[tuple[int, str]] = field(default_factory=list)
    """The writes that wait, as (block, token)."""

    def event(self) -> None:
        self.event_nr += 1
        self.announce()

    @property
    def read_only(self) -> bool:
        """Whether the device is read-only; the kernel reports one flag for several causes."""
        return self.table_read_only or self.protected

    @property
    def tables(self) -> Iterator[Loaded]:
        yield from (table for table in (self.live, self.inactive) if table is not None)


@dataclass
class Nodes:
    running: bool = True
    """Whether udev runs. Without it libdevmapper makes the nodes itself."""
    lost: int = 0
    """How many of the next events are lost."""
    paths: dict[str, Devno] = field(default_factory=dict)
    promised: dict[Devno, tuple[str, ...]] = field(default_factory=dict)
    """The links that udev's database promises for each device."""

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
