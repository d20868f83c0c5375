"""A container runtime with a pool of its own, in which it makes thins and takes snapshots; and other users's devices."""

from __future__ import annotations

import itertools
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from reconciler.model.dm_tables import PoolTable, Target, ThinTable
from reconciler.model.errors import HostError
from reconciler.model.units import Sectors
from tests.simulation.operator import MIB, RUNTIME
from tests.simulation.seen_states import fingerprint

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet

SIZE: Final = Sectors(MIB // 512)
_POOL_SIZE: Final = 16 * MIB
_BLOCK: Final = Sectors(128)
_IN_NOBODYS_WAY: Final = frozenset({"vg0-root", "tank-zz"})


class Runtime:
    """What it makes is in the seen_states: nobody else may change it."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._numbers = itertools.count(1)
        self.thins: dict[int, str] = {}
        """By thin id: the dm name under which it is active when the runtime wants it."""
        self.adopted: set[int] = set()
        self._metadata = fleet.host.add_disk("sdc", 4 * MIB)
        self._data = fleet.host.add_disk("sdd", _POOL_SIZE)
        self.start()

    def start(self) -> None:
        """Make the pool's device again, as after each boot."""
        dm = self._fleet.dm
        if RUNTIME in self._fleet.host.devices.by_name:
            return
        table = PoolTable(Sectors(_POOL_SIZE // 512), self._metadata, self._data, _BLOCK, 0).target()
        dm.create(RUNTIME, "")
        dm.load(RUNTIME, (table,))
        dm.resume(RUNTIME)
        self._keep(RUNTIME)

    def make(self) -> str:
        number = next(self._numbers)
        name = f"{RUNTIME}-snap-{number}"
        with suppress(HostError):
            self._fleet.dm.message(RUNTIME, f"create_thin {number}")
            self._activate(number, name)
            return f"{name} is made"
        return ""

    def snapshot(self, rng: random.Random) -> str:
        """As a runtime does it: suspend, message, resume; now and then it takes its time."""
        live = [number for number, name in self.thins.items() if name in self._fleet.host.devices.by_name]
        if not live:
            return ""
        origin, number = rng.choice(live), next(self._numbers)
        name = self.thins[origin]
        with suppress(HostError):
            self._suspend(name)
            self._fleet.dm.message(RUNTIME, f"create_snap {number} {origin}")
            self._fleet.after(rng.choice([0.0, 0.5, 3.0]), lambda: self._resume(name))
            self._activate(number, f"{RUNTIME}-snap-{number}")
            return f"snapshot {number} of {name}"
        return ""

    def _activate(self, number: int, name: str) -> None:
        dm, pool = self._fleet.dm, self._fleet.host.devices.by_name[RUNTIME]
        self.thins[number] = name
        dm.create(name, "")
        dm.load(name, (ThinTable(SIZE, pool.devno, number).target(),))
        dm.resume(name)
        self._keep(name)

    def _suspend(self, name: str) -> None:
        self._fleet.dm.suspend(name)
        self._fleet.seen_states.suspended(name)
        self._keep(name)

    def _resume(self, name: str) -> None:
        with suppress(HostError):
            self._fleet.dm.resume(name)
        self._keep(name)

    def _keep(self, name: str) -> None:
        """As it is now, it has to stay; but what a record has adopted is the daemon's too."""
        number = next((number for number, each in self.thins.items() if each == name), None)
        if number not in self.adopted:
            self._fleet.seen_states.foreign[name] = fingerprint(self._fleet.host, name)

    def give(self, number: int) -> None:
        """A record adopts it."""
        self.adopted.add(number)
        self._fleet.seen_states.foreign.pop(self.thins[number], None)


class DeviceHolders:
    """Devices of other users's, some under names that records will want."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._disk = fleet.host.add_disk("sde", 64 * MIB)
        self.names: set[str] = set()
        self.take("vg0-root", "LVM-0123456789abcdef")
        self.take("tank-zz", "DMR-0123456789abcdef-0123456789abcdef0123456789abcdef")

    def take(self, name: str, uuid: str) -> bool:
        dm = self._fleet.dm
        if name in self._fleet.host.devices.by_name:
            return False
        dm.create(name, f"{uuid}{len(self.names)}" if uuid else "")
        dm.load(name, (Target(Sectors(0), SIZE, "linear", f"{self._disk} {2048 * len(self.names)}"),))
        dm.resume(name)
        self.names.add(name)
        self._fleet.seen_states.foreign[name] = fingerprint(self._fleet.host, name)
        return True

    def leave(self, name: str) -> None:
        self.check(name)
        if name not in self.names:
            return  # a power cut has taken it
        with suppress(HostError):
            self._fleet.dm.remove(name)
            self._fleet.seen_states.foreign.pop(name, None)
            self.names.discard(name)

    def leave_all(self) -> None:
        """Whatever is in the way of a record."""
        for name in sorted(self.names - _IN_NOBODYS_WAY):
            self.leave(name)

    def check(self, name: str) -> None:
        left = self._fleet.seen_states.foreign.get(name)
        found = fingerprint(self._fleet.host, name)
        assert left is None or left == found, f"{name} is somebody else's: it was {left}, and is {found}"
