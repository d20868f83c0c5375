"""A kernel that says OK and does nothing: no step of any kind is done again and again as fast as the host lets it.

Nor is what somebody else breaks each time it was put right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.controller.failed_attempts import BURST, PACE
from reconciler.kernel.worker.client import InlineWorkerClient
from reconciler.model.conditions import EventType, PoolStatusReport, Reason
from reconciler.model.dm_tables import Target
from reconciler.model.errors import HostError
from reconciler.model.names import Key
from reconciler.model.steps import HostStep, StepResult
from reconciler.model.units import Sectors
from tests.simulation.house import POOL, House, a_house, device_record, pool_record

Edit = Callable[[House], object]
KINDS = list({kind.__name__: kind for kind in HostStep.__subclasses__()}.values())
SPAN = 15.0
"""Seconds of the simulated clock for each thing that happens."""
MOST = 14
"""Tries of one step within that time: 50 ms, twice that, and so on."""
LARGER: dict[str, Any] = {"data": {"file": "/srv/tank.data", "size": "32MiB"}}
EXT4 = {"type": "ext4"}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house(tmp_path / "state") as house:
        yield house


def dead(name: str, *, swap: bool) -> Edit:
    def load(house: House) -> None:
        dm = house.outside.dm
        dm.load(name, (Target(Sectors(0), Sectors(2048), "error", ""),))
        if swap:
            dm.resume(name)

    return load


def remove_deferred(house: House) -> None:
    house.host.open("tank-a")
    house.host.remove_deferred("tank-a")


A = device_record("a", filesystem=EXT4)
STORY: list[Edit] = [
    lambda house: house.declare(pool_record(), A),
    lambda house: house.also(device_record("s", snapshotOf="a")),
    lambda house: house.outside.dm.remove("tank-a"),
    lambda house: house.host.protect("tank-a"),
    lambda house: house.host.protect(POOL),
    lambda house: house.outside.dm.suspend("tank-a"),
    dead("tank-a", swap=False),
    dead("tank-a", swap=True),
    lambda house: house.host.nodes.paths.pop("/dev/mapper/tank-a"),
    remove_deferred,
    lambda house: house.host.close("tank-a"),
    lambda house: house.also(device_record("a", size="2MiB", filesystem=EXT4)),
    lambda house: house.also(pool_record(**LARGER)),
    lambda house: house.also(pool_record(**LARGER, zeroNewBlocks=False)),
    lambda house: house.also(device_record("s", state="Absent", discardOnDelete=True)),
    lambda house: house.also(device_record("a", size="2MiB", state="Inactive")),
    lambda house: house.also(pool_record(**LARGER, state="Inactive")),
    lambda house: house.also(pool_record(**LARGER)),
    lambda house: house.also(device_record("a", size="2MiB", state="Absent")),
    lambda house: house.also(pool_record(**LARGER, state="Absent")),
]
"""Each kind of step is needed at some time of it, whichever of them does nothing."""


def happens(house: House, edit: Edit) -> None:
    """Where a step that does nothing has left nothing to break, it does not happen."""
    try:
        edit(house)
    except (HostError, KeyError):
        return


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.action)
def test_a_step_that_does_nothing_is_tried_at_growing_intervals(
    house: House, kind: type[HostStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: Counter[str] = Counter()
    carry_out = InlineWorkerClient.run

    def run(port: InlineWorkerClient, step: HostStep) -> StepResult:
        if not isinstance(step, kind):
            return carry_out(port, step)
        tried[step.subject] += 1
        return StepResult(0.0)

    monkeypatch.setattr(InlineWorkerClient, "run", run)
    met = 0
    for edit in STORY:
        happens(house, edit)
        house.run(SPAN)
        assert max(tried.values(), default=0) <= MOST, f"{kind.action}: {tried}"
        met += tried.total()
        tried.clear()
    assert met > 0, "the story has no need of it"


def test_what_has_no_effect_is_told_with_what_it_was_to_mend(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.declare(pool_record(), device_record("a"))
    house.settle()
    monkeypatch.setattr(InlineWorkerClient, "run", lambda *_: StepResult(0.0))
    house.host.protect("tank-a")
    house.run(60)
    status = house.status("a")
    assert (status.reason, status.beneath) == (Reason.KERNEL_ERROR, Reason.WRONG_TABLE)
    assert "make_writable tank-a failed: it was answered with OK" in status.message
    failed = [event for _, event in house.store.events() if event.type is EventType.FAILED]
    assert [event.key for event in failed] == [Key(POOL, "a")]
    assert 5 < failed[0].count < MOST
    monkeypatch.undo()
    house.run(40)
    assert house.status("a").reason is Reason.CONVERGED


def test_two_faults_that_take_turns_are_held_back_by_turns(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.declare(pool_record(), device_record("a"))
    house.settle()
    tried: list[str] = []

    def run(port: InlineWorkerClient, step: HostStep) -> StepResult:
        del port
        tried.append(step.action)
        return StepResult(0.0)

    monkeypatch.setattr(InlineWorkerClient, "run", run)
    device = house.host.devices.by_name["tank-a"]
    for number in range(120):
        device.protected = number % 2 == 0
        device.deferred = not device.protected
        house.run(1)
    assert set(tried) == {"make_writable", "cancel_deferred_remove"}
    assert len(tried) < 2 * MOST


def test_what_somebody_breaks_again_and_again_is_put_right_at_a_steady_pace(house: House) -> None:
    house.declare(pool_record(), device_record("a"), device_record("b"))
    house.settle()
    healed, told = [], set[str]()
    begun = house.clock.now()
    while house.clock.now() < begun + 60:
        if house.info("tank-a") is not None:
            healed.append(house.clock.now())
            house.outside.dm.remove("tank-a")
        house.hear("tank-a")
        house.work()
        told.add(house.status("a").message)
        house.run(0.1)
    assert healed[BURST] - begun < 3, "the first are put right at once"
    assert BURST + 60 / PACE - 2 <= len(healed) <= BURST + 60 / PACE + 2
    assert any("put right 10 times in a row" in message for message in told)
    events = [event for _, event in house.store.events(key=Key(POOL, "a")) if event.type is EventType.BLOCKED]
    assert len(events) == 1, "one line, with its count"
    assert "put right 10 times" in events[0].message
    assert house.status("b").reason is Reason.CONVERGED
    house.run(3 * PACE)
    assert house.status("a").reason is Reason.CONVERGED
    house.run(BURST * PACE)
    house.outside.dm.remove("tank-a")
    house.hear("tank-a")
    house.work()
    assert house.info("tank-a") is not None, "after a calm minute it is put right at once again"


def test_a_pool_that_fills_is_extended_as_often_as_it_takes(house: House) -> None:
    """Each time is another size: nobody breaks anything, and nothing is held back."""
    extend = {"threshold": "50%", "step": "1%", "max": "64MiB"}
    house.declare(pool_record(extend=extend), device_record("a", size="16MiB"))
    house.settle()
    for number in range(200):
        house.host.io.write("tank-a", number, f"{number}")
        house.resync()
        house.work()
    house.resync()
    house.work()
    status = house.recorder.statuses()[Key(POOL)]
    assert isinstance(status, PoolStatusReport)
    assert status.reason is Reason.CONVERGED
    assert status.data_size is not None
    assert status.data_size > 16 * 1024**2, "it had to grow, by one part in a hundred each time"
