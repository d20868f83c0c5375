"""What is said while something takes its time: a line that vanishes on a terminal, elsewhere a line for each change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.cli.apply import Shown
from reconciler.cli.console import Progress
from reconciler.controller.fact_gatherer import Settings
from reconciler.daemon import oneshot
from reconciler.daemon.app import App
from reconciler.daemon.oneshot import simulated_client
from reconciler.kernel.simulated.host import SimulatedHost
from reconciler.model.conditions import DeviceStatus, Reason, Status
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.recordset import RecordSet
from reconciler.store.store import Store
from tests.simulation.simulated_daemon import pool_record
from tests.unit.cli.test_watch import Terminal

NOT_AS_DESIRED = 4


def status(name: str, reason: Reason = Reason.SUSPENDED) -> Status:
    return DeviceStatus(Key("tank", name), LiveState.SUSPENDED, reason, "why", 0.0, good=False)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*args: str) -> Terminal:
        opened.append(Terminal(*args))
        return opened[-1]

    yield start
    for each in opened:
        with suppress(OSError):
            each.close()


def test_elsewhere_than_on_a_terminal_only_what_changes_is_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        shown = Shown(progress)
        for left in (59.0, 58.0):
            shown.waiting([status("a")], left)
        shown.warned(Key("tank", "a"), "resumed")
        shown.waiting([status(name) for name in "abcde"], 57.0)
        shown.waiting([], 56.0)
    captured = capfd.readouterr()
    assert captured.out == "tank/a: resumed\n"
    assert captured.err.splitlines() == [
        "waiting: tank/a is Suspended",
        "waiting: tank/a is Suspended, tank/b is Suspended, tank/c is Suspended and 2 more",
        "waiting: the first look is not done",
    ]


def test_what_mostly_is_quick_is_for_terminals_only(capfd: pytest.CaptureFixture[str]) -> None:
    with Progress(terminal_only=True) as progress:
        progress.say("looking at pool tank")
    assert capfd.readouterr().err == ""


def test_on_a_terminal_the_line_vanishes_in_the_end(
    terminal: Callable[..., Terminal], store: Store, state_dir: Path
) -> None:
    assert store.statuses()
    waiting = terminal("wait", "device", "tank/data", "--timeout", "500ms", "--state-dir", str(state_dir))
    text = waiting.until(lambda text: "is not ready after" in text)
    line, _, rest = text.partition("waiting for device tank/data: Busy")
    assert "\x1b" in line
    assert "\x1b[2K" in rest, "erased before the last word"
    assert waiting.process.wait(20) == NOT_AS_DESIRED


def test_apply_says_what_it_waits_for_once_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A disk that is not there may yet be found."""
    monkeypatch.setattr(oneshot, "_RESYNC", 0.1)
    records = RecordSet.of([pool_record(data={"device": "/dev/sdb"})])
    with Store.open(tmp_path / "state", wall_clock=lambda: 0.0) as store, Progress() as progress:
        simulated = App(store, Settings(), simulated_client(SimulatedHost(), tmp_path), Shown(progress))
        asked = oneshot.OneShotOptions(tmp_path, tmp_path / "state", "here")
        with oneshot._begun(simulated, asked, records) as desired:
            result = oneshot._converge(simulated, desired, 0.5, Shown(progress))
    assert result.timed_out
    assert capfd.readouterr().err.splitlines() == ["waiting: tank is PoolMissing"]
