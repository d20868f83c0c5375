"""What systemd hears of the daemon in its own time: how long that takes for a turn is no matter of it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import pytest

from tests.testing.environment import Environment, an_environment

pytestmark = pytest.mark.soak

PATIENCE = 900_000
"""Microseconds within which systemd wants to hear of a service, or it is replaced."""


@pytest.fixture
def systemd(env: Environment, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    address = str(env.root / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", str(PATIENCE))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(address)
        ours.settimeout(30)
        yield ours


@pytest.fixture
def env() -> Iterator[Environment]:
    with an_environment() as env:
        yield env


def heard(systemd: socket.socket, beats: int) -> list[str]:
    """Everything until it was told so often that the daemon is alive."""
    said: list[str] = []
    while said.count("WATCHDOG=1") < beats:
        said += systemd.recv(4096).decode().splitlines()
    return said


def test_systemd_hears_in_time_whatever_the_resync_is_and_of_no_reload_before_the_start(
    env: Environment, systemd: socket.socket
) -> None:
    (env.manifests / "broken.yaml").write_text("kind: Nothing\n", encoding="utf-8")
    env.start("--resync", "10m")
    assert set(heard(systemd, 3)) == {"WATCHDOG=1"}
    assert env.process is not None
    env.process.send_signal(signal.SIGHUP)
    assert set(heard(systemd, 3)) == {"WATCHDOG=1"}
    assert "manifests in" in env.tail()
    (env.manifests / "broken.yaml").unlink()
    while "READY=1" not in heard(systemd, 1):
        assert env.process.poll() is None
    env.process.send_signal(signal.SIGHUP)
    while "RELOADING=1" not in heard(systemd, 1):
        assert env.process.poll() is None
    assert env.stop() == 0
