from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.telemetry.sd_notify import Notifier


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(10)
        yield channel


def notifier(systemd: socket.socket) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": str(systemd.getsockname())}, monotonic_ns=lambda: 1_234_567_890)


def test_each_word_of_the_protocol_arrives(systemd: socket.socket) -> None:
    us = notifier(systemd)
    us.ready()
    us.reloading()
    us.status("3 pools,\n40 devices")
    us.watchdog()
    us.stopping()
    assert [systemd.recv(4096) for _ in range(5)] == [
        b"READY=1",
        b"RELOADING=1\nMONOTONIC_USEC=1234567",
        b"STATUS=3 pools, 40 devices",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("")  # the kernel chooses an abstract name
        channel.settimeout(10)
        Notifier({"NOTIFY_SOCKET": "@" + channel.getsockname()[1:].decode()}).ready()
        assert channel.recv(4096) == b"READY=1"


def test_without_systemd_nothing_is_done(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    Notifier({}).ready()
    assert caplog.records == []


@pytest.mark.parametrize("address", ["/nowhere/notify", "vsock:2:1234", "/" + "x" * 200, "@\ud800"])
def test_what_cannot_be_sent_is_lost_and_said_at_debug_only(address: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    Notifier({"NOTIFY_SOCKET": address}).ready()
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]
    assert "READY=1" in caplog.text


def test_a_queue_that_is_full_does_not_hold_us(systemd: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                flood.sendto(b"x", systemd.getsockname())
        notifier(systemd).watchdog()
    assert "WATCHDOG=1" in caplog.text


def test_the_watchdogs_interval_is_told_in_seconds() -> None:
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog_interval == 30.0
    assert Notifier({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_interval == 30.0


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
    ],
)
def test_nobody_watches(environ: dict[str, str]) -> None:
    assert Notifier(environ).watchdog_interval is None
