"""Somebody suspends a pool, or a device of it, in the midst of a step, and the worker hangs: it is let go all the same."""

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
from tests.simulation.house import POOL, device_record, pool_record
from tests.simulation.village import BEFORE, Village
from tests.simulation.worker import Waits

EXT4 = {"type": "ext4"}
HEALED = 13.0
"""Seconds: until anybody looks, the grace, and until they look again."""


@pytest.fixture
def village(tmp_path: Path) -> Iterator[Village]:
    village = Village(tmp_path / "state", "relief")
    village.declare(pool_record(), device_record("base", filesystem=EXT4))
    village.settle()
    yield village
    village.end()


def at(village: Village, name: str, what: Callable[[], Any]) -> list[float]:
    """Once, at the next call of that name; then the list says when."""
    happened: list[float] = []

    def act(call: Call) -> None:
        if call.name != name:
            village.at_call(1, BEFORE, act)
            return
        happened.append(village.clock.now())
        what()

    village.at_call(1, BEFORE, act)
    return happened


def is_suspended(village: Village, name: str) -> bool:
    info = village.dm.info(name)
    assert info is not None
    return info.suspended


def suspends(village: Village, name: str) -> Callable[[], None]:
    def suspend() -> None:
        village.dm.suspend(name)
        village.book.suspended(name)

    return suspend


def also(village: Village, *records: Record) -> None:
    kept = {record.key: record for record in village.desired}
    village.declare(*(kept | {record.key: record for record in records}).values())


def told(village: Village) -> list[tuple[str, str]]:
    events = (event for _, event in village.store.events())
    return [(str(event.key), event.message) for event in events if "a second worker resumes it" in event.message]


def seconds_of(village: Village) -> list[str]:
    return [worker.pool for worker in village.workers if worker.is_second and not worker.is_dead]


@pytest.mark.parametrize("call", ["resume", "mkfs"])
def test_a_pool_that_is_suspended_in_the_midst_of_a_step_is_resumed_beyond_the_grace(
    village: Village, call: str
) -> None:
    happened = at(village, call, suspends(village, POOL))
    also(village, device_record("a", filesystem=EXT4))
    village.settle()
    assert happened
    assert village.clock.now() - happened[0] < HEALED + 3
    assert village.status("a").reason is Reason.CONVERGED
    assert [key for key, _ in told(village)] == [POOL]
    healed = [event for _, event in village.store.events() if event.type is EventType.HEALED]
    (rescuer,) = (event for event in healed if event.reason == Reason.POOL_SUSPENDED)
    assert rescuer.message == f"{POOL} is no longer PoolSuspended: resumed by a second worker"
    assert rescuer.seconds is not None
    assert Settings().grace <= rescuer.seconds < HEALED
    assert seconds_of(village) == [], "the second worker ends when the first one answers"


def test_a_private_device_that_is_suspended_under_mkfs_is_resumed(village: Village) -> None:
    happened = at(village, "mkfs", suspends(village, "tank-a.private"))
    also(village, device_record("a", filesystem=EXT4))
    village.settle()
    assert village.clock.now() - happened[0] < HEALED + 3
    assert [key for key, _ in told(village)] == ["tank/a"]


def test_nothing_is_let_go_within_the_grace_of_its_first_look(village: Village) -> None:
    seen: list[bool] = []

    def suspend() -> None:
        suspends(village, POOL)()
        village.after(9.9, lambda: seen.append(is_suspended(village, POOL)))
        village.after(13.0, lambda: seen.append(is_suspended(village, POOL)))

    at(village, "mkfs", suspend)
    also(village, device_record("a", filesystem=EXT4))
    village.run(30)
    assert seen == [True, False]


def test_a_pool_whose_record_is_paused_meanwhile_stays_suspended(village: Village) -> None:
    happened = at(village, "mkfs", suspends(village, POOL))
    village.after(2.0, lambda: also(village, pool_record(paused=True)))
    village.after(60.0, lambda: also(village, pool_record()))
    also(village, device_record("a", filesystem=EXT4))
    village.settle()
    assert told(village) != []
    assert village.clock.now() - happened[0] > 60


def test_what_a_snapshot_under_way_has_suspended_is_left_to_it(village: Village) -> None:
    """The message takes longer than the grace; resumed meanwhile, the snapshot would be torn."""
    origin: list[bool] = []

    def slow(call: Call) -> Waits | None:
        if call.name != "message" or "create_snap" not in str(call.args[1]):
            village.at_call(1, BEFORE, slow)
            return None
        village.after(25.0, lambda: origin.append(is_suspended(village, "tank-base")))
        return Waits(village.clock.now() + 26.0)

    village.at_call(1, BEFORE, slow)
    also(village, device_record("snap", snapshotOf="base"))
    village.settle()
    assert origin == [True]
    assert told(village) == []
    assert village.status("snap").reason is Reason.CONVERGED


def test_a_pool_that_a_former_daemon_left_hanging_is_resumed(village: Village) -> None:
    happened = at(village, "resume", suspends(village, POOL))
    also(village, device_record("a"))
    left = village.workers

    def die() -> None:
        village.is_doomed = True

    village.after(3.0, die)
    with pytest.raises(Crashed):
        village.settle()
    assert happened
    assert any(worker.is_stopped for worker in left)
    village.come_back()
    village.settle()
    assert told(village) != []
    assert village.status("a").reason is Reason.CONVERGED
    assert seconds_of(village) == []


def test_a_second_worker_that_hangs_too_gets_no_third(village: Village) -> None:
    def hang(_: Call) -> Waits | None:
        if not any(worker.is_second for worker in village.workers):
            village.at_call(1, BEFORE, hang, changing=False)
            return None
        return Waits(village.clock.now() + 200.0)

    happened = at(village, "resume", suspends(village, POOL))
    also(village, device_record("a"))
    village.at_call(1, BEFORE, hang, changing=False)
    village.run(150)
    assert happened
    assert seconds_of(village) == [POOL]
    assert village.status("a").reason is Reason.STUCK
    village.settle()
    assert seconds_of(village) == []


# Who may not


class Watchful(InlineWorkerClient):
    """Counts what is asked."""

    def __init__(self, village: Village) -> None:
        super().__init__(village.outside, ScanScope(POOL, None, None, frozenset()), village.state_dir)
        self.looks = 0

    def look(self, request: ScanRequest) -> PoolScan:
        self.looks += 1
        assert not request.ids, "reading them would write to the metadata"
        return super().look(request)


def relief_of(village: Village, only: frozenset[Key] | None = None, **settings: Any) -> Rescuer:
    gatherer = FactGatherer(POOL, village.store, village.clock, random.Random(1), Settings(**settings))
    return Rescuer(gatherer, village.recorder, lambda: village.desired.of_pool(POOL), only)


def wait_long(village: Village, rescuer: Rescuer, beside: Watchful) -> None:
    for _ in range(3):
        rescuer.waiting(beside)
        village.clock.time += 5.0


def test_who_only_looks_does_not_even_look_beside(village: Village) -> None:
    beside = Watchful(village)
    wait_long(village, relief_of(village, observe_only=True), beside)
    assert beside.looks == 0


def test_nothing_is_done_while_the_store_cannot_be_written(village: Village, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = Watchful(village)
    monkeypatch.setattr(type(village.store), "trouble", property(lambda _: StoreError("full")))
    wait_long(village, relief_of(village), beside)
    assert beside.looks == 0


@pytest.mark.parametrize(("only", "suspended"), [(Key(POOL, "base"), True), (Key(POOL), False)])
def test_only_what_was_asked_for_is_let_go(village: Village, only: Key, suspended: bool) -> None:
    village.dm.suspend(POOL)
    wait_long(village, relief_of(village, frozenset({only})), Watchful(village))
    assert is_suspended(village, POOL) is suspended


def test_each_wait_has_a_grace_of_its_own(village: Village) -> None:
    """Between two waits it may have run, and be suspended anew."""
    rescuer, beside = relief_of(village), Watchful(village)
    village.dm.suspend(POOL)
    rescuer.waiting(beside)
    village.clock.time += 4.0
    rescuer.answered()
    rescuer.waiting(beside)
    village.clock.time += 4.0
    rescuer.waiting(beside)
    assert is_suspended(village, POOL)
    village.clock.time += 1.0
    rescuer.waiting(beside)
    assert not is_suspended(village, POOL)


def test_the_records_in_force_count_not_those_of_the_step(village: Village) -> None:
    rescuer, beside = relief_of(village), Watchful(village)
    village.dm.suspend(POOL)
    rescuer.waiting(beside)
    village.clock.time += 10.0
    kept = village.desired
    also(village, pool_record(paused=True))
    assert village.desired is not kept
    rescuer.waiting(beside)
    assert is_suspended(village, POOL)
