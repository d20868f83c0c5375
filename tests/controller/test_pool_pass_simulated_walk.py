"""Random days of a daemon: records change, people and crashes meddle, and in the end all is as declared.

Each day is a seed: the same one goes the same way again, step by step.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from reconciler.kernel.simulated import Call, Crashed, simulated_kernel
from reconciler.kernel.simulated.faults import changes
from reconciler.model.faults import HostFault
from reconciler.model.records import ThinDevice
from reconciler.model.table import Target
from reconciler.model.units import Sectors
from tests.controller.simulated_house import POOL, House, a_house, device_record, pool_record

DAYS: Final = int(os.environ.get("SIMULATED_DAYS", "25"))
FIRST: Final = int(os.environ.get("SIMULATED_FIRST", "0"))
NAMES: Final = ("a", "b", "c", "d")
STATES: Final = ("Active", "Active", "Inactive", "Committed", "Absent")


class Day:
    def __init__(self, house: House, seed: int) -> None:
        self.house = house
        self.rng = random.Random(seed)
        self.records: dict[str, ThinDevice] = {}
        self.story: list[str] = []

    # What the operator does

    def declare(self) -> None:
        name = self.rng.choice(NAMES)
        record = self._record(name)
        self.records[name] = record
        self.house.declare(pool_record(), *self.records.values())

    def _record(self, name: str) -> ThinDevice:
        """Never one that contradicts what was there: what is committed stays so, or goes."""
        before = self.records.get(name)
        state = self.rng.choice(STATES)
        if before is None:
            origin = self.rng.choice([None, *(other for other in NAMES if other < name and other in self.records)])
            spec = {"size": "1MiB"} if origin is None else {"snapshotOf": origin}
            if self.rng.random() < 0.5 and origin is None:
                return device_record(name, state=state, filesystem={"type": "ext4"}, **spec)
            return device_record(name, state=state, **spec)
        document = before.model_dump(mode="json", by_alias=True, exclude_none=True)
        known = self.house.store.known_devices(POOL).get(name)
        committed = before.spec.state.value == "Committed" or (known is not None and known.committed)
        document["spec"]["state"] = "Committed" if committed and state != "Absent" else state
        return ThinDevice.model_validate(document)

    # What others do

    def _somebody(self, what: Callable[[str], None]) -> None:
        names = [name for name in self.house.host.devices.by_name if name != POOL]
        if names:
            with suppress(HostFault):
                what(self.rng.choice(sorted(names)))

    def suspend(self) -> None:
        self._somebody(simulated_kernel(self.house.host).dm.suspend)

    def remove(self) -> None:
        self._somebody(simulated_kernel(self.house.host).dm.remove)

    def dead_table(self) -> None:
        dm = simulated_kernel(self.house.host).dm

        def put(name: str) -> None:
            length = sum(target.length for target in dm.table(name))
            dm.load(name, (Target(Sectors(0), Sectors(length), "error", ""),))
            if self.rng.random() < 0.7:
                dm.resume(name)

        self._somebody(put)

    def suspend_pool(self) -> None:
        with suppress(HostFault):
            simulated_kernel(self.house.host).dm.suspend(POOL)

    def lose_nodes(self) -> None:
        self.house.host.nodes.paths.clear()

    def lose_events(self) -> None:
        self.house.host.nodes.lost = self.rng.randrange(3)

    def mount_for_a_while(self) -> None:
        def mount(name: str) -> None:
            self.house.host.mount(name, "/mnt")
            self.house.run(self.rng.uniform(1, 20))
            self.house.host.unmount(name, "/mnt")

        self._somebody(mount)

    # What becomes of the daemon

    def kill_soon(self) -> None:
        self._at(self.rng.randrange(12), lambda _: self.house.calls.crash())

    def fail_soon(self) -> None:
        number = self.rng.choice([errno.EIO, errno.EBUSY, errno.EINVAL, errno.ENOSPC])

        def fail(call: Call) -> None:
            if call.part != "store":
                raise HostFault(call.name, str(call.args[0]), number, "for this once")

        self._at(self.rng.randrange(12), fail)

    def _at(self, left: int, then: Callable[[Call], None]) -> None:
        calls = self.house.calls

        def count(call: Call) -> None:
            nonlocal left
            if not changes(call) and call.part != "store":
                return
            left -= 1
            if left == 0:
                self.story.append(f"  at {call}")
                then(call)

        if self.rng.random() < 0.5:
            calls.before = count
        else:
            calls.after = count

    def wait(self) -> None:
        self.house.run(self.rng.choice([0.5, 3, 20]))

    def live(self, moves: int = 25) -> None:
        choices = [
            *[self.declare] * 6,
            *[self.wait] * 6,
            self.suspend,
            self.remove,
            self.dead_table,
            self.suspend_pool,
            self.lose_nodes,
            self.lose_events,
            self.mount_for_a_while,
            self.kill_soon,
            self.kill_soon,
            self.fail_soon,
        ]
        self.house.declare(pool_record())
        for _ in range(moves):
            move = self.rng.choice(choices)
            self.story.append(move.__name__)
            try:
                move()
            except Crashed:
                self._come_back()

    def _come_back(self) -> None:
        if self.rng.random() < 0.4:
            self.story.append("  power cut")
            self.house.power_cut()
        else:
            self.house.restart()

    def end(self) -> None:
        """Nobody meddles any more."""
        calls = self.house.calls
        calls.before = calls.after = lambda _: None
        self.house.host.nodes.lost = 0
        self.house.host.mounts.clear()
        self._drop_what_cannot_be()
        self.house.settle()
        self.house.check()

    def _drop_what_cannot_be(self) -> None:
        """Snapshots of what was never made, or is gone by now, wait for it for ever: that is as it should be."""
        gone = {name for name, record in self.records.items() if record.spec.state.value == "Absent"}
        known = self.house.store.known_devices(POOL)
        while True:
            waiting = {
                name
                for name, record in self.records.items()
                if record.spec.snapshot_of in gone and name not in known and name not in gone
            }
            if not waiting:
                break
            gone |= waiting
        kept = [record for name, record in self.records.items() if name not in gone or name in known]
        absent = [
            ThinDevice.model_validate(
                {**r.model_dump(mode="json", by_alias=True, exclude_none=True)},
            )
            for r in kept
        ]
        self.house.declare(pool_record(), *absent)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + DAYS))
def test_a_random_day_ends_well(tmp_path: Path, seed: int) -> None:
    with a_house(tmp_path / "state") as house:
        day = Day(house, seed)
        try:
            day.live()
            day.end()
        except BaseException as error:
            error.add_note("\n".join([f"seed {seed}", *day.story]))
            raise
