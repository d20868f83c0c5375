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
from reconciler.kernel.simulated.io import is_torn
from reconciler.model.faults import HostFault
from reconciler.model.records import ThinDevice
from reconciler.model.table import Target
from reconciler.model.units import Sectors
from tests.simulation.house import POOL, House, a_house, device_record, pool_record

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
        self.written: dict[int, dict[int, str]] = {}
        """By thin id: what was written to it and flushed."""
        self.power_was_cut = False
        self.pool = pool_record()

    # What the operator does

    def declare(self) -> None:
        name = self.rng.choice(NAMES)
        record = self._record(name)
        self.records[name] = record
        self.house.declare(self.pool, *self.records.values())

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

    def grow(self) -> None:
        sized = [name for name, record in self.records.items() if record.spec.size is not None]
        if sized:
            name = self.rng.choice(sorted(sized))
            record = self.records[name]
            document = record.model_dump(mode="json", by_alias=True, exclude_none=True)
            document["spec"]["size"] = (record.spec.size or 0) + 1024 * 1024
            self.records[name] = ThinDevice.model_validate(document)
            self.house.declare(self.pool, *self.records.values())

    def grow_pool(self) -> None:
        size = self.pool.spec.disks[0].size or 0
        if size < 64 * 1024 * 1024:
            self.pool = pool_record(data={"file": "/srv/tank.data", "size": size + 8 * 1024 * 1024})
            self.house.declare(self.pool, *self.records.values())

    def rest_pool(self) -> None:
        """The pool's record says Inactive for a while."""
        self.house.declare(pool_record(state="Inactive"), *self.records.values())
        self.house.run(self.rng.choice([1, 15]))
        self.house.declare(self.pool, *self.records.values())

    # What programs do

    def write(self) -> None:
        def put(name: str) -> None:
            device = self.house.host.devices.by_name[name]
            thin = device.live.thin if device.live is not None else None
            if device.suspended or device.internal or device.read_only or thin is None:
                return
            number, token = self.rng.randrange(6, 12), f"{self.rng.random()}"
            self.house.host.io.write(name, number, token)
            self.house.host.io.flush(name)
            self.written.setdefault(thin.thin_id, {})[number] = token

        self._somebody(put)

    def work(self) -> None:
        """A program writes to a device that is no snapshot, until the end of the day."""
        io, devices = self.house.host.io, self.house.host.devices.by_name
        known = self.house.store.known_devices(POOL)
        names = [device.dm_name for device in known.values() if not device.origin and device.dm_name in devices]
        if names:
            name = self.rng.choice(sorted(names))
            if name not in io.writers and not io.writers:
                io.begin(name)

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

        def step_and_count(call: Call) -> None:
            self.house.host.io.step()
            count(call)

        if self.rng.random() < 0.5:
            calls.before = step_and_count
        else:
            calls.after = step_and_count

    def wait(self) -> None:
        self.house.run(self.rng.choice([0.5, 3, 20]))

    def live(self, moves: int = 25) -> None:
        choices = [
            *[self.declare] * 6,
            *[self.wait] * 6,
            *[self.write] * 3,
            self.work,
            self.grow,
            self.grow_pool,
            self.rest_pool,
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
        self.house.declare(self.pool)
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
            self.power_was_cut = True
            self.house.power_cut()
        else:
            self.house.restart()

    def end(self) -> None:
        """Nobody meddles any more."""
        calls = self.house.calls
        calls.before = calls.after = lambda _: None
        self.house.host.nodes.lost = 0
        self.house.host.mounts.clear()
        for name in list(self.house.host.io.writers):
            self.house.run(30)  # whatever holds the device suspended is ended first
            self.house.host.io.end(name)
        self._drop_what_cannot_be()
        self.house.settle()
        self.house.check()
        self._check_content()

    def _check_content(self) -> None:
        for name, device in self.house.store.known_devices(POOL).items():
            content = self.house.content(name)
            wanted = self.written.get(device.thin_id, {})
            assert {number: content.get(number) for number in wanted} == wanted, f"what was written to {name} is lost"
            assert self.power_was_cut or not is_torn(content), f"{name} is a snapshot of no moment"

    def _drop_what_cannot_be(self) -> None:
        """A snapshot of what was never made, or is gone by now, waits for it for ever: that is as it should be."""
        known = self.house.store.known_devices(POOL)
        gone = {name for name, record in self.records.items() if record.spec.state.value == "Absent"}
        for name in sorted(self.records):  # origins come before their snapshots
            if self.records[name].spec.snapshot_of in gone and name not in known:
                gone.add(name)
        kept = [record for name, record in self.records.items() if name not in gone or name in known]
        self.house.declare(self.pool, *kept)


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
