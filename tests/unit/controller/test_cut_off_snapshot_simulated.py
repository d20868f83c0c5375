"""A snapshot that is cut off once its origin runs again: who suspends the origin then is somebody else."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call, Calls
from reconciler.model.errors import HostError
from reconciler.model.names import Key
from tests.simulation.guards import GRACE
from tests.simulation.house import POOL, House, a_house, device_record, pool_record


class NoFurther:
    """Once the snapshot is taken the pool takes no message any more, and its ids cannot be read."""

    is_taken = False

    def __call__(self, call: Call) -> None:
        if call.name != "message":
            return
        if self.is_taken:
            raise HostError("message", POOL, errno.EIO)
        self.is_taken = str(call.args[1]).startswith("create_snap")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """With a device that runs, and a snapshot of it that is half made."""
    with a_house(tmp_path / "state") as house:
        house.declare(pool_record(), device_record("a"))
        house.settle()
        house.kill()
        house.start(Calls(before=NoFurther()))
        house.also(device_record("s", snapshotOf="a"))
        house.work()
        (intent,) = house.store.intents(POOL)
        assert (intent.key, intent.suspended) == (Key(POOL, "s"), "tank-a")
        yield house


def is_suspended(house: House) -> bool:
    info = house.info("tank-a")
    assert info is not None
    return info.suspended


def test_the_origin_runs_again(house: House) -> None:
    assert not is_suspended(house)


@pytest.mark.parametrize("restarted", [False, True])
def test_somebody_elses_freeze_of_the_origin_has_its_grace(house: House, restarted: bool) -> None:
    house.outside.dm.suspend("tank-a")
    if restarted:
        house.restart()
    house.run(GRACE - 1)
    assert is_suspended(house)
    house.run(3)
    assert not is_suspended(house)
