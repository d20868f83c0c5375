"""A dm device and its two slots for tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from reconciler.kernel.simulated.tables import PoolTarget, SimpleTarget, ThinTarget
from reconciler.model.dm_tables import Devno
from reconciler.model.units import Sectors


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

    @property
    def pool(self) -> PoolTarget | None:
        first = self.targets[0] if self.targets else None
        return first if isinstance(first, PoolTarget) else None

    @property
    def thin(self) -> ThinTarget | None:
        first = self.targets[0] if self.targets else None
        return first if isinstance(first, ThinTarget) else None

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
