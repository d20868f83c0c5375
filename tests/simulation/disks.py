"""The disks that a pool of the operator's lies on, and what becomes of them: at a boot they are met in another order."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from reconciler.kernel.simulated import Crashed
from reconciler.kernel.simulated.machine import Disk
from tests.simulation.events import World, happens
from tests.simulation.operator import MIB, VAULT

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet
    from tests.simulation.operator import Operator

_SIZES: Final = {"data": 16 * MIB, "metadata": 4 * MIB}
_NODES: Final = {"data": ("sda", "sdf"), "metadata": ("sdb", "sdg")}
"""The operator's, and somebody else's that is as large."""


class Disks:
    """Of somebody else's, it is in the seen_states what is on them."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        host = fleet.host
        self._numbers = {name: host.add_disk(name, _SIZES[of], f"S-{name}") for of in _NODES for name in _NODES[of][:1]}

    def add_others(self) -> None:
        """After all the others, whose numbers are in scenarios that were told before."""
        for of, (_, name) in _NODES.items():
            self._numbers[name] = self._fleet.host.add_disk(name, _SIZES[of], f"S-{name}")
            disk = self._disk(name)
            disk.signature, disk.head = "ext4", b"somebody else's"
            self._fleet.seen_states.disks.append(disk)

    def swap(self, of: str) -> None:
        ours, theirs = _NODES[of]
        self._fleet.host.renumber(self._numbers[ours], self._numbers[theirs])

    def put_into_record(self, operator: Operator) -> bool:
        """Where they are now, as the message says. Whether that is another place than before."""
        if VAULT not in operator.pools:
            return False
        before = [operator.pools[VAULT][of]["device"] for of in _NODES]
        for of, nodes in _NODES.items():
            (now,) = [name for name in nodes if self._disk(name) not in self._fleet.seen_states.disks]
            operator.pools[VAULT][of]["device"] = f"/dev/{now}"
        return before != [operator.pools[VAULT][of]["device"] for of in _NODES]

    def check(self) -> None:
        for disk in self._fleet.seen_states.disks:
            is_whole = (disk.signature, disk.head, disk.image) == ("ext4", b"somebody else's", None)
            assert is_whole, f"somebody else's disk {disk.serial} was written to"

    def _disk(self, name: str) -> Disk:
        return self._fleet.host.blocks[self._numbers[name]].disk


@happens(1)
def renumber_disks(world: World, rng: random.Random) -> str:
    """The paths of a record lead to somebody else's disk from now on; somewhat later it is told the new ones."""
    operator, disks = world.operator, world.disks
    if VAULT not in operator.pools:
        return ""
    disks.swap(rng.choice(sorted(_NODES)))

    def correct() -> None:
        if disks.put_into_record(operator):
            operator.apply()

    world.fleet.after(rng.choice([2, 30]), correct)
    world.fleet.count("reboots")
    world.fleet.power_lost = True
    raise Crashed


@happens(1)
def protect_disk(world: World, rng: random.Random) -> str:
    """It takes no writes, for a while."""
    name = rng.choice(["sda", "sdb"])
    block = next(block for block in world.fleet.host.blocks.values() if block.node == f"/dev/{name}")
    block.read_only = True

    def end() -> None:
        block.read_only = False

    world.fleet.after(rng.choice([1, 20]), end)
    return name
