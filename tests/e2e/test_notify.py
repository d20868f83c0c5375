"""What systemd hears of the daemon in its own time: how long that takes for a turn is no matter of it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import pytest

from tests.testing.environment import House, a_house

pytestmark = pytest.mark.soak

PATIENCE = 900_000
"""Microseconds within which systemd wants to hear of a service, or it is replaced."""


@pytest.fixture
def systemd(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    address = str(house.root / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", str(PATIENCE))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(address)
        ours.settimeout(30)
        yield ours


@pytest.fixture
def house() -> Iterator[House]:
    with a_house() as house:
        yield house


def heard(systemd: socket.socket, beats: int) -> list[str]:
    """Everything until it was told so often that the daemon is alive."""
    said: list[str] = []
    while said.count("WATCHDOG=1") < beats:
        said += systemd.recv(4096).decode().splitlines()
    return said


def test_systemd_hears_in_time_whatever_the_resync_is_and_of_no_reload_before_the_start(
    house: House, systemd: socket.socket
) -> None:
    (house.manifests / "broken.yaml").write_text("kind: Nothing\n", encoding="utf-8")
    house.start("--resync", "10m")
    assert set(heard(systemd, 3)) == {"WATCHDOG=1"}
    assert house.process is not None
    house.process.send_signal(signal.SIGHUP)
    assert set(heard(systemd, 3)) == {"WATCHDOG=1"}
    assert "manifests in" in house.tail()
    (house.manifests / "broken.yaml").unlink()
    while "READY=1" not in heard(systemd, 1):
        assert house.process.poll() is None
    house.process.send_signal(signal.SIGHUP)
    while "RELOADING=1" not in heard(systemd, 1):
        assert house.process.poll() is None
    assert house.stop() == 0
