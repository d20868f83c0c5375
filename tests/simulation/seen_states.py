"""What is true on the simulated host whatever the daemon believes: who made what, who suspended it, what was written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from reconciler.kernel.simulated.machine import Disk
from reconciler.model.dm_tables import Table
from tests.simulation.host import PlayedHost

Thin = tuple[str, int]
"""(pool, thin id)"""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A device of somebody else's, as its owner left it."""

    uuid: str
    table: Table
    suspended: bool


@dataclass
class SeenStates:
    now: Callable[[], float]
    foreign: dict[str, Fingerprint | None] = field(default_factory=dict)
    """By dm name; None while its owner is about to change it."""
    strangers: dict[Thin, dict[int, str]] = field(default_factory=dict)
    """Thins that others made in pools of ours, with what is in them."""
    written: dict[Thin, dict[int, str]] = field(default_factory=dict)
    """What was written and flushed, by block."""
    disks: list[Disk] = field(default_factory=list)
    """Of others."""
    replaced: set[str] = field(default_factory=set)
    """Pools of ours in the place of whose data another file is for a while."""
    held: set[str] = field(default_factory=set)
    """Pools of whose metadata somebody holds a snapshot."""
    in_doubt: set[str] = field(default_factory=set)
    """Of these, the ones of which the store says that the daemon was about to reserve one, when it was killed."""
    frozen: dict[str, float] = field(default_factory=dict)
    """Devices that others suspended, with when: until somebody sees them live again."""
    sound: set[Thin] = field(default_factory=set)
    """Snapshots of what was whole in the moment in which they were taken."""

    # Data

    def wrote(self, thin: Thin, block: int, token: str) -> None:
        if thin in self.strangers:
            self.strangers[thin][block] = token
        self.written.setdefault(thin, {})[block] = token

    def snapped(self, new: Thin, origin: Thin) -> None:
        self.written[new] = dict(self.written.get(origin, {}))

    def gone(self, thin: Thin) -> None:
        self.sound.discard(thin)
        self.written.pop(thin, None)
        self.strangers.pop(thin, None)

    def pool_gone(self, pool: str) -> None:
        for thin in [thin for thin in self.written if thin[0] == pool]:
            self.gone(thin)
        self.released(pool)

    # Metadata snapshots

    def reserved(self, pool: str, *, in_doubt: bool) -> None:
        self.held.add(pool)
        if in_doubt:
            self.in_doubt.add(pool)

    def released(self, pool: str) -> None:
        self.held.discard(pool)
        self.in_doubt.discard(pool)

    # Suspensions

    def suspended(self, name: str) -> None:
        self.frozen.setdefault(name, self.now())

    def seen_live(self, name: str) -> None:
        self.frozen.pop(name, None)

    def power_cut(self) -> None:
        """Devices are gone, with who owned them and who suspended them."""
        self.foreign.clear()
        self.frozen.clear()


def fingerprint(host: PlayedHost, name: str) -> Fingerprint | None:
    """None: there is no such device."""
    device = host.devices.by_name.get(name)
    if device is None:
        return None
    table = () if device.live is None else tuple(target.table() for target in device.live.targets)
    return Fingerprint(device.uuid, table, device.suspended)
