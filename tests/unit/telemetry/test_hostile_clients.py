"""Clients that connect and say nothing, or never come to an end: who asks is answered all the same."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from reconciler.telemetry.http.routes import StatusServer
from reconciler.telemetry.http.server import Limits
from tests.unit.telemetry.test_http import Answer, Provider, serve


@pytest.fixture
def server() -> Iterator[StatusServer]:
    server = serve(Provider(), Limits(connections=8, head_seconds=30.0))
    yield server
    server.stop()


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\n", b"X" * 4000], ids=["nothing", "half", "much"])
def test_many_who_never_ask_do_not_keep_one_who_does_from_its_answer(server: StatusServer, said: bytes) -> None:
    with ExitStack() as held:
        for _ in range(40):
            one = held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            with suppress(OSError):  # one too many, refused at once
                one.sendall(said)
        time.sleep(0.3)  # the patience that everybody is given
        for _ in range(5):
            assert Answer(server, "/healthz").status == 200


def test_one_who_has_asked_is_not_sent_away_for_another() -> None:
    provider = Provider()
    server = serve(provider, Limits(connections=1, head_seconds=30.0))
    try:
        provider.hold.clear()
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as first:
            first.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert provider.entered.wait(5)
            time.sleep(0.3)
            assert Answer(server, "/healthz").status == 503
            provider.hold.set()
            assert first.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        provider.hold.set()
        server.stop()
