"""A worker that takes long to start, as on a host that swaps: slow is not stuck."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from reconciler.kernel.worker import client
from reconciler.kernel.worker.client import ProcessWorkerClient
from reconciler.model.errors import WorkerTimeoutError
from reconciler.model.live import ScanRequest, ScanScope
from tests.unit.kernel.test_client_beside import TREE, Watcher, children, until

SLOW = """#!{python} -P
import os, sys, time
while not os.path.exists({gate!r}):
    time.sleep(0.01)
sys.path.insert(0, {tree!r})
import reconciler.kernel.worker.__main__ as worker
from reconciler.kernel.simulated import SimulatedHost, simulated_kernel
worker.host_kernel = lambda: simulated_kernel(SimulatedHost())
worker.drop_all_others = worker.lock_memory = lambda: None
sys.argv[1:] = sys.argv[-1:]
worker.main()
"""
LOOK = ScanRequest()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A worker starts once this file is there."""
    return tmp_path / "gate"


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: Path, watcher: Watcher
) -> Iterator[ProcessWorkerClient]:
    program = tmp_path / "python"
    program.write_text(SLOW.format(python=sys.executable, tree=str(TREE), gate=str(gate)), encoding="utf-8")
    program.chmod(stat.S_IRWXU)
    monkeypatch.setattr(client, "sys", SimpleNamespace(executable=str(program)))
    before = children()
    port = ProcessWorkerClient(ScanScope("tank", None, None, frozenset()), tmp_path / "state", lock=False)
    port.tell_of_waits(watcher)
    yield port
    port.close()
    until(lambda: children() == before, "all have ended")


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "START_DEADLINE", 0.2)
    monkeypatch.setattr(client, "LOOK_DEADLINE", 0.2)
    monkeypatch.setattr(client, "PATIENCE", 0.05)


def test_it_is_told_as_a_slow_host_and_not_as_a_pool_that_hangs(
    port: ProcessWorkerClient, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    for _ in range(2):
        with pytest.raises(WorkerTimeoutError) as told:
            port.look(LOOK)
        message = str(told.value)
        assert message.startswith("start the worker of tank failed (ETIMEDOUT): it has not started for ")
        assert "this host is slow or short of memory" in message
        assert "disk0" not in message
    assert watcher.looks == 0
    assert not watcher.faults, "a second process would make it slower still"
    assert len(children()) == 1


def test_it_is_waited_for_and_not_started_again(
    port: ProcessWorkerClient, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        impatient(patch)
        with pytest.raises(WorkerTimeoutError):
            port.look(LOOK)
    (slow,) = children()
    gate.touch()
    port.look(LOOK)
    assert children() == [slow]


def test_closed_while_it_starts_it_is_ended_and_not_left_behind(
    port: ProcessWorkerClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    impatient(monkeypatch)
    with pytest.raises(WorkerTimeoutError):
        port.look(LOOK)
    port.close()
    assert children() == []
    assert "left behind" not in caplog.text
