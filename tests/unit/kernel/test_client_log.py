"""What a worker would log is the daemon's to write: with the pool's name, and as one line in its own format."""

from __future__ import annotations

import logging
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from reconciler.kernel.worker import client
from reconciler.kernel.worker.client import ProcessWorkerClient
from reconciler.model.errors import HostError, WorkerTimeoutError
from reconciler.model.live import ScanRequest, ScanScope

WORKER = """#!{python} -P
import logging, runpy, sys, time
sys.path.insert(0, {tree!r})
from reconciler.kernel import host, privileges
from reconciler.kernel.simulated import SimulatedHost, simulated_kernel
from reconciler.kernel.worker import scan

class Odd(scan.PoolScanner):
    def forget(self):
        logging.getLogger("reconciler.odd").warning("all is told anew")
        super().forget()

    def look(self, request):
        if request.thorough:
            time.sleep(1)
            return super().look(request)
        if request.ids:
            raise LookupError("a bug\\nof the worker's")
        for number in range(3):
            logging.getLogger("reconciler.odd").warning("udev is %s", number)
        return super().look(request)

host.host_kernel = lambda: simulated_kernel(SimulatedHost())
privileges.drop_all_others = privileges.lock_memory = lambda: None
scan.PoolScanner = Odd
sys.argv[1:] = sys.argv[-1:]
runpy.run_module("reconciler.kernel.worker", run_name="__main__")
"""
"""As the daemon starts it, by its module's name: what it sends is of that module, and no other."""


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessWorkerClient]:
    program = tmp_path / "python"
    program.write_text(WORKER.format(python=sys.executable, tree=str(Path(__file__).parents[3])), encoding="utf-8")
    program.chmod(stat.S_IRWXU)
    monkeypatch.setattr(client, "sys", SimpleNamespace(executable=str(program)))
    port = ProcessWorkerClient(ScanScope("tank", None, None, frozenset()), tmp_path / "state", lock=False)
    yield port
    port.close()


def test_its_lines_are_in_the_daemons_log(port: ProcessWorkerClient, caplog: pytest.LogCaptureFixture) -> None:
    port.look(ScanRequest())
    told = [(r.name, r.levelno, r.getMessage(), r.__dict__["pool"]) for r in caplog.records]
    assert told == [("reconciler.odd", logging.WARNING, f"udev is {number}", "tank") for number in range(3)]


def test_after_a_late_answer_it_tells_all_anew(
    port: ProcessWorkerClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    port.look(ScanRequest())
    with monkeypatch.context() as impatient:
        impatient.setattr(client, "LOOK_DEADLINE", 0.1)
        with pytest.raises(WorkerTimeoutError):
            port.look(ScanRequest(thorough=True))
    assert port._connection is not None
    assert port._connection.poll(20), "it has answered"
    port.look(ScanRequest())
    assert "all is told anew" in [record.getMessage() for record in caplog.records]


def test_a_bug_of_its_own_is_one_line_of_the_daemons_log(
    port: ProcessWorkerClient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(HostError, match="it died"):
        port.look(ScanRequest(ids=True))
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith("the worker failed; this is a bug\nTraceback")
    assert "a bug\nof the worker's" in record.getMessage()
    assert "Traceback" not in capfd.readouterr().err
    port.look(ScanRequest())
