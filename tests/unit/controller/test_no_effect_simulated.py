"""On a kernel that reports success and does nothing, no kind of step is repeated without a pause.

The same holds for what somebody else breaks again each time.
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
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, a_simulated_daemon, device_record, pool_record

Edit = Callable[[SimulatedDaemon], object]
KINDS = list({kind.__name__: kind for kind in HostStep.__subclasses__()}.values())
SPAN = 15.0
"""Seconds of the simulated clock for each event."""
MOST = 14
"""Attempts at one step within that time: after 50 ms, twice that, and so on."""
LARGER: dict[str, Any] = {"data": {"file": "/srv/tank.data", "size": "32MiB"}}
EXT4 = {"type": "ext4"}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    with a_simulated_daemon(tmp_path / "state") as daemon:
        yield daemon


def dead(name: str, *, swap: bool) -> Edit:
    def load(daemon: SimulatedDaemon) -> None:
        dm = daemon.outside.dm
        dm.load(name, (Target(Sectors(0), Sectors(2048), "error", ""),))
        if swap:
            dm.resume(name)

    return load


def remove_deferred(daemon: SimulatedDaemon) -> None:
    daemon.host.open("tank-a")
    daemon.host.remove_deferred("tank-a")


A = device_record("a", filesystem=EXT4)
STORY: list[Edit] = [
    lambda daemon: daemon.declare(pool_record(), A),
    lambda daemon: daemon.also(device_record("s", snapshotOf="a")),
    lambda daemon: daemon.outside.dm.remove("tank-a"),
    lambda daemon: daemon.host.protect("tank-a"),
    lambda daemon: daemon.host.protect(POOL),
    lambda daemon: daemon.outside.dm.suspend("tank-a"),
    dead("tank-a", swap=False),
    dead("tank-a", swap=True),
    lambda daemon: daemon.host.nodes.paths.pop("/dev/mapper/tank-a"),
    remove_deferred,
    lambda daemon: daemon.host.close("tank-a"),
    lambda daemon: daemon.also(device_record("a", size="2MiB", filesystem=EXT4)),
    lambda daemon: daemon.also(pool_record(**LARGER)),
    lambda daemon: daemon.also(pool_record(**LARGER, zeroNewBlocks=False)),
    lambda daemon: daemon.also(device_record("s", state="Absent", discardOnDelete=True)),
    lambda daemon: daemon.also(device_record("a", size="2MiB", state="Inactive")),
    lambda daemon: daemon.also(pool_record(**LARGER, state="Inactive")),
    lambda daemon: daemon.also(pool_record(**LARGER)),
    lambda daemon: daemon.also(device_record("a", size="2MiB", state="Absent")),
    lambda daemon: daemon.also(pool_record(**LARGER, state="Absent")),
]
"""Every kind of step is needed at some time, whichever kind has no effect."""


def happens(daemon: SimulatedDaemon, edit: Edit) -> None:
    """Applies the edit, unless a step without effect has left nothing that it could break."""
    try:
        edit(daemon)
    except (HostError, KeyError):
        return


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.action)
def test_a_step_that_does_nothing_is_tried_at_growing_intervals(
    daemon: SimulatedDaemon, kind: type[HostStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: Counter[str] = Counter()
    carry_out = InlineWorkerClient.run

    def run(port: InlineWorkerClient, step: HostStep) -> StepResult:
        if not isinstance(step, kind):
            return carry_out(port, step)
        tried[step.subject] += 1
        return StepResult()

    monkeypatch.setattr(InlineWorkerClient, "run", run)
    met = 0
    for edit in STORY:
        happens(daemon, edit)
        daemon.run(SPAN)
        assert max(tried.values(), default=0) <= MOST, f"{kind.action}: {tried}"
        met += tried.total()
        tried.clear()
    assert met > 0, "the story has no need of it"


def test_what_has_no_effect_is_told_with_what_it_was_to_mend(
    daemon: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.declare(pool_record(), device_record("a"))
    daemon.settle()
    monkeypatch.setattr(InlineWorkerClient, "run", lambda *_: StepResult())
    daemon.host.protect("tank-a")
    daemon.run(60)
    status = daemon.status("a")
    assert (status.reason, status.beneath) == (Reason.KERNEL_ERROR, Reason.WRONG_TABLE)
    assert "make_writable tank-a failed: it was answered with OK" in status.message
    failed = [event for _, event in daemon.store.events() if event.type is EventType.FAILED]
    assert [event.key for event in failed] == [Key(POOL, "a")]
    assert 5 < failed[0].count < MOST
    monkeypatch.undo()
    daemon.run(40)
    assert daemon.status("a").reason is Reason.CONVERGED


def test_two_faults_that_take_turns_are_held_back_by_turns(
    daemon: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.declare(pool_record(), device_record("a"))
    daemon.settle()
    tried: list[str] = []

    def run(port: InlineWorkerClient, step: HostStep) -> StepResult:
        del port
        tried.append(step.action)
        return StepResult()

    monkeypatch.setattr(InlineWorkerClient, "run", run)
    device = daemon.host.devices.by_name["tank-a"]
    for number in range(120):
        device.protected = number % 2 == 0
        device.deferred = not device.protected
        daemon.run(1)
    assert set(tried) == {"make_writable", "cancel_deferred_remove"}
    assert len(tried) < 2 * MOST


def test_what_somebody_breaks_again_and_again_is_put_right_at_a_steady_pace(daemon: SimulatedDaemon) -> None:
    daemon.declare(pool_record(), device_record("a"), device_record("b"))
    daemon.settle()
    healed, told = [], set[str]()
    begun = daemon.clock.now()
    while daemon.clock.now() < begun + 60:
        if daemon.info("tank-a") is not None:
            healed.append(daemon.clock.now())
            daemon.outside.dm.remove("tank-a")
        daemon.hear("tank-a")
        daemon.work()
        told.add(daemon.status("a").message)
        daemon.run(0.1)
    assert healed[BURST] - begun < 3, "the first are put right at once"
    assert BURST + 60 / PACE - 2 <= len(healed) <= BURST + 60 / PACE + 2
    assert any("put right 10 times in a row" in message for message in told)
    events = [event for _, event in daemon.store.events(key=Key(POOL, "a")) if event.type is EventType.BLOCKED]
    assert len(events) == 1, "one line, with its count"
    assert "put right 10 times" in events[0].message
    assert daemon.status("b").reason is Reason.CONVERGED
    daemon.run(3 * PACE)
    assert daemon.status("a").reason is Reason.CONVERGED
    daemon.run(BURST * PACE)
    daemon.outside.dm.remove("tank-a")
    daemon.hear("tank-a")
    daemon.work()
    assert daemon.info("tank-a") is not None, "after a calm minute it is put right at once again"


def test_a_pool_that_fills_is_extended_as_often_as_it_takes(daemon: SimulatedDaemon) -> None:
    """The size differs each time, so nobody breaks anything, and nothing is delayed."""
    extend = {"threshold": "50%", "step": "1%", "max": "64MiB"}
    daemon.declare(pool_record(extend=extend), device_record("a", size="16MiB"))
    daemon.settle()
    for number in range(200):
        daemon.host.io.write("tank-a", number, f"{number}")
        daemon.resync()
        daemon.work()
    daemon.resync()
    daemon.work()
    status = daemon.recorder.statuses()[Key(POOL)]
    assert isinstance(status, PoolStatusReport)
    assert status.reason is Reason.CONVERGED
    assert status.data_size is not None
    assert status.data_size > 16 * 1024**2, "it had to grow, by one part in a hundred each time"
