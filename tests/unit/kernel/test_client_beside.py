"""The second worker of a pool: real processes on a kernel in memory, which hang as long as they are stopped."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from reconciler.kernel.worker import client
from reconciler.kernel.worker.client import ProcessWorkerClient, WorkerClient
from reconciler.model.errors import HostError, WorkerTimeoutError
from reconciler.model.live import ScanRequest, ScanScope
from reconciler.model.steps import Resume

WORKER = """#!{python} -P
import sys
sys.path.insert(0, {tree!r})
import reconciler.kernel.worker.__main__ as worker
from reconciler.kernel.simulated import SimulatedHost, simulated_kernel
worker.host_kernel = lambda: simulated_kernel(SimulatedHost())
worker.drop_all_others = worker.lock_memory = lambda: None
sys.argv[1:] = sys.argv[-1:]
worker.main()
"""
TREE = Path(__file__).parents[3]
LOOK = ScanRequest()
SHORT = 0.25
"""Seconds, of what are 5 for the daemon."""


class Watcher:
    """A helper that looks beside, whenever it is told of a wait."""

    def __init__(self) -> None:
        self.looks = 0
        self.faults: list[HostError] = []
        self.ends = 0
        self.is_told = threading.Event()

    def waiting(self, beside: WorkerClient) -> None:
        self.is_told.set()
        try:
            beside.look(LOOK)
            self.looks += 1
        except HostError as fault:
            self.faults.append(fault)

    def cause(self) -> str:
        return "disk0, which the pool lies on, is suspended"

    def answered(self) -> None:
        self.ends += 1


def children() -> list[int]:
    """Workers that live, the oldest first. What has ended and was not waited for is none."""
    text = Path(f"/proc/self/task/{threading.main_thread().native_id}/children").read_text(encoding="ascii")
    return sorted(int(pid) for pid in text.split() if _state(int(pid)) != "Z")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    until(lambda: _state(pid) == "T", "it is stopped")


def go_on(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


def until(ask: object, what: str) -> None:
    assert callable(ask)
    end = time.monotonic() + 20
    while not ask():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watcher: Watcher) -> Iterator[ProcessWorkerClient]:
    program = tmp_path / "python"
    program.write_text(WORKER.format(python=sys.executable, tree=str(TREE)), encoding="utf-8")
    program.chmod(stat.S_IRWXU)
    monkeypatch.setattr(client, "sys", SimpleNamespace(executable=str(program)))
    monkeypatch.setattr(client, "LOOK_DEADLINE", SHORT)
    monkeypatch.setattr(Resume, "deadline", SHORT)
    before = children()
    port = ProcessWorkerClient(ScanScope("tank", None, None, frozenset()), tmp_path / "state", lock=False)
    port.tell_of_waits(watcher)
    port.look(LOOK)
    yield port
    for pid in set(children()) - set(before):
        go_on(pid)
    port.close()
    until(lambda: children() == before, "all have ended")


def hang(port: ProcessWorkerClient) -> int:
    """Its first worker, from now on in a question without an answer."""
    first = children()[0]
    stop(first)
    with pytest.raises(WorkerTimeoutError):
        port.look(LOOK)
    return first


def test_a_quick_answer_is_no_wait(port: ProcessWorkerClient, watcher: Watcher) -> None:
    port.look(LOOK)
    assert (watcher.looks, watcher.ends, len(children())) == (0, 0, 1)


def test_while_the_first_hangs_the_second_answers_and_then_it_ends(port: ProcessWorkerClient, watcher: Watcher) -> None:
    first = hang(port)
    for _ in range(3):
        with pytest.raises(WorkerTimeoutError):
            port.look(LOOK)
    assert (watcher.looks, watcher.ends, len(children())) == (3, 0, 2)
    go_on(first)
    until(lambda: not port.hangs(), "the first has answered")
    port.look(LOOK)
    assert (watcher.looks, watcher.ends) == (3, 1)
    assert children() == [first]


def test_it_is_told_what_has_no_answer_and_what_the_worker_waits_for(port: ProcessWorkerClient) -> None:
    first = children()[0]
    stop(first)
    with pytest.raises(WorkerTimeoutError) as told:
        port.run(Resume("tank-a"))
    go_on(first)
    message = str(told.value)
    assert message.startswith("resume tank-a failed (ETIMEDOUT): no answer for ")
    assert f"the worker (pid {first}) was stopped by a signal: `kill -CONT {first}` lets it go on" in message
    assert message.endswith("; disk0, which the pool lies on, is suspended")


def test_a_long_question_is_told_of_in_its_midst_and_answered(
    port: ProcessWorkerClient, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "IDS_DEADLINE", 60.0)
    monkeypatch.setattr(client, "PATIENCE", SHORT)
    first = children()[0]
    stop(first)
    monkeypatch.setattr(client, "LOOK_DEADLINE", 20.0)

    def let_go() -> None:
        watcher.is_told.wait()
        go_on(first)

    letting_go = threading.Thread(target=let_go)
    letting_go.start()
    port.look(ScanRequest(ids=True))
    letting_go.join()
    assert watcher.looks >= 1
    assert watcher.ends == 1
    assert children() == [first]


def test_there_is_never_a_third(port: ProcessWorkerClient, watcher: Watcher) -> None:
    first = hang(port)
    with pytest.raises(WorkerTimeoutError):
        port.look(LOOK)
    second = next(pid for pid in children() if pid != first)
    stop(second)
    for _ in range(3):
        with pytest.raises(WorkerTimeoutError):
            port.look(LOOK)
    assert len(watcher.faults) == 3
    for _ in range(2):  # the first answers, and hangs again; the second has hung all the time
        go_on(first)
        until(lambda: not port.hangs(), "the first has answered")
        port.look(LOOK)
        hang(port)
        with pytest.raises(WorkerTimeoutError):
            port.look(LOOK)
        assert children() == sorted([first, second])
    go_on(first)
    go_on(second)
    until(lambda: not port.hangs(), "the first has answered")
    port.look(LOOK)
    until(lambda: (port.look(LOOK), children() == [first])[1], "the second has ended, once it answered")


def test_a_first_one_that_dies_takes_the_second_with_it(port: ProcessWorkerClient, watcher: Watcher) -> None:
    first = hang(port)
    with pytest.raises(WorkerTimeoutError):
        port.look(LOOK)
    os.kill(first, signal.SIGKILL)
    until(lambda: first not in children(), "it is dead")
    port.look(LOOK)
    assert watcher.ends == 1
    assert len(children()) == 1


@pytest.mark.parametrize("both_hang", [False, True])
def test_closing_leaves_behind_only_what_hangs(port: ProcessWorkerClient, both_hang: bool) -> None:
    first = hang(port)
    with pytest.raises(WorkerTimeoutError):
        port.look(LOOK)
    second = next(pid for pid in children() if pid != first)
    if both_hang:
        stop(second)
    begun = time.monotonic()
    port.close(0.7)
    assert time.monotonic() - begun < 1.5
    until(lambda: children() == sorted([first, second] if both_hang else [first]), "what is left")


def test_abandoned_in_the_midst_of_a_look_beside_it_ends_at_once(
    port: ProcessWorkerClient, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hang(port)
    with pytest.raises(WorkerTimeoutError):
        port.look(LOOK)
    stop(next(pid for pid in children() if pid != first))
    monkeypatch.setattr(client, "LOOK_DEADLINE", 60.0)
    watcher.is_told.clear()
    faults: list[HostError] = []

    def ask() -> None:
        try:
            port.look(LOOK)
        except HostError as fault:
            faults.append(fault)

    asking = threading.Thread(target=ask)
    asking.start()
    assert watcher.is_told.wait(20)
    port.abandon()
    asking.join(5)
    assert not asking.is_alive()
    assert faults
