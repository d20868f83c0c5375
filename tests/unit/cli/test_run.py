"""`run`: why it cannot begin is a line of its log, like all others."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cli import run as command
from reconciler.cli.main import main
from reconciler.store.errors import StoreError

NOT_DONE = 1


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the daemon sets for its whole process."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


def refuse(_: object) -> int:
    raise StoreError("store x is damaged: restore it")


def test_machines_read_it_as_they_read_all_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "run", refuse)
    assert main(["run", "--manifests", str(tmp_path), "--log-format", "json"]) == NOT_DONE
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["level"] == "critical"
    assert json.loads(line)["message"] == "store x is damaged: restore it"


def test_people_read_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "run", refuse)
    assert main(["run", "--manifests", str(tmp_path)]) == NOT_DONE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("CRITICAL store x is damaged: restore it")
