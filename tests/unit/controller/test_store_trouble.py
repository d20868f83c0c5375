"""The store cannot be written to, from any of its writes on: nothing is done to devices until it can, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.controller.queue import BUSY_MOST, RequeueWithBackoff
from reconciler.model.names import Key
from reconciler.model.steps import StoreStep
from reconciler.store.errors import StoreUnusable
from reconciler.store.store import Store
from tests.simulation.calls import changes
from tests.simulation.house import House, device_record, pool_record

HOME = (pool_record(), device_record("a", filesystem={"type": "ext4"}), device_record("c", state="Committed"))
AND = (
    *HOME,
    device_record("s", snapshotOf="a"),
    device_record("t", snapshotOf="c"),
    device_record("b", filesystem={"type": "ext4"}),
)
STEPS = 8
"""Each begins and ends; in between it is noted that a thin for a filesystem is made, and that an origin runs again."""


class Full(House):
    """Its store takes so many steps more, and then no write at all, until there is room again."""

    def _watch_store(self, store: Store) -> None:
        super()._watch_store(store)
        counted, self.left = store.apply, 10**9

        def apply(step: StoreStep) -> None:
            if not step.key.device:  # what the pool lies on is noted when its devices are done
                counted(step)
                return
            if self.left == 0:
                self.store._db.read("PRAGMA query_only = ON")
            self.left -= 1
            counted(step)

        store.apply = apply  # type: ignore[method-assign]

    def work(self) -> None:
        """As the controller's lanes do."""
        for name, pool_controller in self.pool_controllers.items():
            while keys := self.queue.take(name, timeout=0.0):
                try:
                    pool_controller.reconcile(keys, self._desired.of_pool(name), self._desired.loaded_at)
                except StoreUnusable:
                    pool_controller.start_over()
                    self.queue.finish(Key(name), RequeueWithBackoff(BUSY_MOST))

    def make_room(self) -> None:
        self.store._db.read("PRAGMA query_only = OFF")
        self.store.try_again()
        assert self.store.trouble is None


def done_to_devices(house: Full) -> list[str]:
    """Reading the thin ids is no more than a look, though it takes messages."""
    made = (str(call) for call in house.calls.made if changes(call) and call.part != "store")
    return [call for call in made if "metadata_snap" not in call]


@pytest.mark.parametrize("taken", range(STEPS + 1))
def test_after_any_of_its_steps(tmp_path: Path, taken: int) -> None:
    house = Full(tmp_path / "state")
    house.declare(*HOME)
    house.settle()
    house.left = taken
    house.declare(*AND)
    house.run(2.0)
    assert (house.store.trouble is None) == (taken == STEPS)
    if taken == STEPS:
        house.store._db.read("PRAGMA query_only = ON")
    before = done_to_devices(house)
    house.host.devices.by_name["tank-a"].suspended = True
    house.run(60.0)
    assert house.store.trouble is not None
    assert done_to_devices(house) == before, "something was done that could not be noted"
    house.make_room()
    house.settle()
    house.check()
    assert {"a", "b", "c", "s", "t"} == set(house.store.known_devices("tank"))
    house.store.close()
