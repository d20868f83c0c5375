"""What a command shows and cannot be of now, it says so, with since when; or it asks the daemon."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from reconciler.cli import view
from reconciler.model.conditions import Reason, item, rfc3339, status_of
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.store.lock import StateLock
from reconciler.store.store import Store
from reconciler.telemetry.http.routes import StatusServer
from tests.unit.cli.conftest import Said

Dm = Callable[..., Said]
LOOKS = [("get",), ("tree",), ("describe", "device", "tank/web"), ("events",)]


class Told:
    """What a daemon answers."""

    def __init__(self, store: Store) -> None:
        self.statuses = dict(store.statuses())
        self.trouble: str | None = None
        self.is_ready = True

    def healthy(self) -> tuple[bool, str]:
        return True, "ok"

    def ready(self) -> tuple[bool, str]:
        return self.is_ready and self.trouble is None, self.trouble or "the first full pass is not done"

    def daemon(self) -> list[dict[str, Any]]:
        ready, message = self.ready()
        status = {
            "healthy": True,
            "ready": ready,
            "message": "" if ready else message,
            "storeTrouble": self.trouble,
            "storeTroubleSince": None if self.trouble is None else rfc3339(1_700_000_000.0),
        }
        return [{"kind": "Daemon", "metadata": {"name": "web-1"}, "spec": None, "status": status}]

    def items_revision(self) -> str:
        return f"{time.monotonic()}"

    def items(self, kind: str) -> list[dict[str, Any]]:
        return [item(kind, str(key), None, status) for key, status in self.statuses.items() if key.kind == kind]

    def events_revision(self) -> str:
        return ""

    def events(self) -> list[dict[str, Any]]:
        return []


@pytest.fixture
def lock(state_dir: Path, store: Store) -> Iterator[StateLock]:
    del store
    lock = StateLock(state_dir)
    lock.acquire()
    yield lock
    lock.release()


@pytest.fixture
def daemon(lock: StateLock, store: Store) -> Iterator[Told]:
    told = Told(store)
    server = StatusServer(("127.0.0.1", 0), told, CollectorRegistry())
    server.start()
    lock.announce(server.url)
    yield told
    server.stop()


def gone(told: Told) -> None:
    """The daemon sees that a device has been taken away."""
    key = Key("tank", "web")
    told.statuses[key] = replace(told.statuses[key], live=LiveState.INACTIVE, reason=Reason.NOT_CREATED, message="gone")


@pytest.mark.parametrize("words", LOOKS)
def test_while_a_daemon_notes_everything_there_is_nothing_to_say(dm: Dm, daemon: Told, words: tuple[str, ...]) -> None:
    del daemon
    assert dm(*words).err == ""


@pytest.mark.parametrize("words", LOOKS)
def test_without_a_daemon_it_is_said_of_when_it_is(dm: Dm, lock: StateLock, words: tuple[str, ...]) -> None:
    lock.release()
    assert "no daemon is at work with" in dm(*words).err
    assert "what follows was noted last at 20" in dm(*words).err


def test_programs_are_told_too(dm: Dm, lock: StateLock) -> None:
    lock.release()
    for words in (("get", "-o", "json"), ("describe", "pool", "tank", "-o", "json")):
        assert "no daemon is at work" in json.loads(dm(*words).out)["stale"]


def test_what_is_from_before_a_reboot_is_said_to_be(dm: Dm, lock: StateLock, monkeypatch: pytest.MonkeyPatch) -> None:
    lock.release()
    monkeypatch.setattr(view, "booted_at", lambda: time.time() + 5)
    assert "before this host was started at" in dm("get").err
    said = dm("wait", "device", "base", "--timeout", "0")
    assert (said.code, "before this host was started" in said.err) == (4, True)


@pytest.mark.parametrize("words", LOOKS)
def test_a_daemon_that_does_not_answer_is_said(dm: Dm, lock: StateLock, words: tuple[str, ...]) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        lock.announce(f"http://127.0.0.1:{deaf.getsockname()[1]}/")
        said = dm(*words)
    assert "does not answer at http://127.0.0.1:" in said.err
    assert "what follows was noted last at 20" in said.err
    assert dm("wait", "device", "base", "--timeout", "0").code == 4, "it may be long past"


def test_while_nothing_can_be_noted_the_daemons_own_word_is_shown(dm: Dm, daemon: Told) -> None:
    daemon.trouble = "store x: database or disk is full"
    gone(daemon)
    said = dm("get", "devices", "tank/web")
    assert "NotCreated" in said.out
    assert "nothing can be noted: store x: database or disk is full" in said.err
    assert "since 2023-11-14 22:13:20" in said.err
    assert "NotCreated" in dm("describe", "device", "tank/web").out
    assert "NotCreated" in dm("tree").out
    assert "nothing can be noted" in dm("events").err
    assert dm("wait", "device", "tank/web", "--timeout", "0").code == 4


def test_what_a_daemon_that_has_just_started_did_not_look_at_is_not_shown_as_of_now(dm: Dm, daemon: Told) -> None:
    daemon.is_ready = False
    daemon.statuses = {}
    assert "Converged" not in dm("get").out
    assert "it was not looked at yet" in dm("describe", "device", "tank/web").out


def test_an_item_says_as_much_as_the_status_that_it_was_made_of(store: Store) -> None:
    for key, status in store.statuses().items():
        back = status_of(item(key.kind, str(key), None, status))
        assert back is not None
        assert replace(back, since=0.0) == replace(status, since=0.0, beneath=None)
        assert abs(back.since - status.since) < 0.001
