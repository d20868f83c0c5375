"""`get --watch` and `events --follow` over time: on a terminal and in a pipe, and when the store comes, goes and comes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from reconciler.cli.get import visible
from reconciler.cli.view import NoStore, Seen, StoreWatcher
from reconciler.model.conditions import Event, EventType, PoolStatusReport, Reason
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.store.store import Store
from tests.unit.cli.conftest import fill

ENTRY = "import sys; from reconciler.cli.main import main; sys.exit(main())"
DATA = Key("tank", "data")
INTERRUPTED = 130
CLEAR, HOME = "\x1b[2J", "\x1b[H"


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Started in the background of a script, the tests inherit that SIGINT is ignored, and would pass that on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def started(*args: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", ENTRY, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def heal(store: Store) -> None:
    status = store.statuses()[DATA]
    store.put_statuses([replace(status, live=LiveState.ACTIVE, reason=Reason.CONVERGED, message="as desired")])


class Terminal:
    """A program on a terminal of 200 columns."""

    def __init__(self, *args: str, term: str = "xterm") -> None:
        self._ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": term, "COLUMNS": "200", "LINES": "50"}
        command = [sys.executable, "-c", ENTRY, *args]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        self.text = ""

    def until(self, there: Callable[[str], bool]) -> str:
        """Everything that was written since the last time, once it has that."""
        while not there(self.text):
            self.text += os.read(self._ours, 65536).decode()
        text, self.text = self.text, ""
        return text

    def interrupt(self) -> int:
        """As Ctrl-C does; gives the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*args: str, **more: str) -> Terminal:
        opened.append(Terminal(*args, **more))
        return opened[-1]

    yield start
    for each in opened:
        with suppress(OSError):
            each.close()


def test_a_terminal_is_drawn_over_in_one_go_and_ctrl_c_ends_it(
    terminal: Callable[..., Terminal], store: Store, state_dir: Path
) -> None:
    watching = terminal("get", "devices", "--watch", "--state-dir", str(state_dir))
    first = watching.until(lambda text: text.endswith("\x1b[J"))
    assert (first.count(CLEAR), first.count(HOME)) == (1, 1)
    assert "Suspended" in first
    heal(store)
    second = watching.until(lambda text: text.endswith("\x1b[J"))
    assert second.startswith(HOME)
    assert CLEAR not in second, "it would flicker"
    assert "Suspended" not in second
    assert all(line.endswith("\x1b[K") for line in second.replace("\r", "").split("\n")[:-1])
    assert watching.interrupt() == INTERRUPTED


def test_a_terminal_that_cannot_move_its_cursor_gets_what_changes(
    terminal: Callable[..., Terminal], store: Store, state_dir: Path
) -> None:
    watching = terminal("get", "devices", "--watch", "--state-dir", str(state_dir), term="dumb")
    first = watching.until(lambda text: text.count("\n") == 7)
    heal(store)
    second = watching.until(lambda text: text.count("\n") == 2)
    assert "\x1b" not in first + second
    assert "data" in second


def test_a_pipe_is_told_what_changes_and_what_is_gone(store: Store, state_dir: Path) -> None:
    with started("get", "devices", "--watch", "-o", "json", "--state-dir", str(state_dir)) as watching:
        assert len(json.loads(line_of(watching.stdout))["items"]) == 6
        heal(store)
        (changed,) = json.loads(line_of(watching.stdout))["items"]
        assert changed["status"]["reason"] == "Converged"
        store.save_records([], "other")
        names = {one["metadata"]["name"] for one in json.loads(line_of(watching.stdout))["items"]}
        assert "tank/new" in names
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == INTERRUPTED
        assert watching.stderr is not None
        assert watching.stderr.read() == "\n"


def test_a_table_in_a_pipe_does_not_repeat_a_row_that_looks_the_same(store: Store, state_dir: Path) -> None:
    tank = store.statuses()[Key("tank")]
    assert isinstance(tank, PoolStatusReport)
    with started("get", "pool", "tank", "--watch", "--state-dir", str(state_dir)) as watching:
        assert [line_of(watching.stdout).split()[0] for _ in range(2)] == ["NAME", "tank"]
        store.put_statuses([replace(tank, transaction_id=77)])
        store.put_statuses([replace(tank, reason=Reason.STUCK)])
        assert [line_of(watching.stdout).split()[0] for _ in range(2)] == ["NAME", "tank"]
        watching.send_signal(signal.SIGINT)
        assert watching.stdout is not None
        assert watching.stdout.read() == "", "only what can be seen to be another"


@pytest.mark.parametrize(("output", "same"), [("table", True), ("wide", False), ("json", False)])
def test_what_a_listing_does_not_show_is_no_change_in_it(store: Store, output: str, same: bool) -> None:
    tank = store.statuses()[Key("tank")]
    assert isinstance(tank, PoolStatusReport)
    before, after = (Seen(Key("tank"), status=one) for one in (tank, replace(tank, transaction_id=77)))
    assert (visible(before, output) == visible(after, output)) is same


def test_what_is_gone_has_neither_spec_nor_status(store: Store, state_dir: Path) -> None:
    with started("get", "device", "tank/new", "--watch", "-o", "json", "--state-dir", str(state_dir)) as watching:
        assert json.loads(line_of(watching.stdout))["items"][0]["spec"] is not None
        store.save_records([], "other")
        (gone,) = json.loads(line_of(watching.stdout))["items"]
        assert gone == {"kind": "ThinDevice", "metadata": {"name": "tank/new"}, "spec": None, "status": None}


@pytest.mark.parametrize("command", [("get", "--watch", "-o", "json"), ("events", "-f", "-n", "1", "-o", "json")])
def test_a_store_that_is_not_there_yet_or_not_any_more_is_waited_for(tmp_path: Path, command: tuple[str, ...]) -> None:
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    with Store.open(elsewhere, wall_clock=time.time) as store:
        fill(store)
    with started(*command, "--state-dir", str(state)) as watching:
        for _ in range(2):
            assert "waiting: there is no state in" in line_of(watching.stderr)
            elsewhere.rename(state)
            assert "tank/data" in line_of(watching.stdout)
            state.rename(elsewhere)
            with Store.open(elsewhere, wall_clock=time.time) as store:
                heal(store)


def test_a_follower_sees_repeats_with_their_counts(store: Store, state_dir: Path) -> None:
    event = Event(DATA, EventType.FAILED, "EIO", "resume tank-data failed (EIO)", time.time())
    with started("events", "-f", "-n", "1", "-o", "json", "--state-dir", str(state_dir)) as following:
        line_of(following.stdout)
        for count in (1, 2):
            store.add_event(event)
            assert json.loads(line_of(following.stdout))["count"] == count


def test_nothing_is_read_while_nobody_writes(store: Store, state_dir: Path) -> None:
    with StoreWatcher(state_dir) as inspector:
        first = inspector.latest()
        assert inspector.latest() is first
        heal(store)
        assert inspector.latest() is not first
        assert inspector.stores == 1


def test_another_store_in_its_place_is_another_store(store: Store, state_dir: Path, tmp_path: Path) -> None:
    with StoreWatcher(state_dir) as inspector:
        assert Key("vault") in inspector.latest()
        store.close()
        state_dir.rename(tmp_path / "old")
        with pytest.raises(NoStore):
            inspector.latest()
        with Store.open(state_dir, wall_clock=time.time):
            assert inspector.latest() == {}
        assert inspector.stores == 2
