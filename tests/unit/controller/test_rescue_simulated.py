"""Somebody suspends a pool, or a device of it, in the middle of a step, and the worker hangs: it is resumed all the
same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.controller.fact_gatherer import FactGatherer, Settings
from reconciler.controller.rescue import Rescuer
from reconciler.kernel.simulated import Call, Crashed
from reconciler.kernel.worker.client import InlineWorkerClient
from reconciler.model.conditions import EventType, Reason
from reconciler.model.live import PoolScan, ScanRequest, ScanScope
from reconciler.model.names import Key
from reconciler.model.records import Record
from reconciler.store.errors import StoreError
from tests.simulation.fleet import BEFORE, Fleet
from tests.simulation.simulated_daemon import POOL, device_record, pool_record
from tests.simulation.worker import Waits

EXT4 = {"type": "ext4"}
HEALED = 13.0
"""Seconds until the first scan, plus the grace, plus the time until the next scan."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "state", "relief")
    fleet.declare(pool_record(), device_record("base", filesystem=EXT4))
    fleet.settle()
    yield fleet
    fleet.end()


def at(fleet: Fleet, name: str, what: Callable[[], Any]) -> list[float]:
    """Does something once, at the next call of this name; the list then holds the time."""
    happened: list[float] = []

    def act(call: Call) -> None:
        if call.name != name:
            fleet.at_call(1, BEFORE, act)
            return
        happened.append(fleet.clock.now())
        what()

    fleet.at_call(1, BEFORE, act)
    return happened


def is_suspended(fleet: Fleet, name: str) -> bool:
    info = fleet.dm.info(name)
    assert info is not None
    return info.suspended


def suspends(fleet: Fleet, name: str) -> Callable[[], None]:
    def suspend() -> None:
        fleet.dm.suspend(name)
        fleet.seen_states.suspended(name)

    return suspend


def also(fleet: Fleet, *records: Record) -> None:
    kept = {record.key: record for record in fleet.desired}
    fleet.declare(*(kept | {record.key: record for record in records}).values())


def told(fleet: Fleet) -> list[tuple[str, str]]:
    events = (event for _, event in fleet.store.events())
    return [(str(event.key), event.message) for event in events if "a second worker resumes it" in event.message]


def seconds_of(fleet: Fleet) -> list[str]:
    return [worker.pool for worker in fleet.workers if worker.is_second and not worker.is_dead]


@pytest.mark.parametrize("call", ["resume", "mkfs"])
def test_a_pool_that_is_suspended_in_the_midst_of_a_step_is_resumed_beyond_the_grace(fleet: Fleet, call: str) -> None:
    happened = at(fleet, call, suspends(fleet, POOL))
    also(fleet, device_record("a", filesystem=EXT4))
    fleet.settle()
    assert happened
    assert fleet.clock.now() - happened[0] < HEALED + 3
    assert fleet.status("a").reason is Reason.CONVERGED
    assert [key for key, _ in told(fleet)] == [POOL]
    healed = [event for _, event in fleet.store.events() if event.type is EventType.HEALED]
    (rescuer,) = (event for event in healed if event.reason == Reason.POOL_SUSPENDED)
    assert rescuer.message == f"{POOL} is no longer PoolSuspended: resumed by a second worker"
    assert rescuer.seconds is not None
    assert Settings().grace <= rescuer.seconds < HEALED
    assert seconds_of(fleet) == [], "the second worker ends when the first one answers"


def test_a_private_device_that_is_suspended_under_mkfs_is_resumed(fleet: Fleet) -> None:
    happened = at(fleet, "mkfs", suspends(fleet, "tank-a.private"))
    also(fleet, device_record("a", filesystem=EXT4))
    fleet.settle()
    assert fleet.clock.now() - happened[0] < HEALED + 3
    assert [key for key, _ in told(fleet)] == ["tank/a"]


def test_nothing_is_let_go_within_the_grace_of_its_first_look(fleet: Fleet) -> None:
    seen: list[bool] = []

    def suspend() -> None:
        suspends(fleet, POOL)()
        fleet.after(9.9, lambda: seen.append(is_suspended(fleet, POOL)))
        fleet.after(13.0, lambda: seen.append(is_suspended(fleet, POOL)))

    at(fleet, "mkfs", suspend)
    also(fleet, device_record("a", filesystem=EXT4))
    fleet.run(30)
    assert seen == [True, False]


def test_a_pool_whose_record_is_paused_meanwhile_stays_suspended(fleet: Fleet) -> None:
    happened = at(fleet, "mkfs", suspends(fleet, POOL))
    fleet.after(2.0, lambda: also(fleet, pool_record(paused=True)))
    fleet.after(60.0, lambda: also(fleet, pool_record()))
    also(fleet, device_record("a", filesystem=EXT4))
    fleet.settle()
    assert told(fleet) != []
    assert fleet.clock.now() - happened[0] > 60


def test_what_a_snapshot_under_way_has_suspended_is_left_to_it(fleet: Fleet) -> None:
    """The message takes longer than the grace; if the origin were resumed meanwhile, the snapshot would be
    inconsistent.
    """
    origin: list[bool] = []

    def slow(call: Call) -> Waits | None:
        if call.name != "message" or "create_snap" not in str(call.args[1]):
            fleet.at_call(1, BEFORE, slow)
            return None
        fleet.after(25.0, lambda: origin.append(is_suspended(fleet, "tank-base")))
        return Waits(fleet.clock.now() + 26.0)

    fleet.at_call(1, BEFORE, slow)
    also(fleet, device_record("snap", snapshotOf="base"))
    fleet.settle()
    assert origin == [True]
    assert told(fleet) == []
    assert fleet.status("snap").reason is Reason.CONVERGED


def test_a_pool_that_a_former_daemon_left_hanging_is_resumed(fleet: Fleet) -> None:
    happened = at(fleet, "resume", suspends(fleet, POOL))
    also(fleet, device_record("a"))
    left = fleet.workers

    def die() -> None:
        fleet.is_doomed = True

    fleet.after(3.0, die)
    with pytest.raises(Crashed):
        fleet.settle()
    assert happened
    assert any(worker.is_stopped for worker in left)
    fleet.come_back()
    fleet.settle()
    assert told(fleet) != []
    assert fleet.status("a").reason is Reason.CONVERGED
    assert seconds_of(fleet) == []


def test_a_second_worker_that_hangs_too_gets_no_third(fleet: Fleet) -> None:
    def hang(_: Call) -> Waits | None:
        if not any(worker.is_second for worker in fleet.workers):
            fleet.at_call(1, BEFORE, hang, changing=False)
            return None
        return Waits(fleet.clock.now() + 200.0)

    happened = at(fleet, "resume", suspends(fleet, POOL))
    also(fleet, device_record("a"))
    fleet.at_call(1, BEFORE, hang, changing=False)
    fleet.run(150)
    assert happened
    assert seconds_of(fleet) == [POOL]
    assert fleet.status("a").reason is Reason.STUCK
    fleet.settle()
    assert seconds_of(fleet) == []


# When nothing may be resumed


class Watchful(InlineWorkerClient):
    """Counts the questions to the worker."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet.outside, ScanScope(POOL, None, None, frozenset()), fleet.state_dir)
        self.looks = 0

    def look(self, request: ScanRequest) -> PoolScan:
        self.looks += 1
        assert not request.ids, "reading them would write to the metadata"
        return super().look(request)


def rescuer_of(fleet: Fleet, only: frozenset[Key] | None = None, **settings: Any) -> Rescuer:
    gatherer = FactGatherer(POOL, fleet.store, fleet.clock, random.Random(1), Settings(**settings))
    return Rescuer(gatherer, fleet.recorder, lambda: fleet.desired.of_pool(POOL), only)


def wait_long(fleet: Fleet, rescuer: Rescuer, beside: Watchful) -> None:
    for _ in range(3):
        rescuer.waiting(beside)
        fleet.clock.time += 5.0


def test_who_only_looks_does_not_even_look_beside(fleet: Fleet) -> None:
    beside = Watchful(fleet)
    wait_long(fleet, rescuer_of(fleet, observe_only=True), beside)
    assert beside.looks == 0


def test_nothing_is_done_while_the_store_cannot_be_written(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = Watchful(fleet)
    monkeypatch.setattr(type(fleet.store), "trouble", property(lambda _: StoreError("full")))
    wait_long(fleet, rescuer_of(fleet), beside)
    assert beside.looks == 0


@pytest.mark.parametrize(("only", "suspended"), [(Key(POOL, "base"), True), (Key(POOL), False)])
def test_only_what_was_asked_for_is_let_go(fleet: Fleet, only: Key, suspended: bool) -> None:
    fleet.dm.suspend(POOL)
    wait_long(fleet, rescuer_of(fleet, frozenset({only})), Watchful(fleet))
    assert is_suspended(fleet, POOL) is suspended


def test_each_wait_has_a_grace_of_its_own(fleet: Fleet) -> None:
    """Between two waits the device may have been resumed, and suspended again."""
    rescuer, beside = rescuer_of(fleet), Watchful(fleet)
    fleet.dm.suspend(POOL)
    rescuer.waiting(beside)
    fleet.clock.time += 4.0
    rescuer.answered()
    rescuer.waiting(beside)
    fleet.clock.time += 4.0
    rescuer.waiting(beside)
    assert is_suspended(fleet, POOL)
    fleet.clock.time += 1.0
    rescuer.waiting(beside)
    assert not is_suspended(fleet, POOL)


def test_the_records_in_force_count_not_those_of_the_step(fleet: Fleet) -> None:
    rescuer, beside = rescuer_of(fleet), Watchful(fleet)
    fleet.dm.suspend(POOL)
    rescuer.waiting(beside)
    fleet.clock.time += 10.0
    kept = fleet.desired
    also(fleet, pool_record(paused=True))
    assert fleet.desired is not kept
    rescuer.waiting(beside)
    assert is_suspended(fleet, POOL)
