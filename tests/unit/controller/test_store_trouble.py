"""The store cannot be written to, from any of its writes on: no device is changed until it can, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.controller.queue import BUSY_MOST, RequeueWithBackoff
from reconciler.model.names import Key
from reconciler.model.steps import StoreStep
from reconciler.store.errors import StoreUnusable
from reconciler.store.store import Store
from tests.simulation.calls import changes
from tests.simulation.simulated_daemon import SimulatedDaemon, device_record, pool_record

HOME = (pool_record(), device_record("a", filesystem={"type": "ext4"}), device_record("c", state="Committed"))
AND = (
    *HOME,
    device_record("s", snapshotOf="a"),
    device_record("t", snapshotOf="c"),
    device_record("b", filesystem={"type": "ext4"}),
)
STEPS = 8
"""How many store steps there are: begin and end of each operation, and notes in between that a thin for a filesystem
was made and that an origin was resumed.
"""


class Full(SimulatedDaemon):
    """A daemon whose store accepts a number of steps and then no write at all, until there is space again."""

    def _watch_store(self, store: Store) -> None:
        super()._watch_store(store)
        counted, self.left = store.apply, 10**9

        def apply(step: StoreStep) -> None:
            if not step.key.device:  # what the pool is on is noted when its devices are done
                counted(step)
                return
            if self.left == 0:
                self.store._db.read("PRAGMA query_only = ON")
            self.left -= 1
            counted(step)

        store.apply = apply  # type: ignore[method-assign]

    def work(self) -> None:
        """Works as the pool controllers do."""
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


def done_to_devices(daemon: Full) -> list[str]:
    """Messages that change something; those for reading the thin ids do not count."""
    made = (str(call) for call in daemon.calls.made if changes(call) and call.part != "store")
    return [call for call in made if "metadata_snap" not in call]


@pytest.mark.parametrize("taken", range(STEPS + 1))
def test_after_any_of_its_steps(tmp_path: Path, taken: int) -> None:
    daemon = Full(tmp_path / "state")
    daemon.declare(*HOME)
    daemon.settle()
    daemon.left = taken
    daemon.declare(*AND)
    daemon.run(2.0)
    assert (daemon.store.trouble is None) == (taken == STEPS)
    if taken == STEPS:
        daemon.store._db.read("PRAGMA query_only = ON")
    before = done_to_devices(daemon)
    daemon.host.devices.by_name["tank-a"].suspended = True
    daemon.run(60.0)
    assert daemon.store.trouble is not None
    assert done_to_devices(daemon) == before, "something was done that could not be noted"
    daemon.make_room()
    daemon.settle()
    daemon.check()
    assert {"a", "b", "c", "s", "t"} == set(daemon.store.known_devices("tank"))
    daemon.store.close()
