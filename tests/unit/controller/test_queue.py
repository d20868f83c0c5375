"""The queue holds keys, each once, and says when each is due."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from reconciler.controller.queue import BUSY_MOST, FIRST_RETRY, Done, RequeueAfter, RequeueWithBackoff, WorkQueue
from reconciler.model.names import Key
from tests.testing.fake_clock import FakeClock
from tests.testing.queue import next_due

TANK, APP, OTHER = Key("tank"), Key("tank", "app"), Key("vault")


class Counts:
    """Counts what the queue reports."""

    def __init__(self) -> None:
        self.adds = self.retries = self.length = 0
        self.waits: list[float] = []

    def add(self) -> None:
        self.adds += 1

    def retry(self) -> None:
        self.retries += 1

    def started(self, waited: float) -> None:
        self.waits.append(waited)

    def done(self, worked: float) -> None:
        del worked

    def depth(self, count: int) -> None:
        self.length = count


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def queue(clock: FakeClock, counts: Counts) -> WorkQueue:
    return WorkQueue(clock, random.Random(7), counts)


def take(queue: WorkQueue, pool: str = "tank") -> set[Key]:
    return queue.take(pool, timeout=0)


def test_a_key_that_is_added_twice_is_taken_once(queue: WorkQueue, counts: Counts) -> None:
    queue.add(APP)
    queue.add(APP)
    assert take(queue) == {APP}
    assert take(queue) == set()
    assert counts.adds == 1


def test_what_is_due_is_counted_once_until_it_is_taken(queue: WorkQueue, counts: Counts) -> None:
    queue.add(APP)
    assert (counts.adds, counts.length) == (1, 1)
    for key in (APP, APP, TANK):
        queue.add(key)
    assert (counts.adds, counts.length) == (2, 2)
    take(queue)
    queue.add(APP)
    assert (counts.adds, counts.length) == (3, 1)


def test_a_lane_gives_only_the_keys_of_its_pool(queue: WorkQueue) -> None:
    queue.add(TANK)
    queue.add(OTHER)
    assert take(queue) == {TANK}
    assert take(queue, "vault") == {OTHER}


def test_a_later_key_is_not_due_before_its_time(queue: WorkQueue, clock: FakeClock) -> None:
    queue.add(APP, after=5)
    assert take(queue) == set()
    clock.time += 5
    assert take(queue) == {APP}


def test_an_earlier_time_wins_and_a_later_one_does_not_put_off(queue: WorkQueue) -> None:
    queue.add(APP, after=5)
    queue.add(APP)
    queue.add(APP, after=9)
    assert take(queue) == {APP}


def test_how_long_a_key_waited_is_counted_from_when_it_was_due(
    queue: WorkQueue, clock: FakeClock, counts: Counts
) -> None:
    queue.add(APP, after=1)
    clock.time += 3
    take(queue)
    assert counts.waits == [2]


def test_done_leaves_nothing_to_do(queue: WorkQueue) -> None:
    queue.finish(APP, Done())
    assert next_due(queue, "tank") is None


def test_look_again_is_due_after_its_seconds(queue: WorkQueue, clock: FakeClock) -> None:
    queue.finish(APP, RequeueAfter(2.5))
    assert next_due(queue, "tank") == clock.time + 2.5


def test_retries_come_later_each_time_with_jitter_and_never_later_than_the_most(
    queue: WorkQueue, clock: FakeClock, counts: Counts
) -> None:
    delays = []
    for _ in range(14):
        queue.finish(APP, RequeueWithBackoff(BUSY_MOST))
        due = next_due(queue, "tank")
        assert due is not None
        delays.append(due - clock.time)
        clock.time = due
        assert take(queue) == {APP}
    assert FIRST_RETRY * 0.75 <= delays[0] <= FIRST_RETRY * 1.25
    assert all(later > earlier for earlier, later in pairwise(delays[:9]))
    assert BUSY_MOST * 0.75 <= delays[-1] <= BUSY_MOST * 1.25
    assert len({round(delay, 3) for delay in delays}) == len(delays)
    assert counts.retries == 14


def test_success_ends_the_backing_off(queue: WorkQueue) -> None:
    queue.finish(APP, RequeueWithBackoff(BUSY_MOST))
    assert queue.is_backing_off(APP)
    queue.finish(APP, Done())
    assert not queue.is_backing_off(APP)


def test_a_key_is_held_until_its_next_try_however_often_it_is_looked_at(queue: WorkQueue, clock: FakeClock) -> None:
    assert not queue.hold(TANK)
    for _ in range(8):
        queue.finish(TANK, RequeueWithBackoff(BUSY_MOST))
        clock.time += BUSY_MOST * 2
    queue.finish(TANK, RequeueWithBackoff(BUSY_MOST))
    queue.add(TANK)
    assert take(queue) == {TANK}
    assert queue.hold(TANK)
    assert take(queue) == set()
    clock.time += BUSY_MOST * 2
    assert take(queue) == {TANK}
    assert not queue.hold(TANK)


def test_a_stopped_queue_lets_nobody_wait(queue: WorkQueue) -> None:
    queue.stop()
    assert queue.take("tank") == set()
