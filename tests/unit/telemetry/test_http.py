from __future__ import annotations

import http.client
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

import reconciler.telemetry.page as page_module
from reconciler.telemetry.http.routes import Limits, ListenError, StatusServer
from reconciler.telemetry.http.server import HEAD_LIMIT
from reconciler.telemetry.metrics import Metrics

API = ["/api/v1/daemon", "/api/v1/pools", "/api/v1/devices", "/api/v1/events"]
PATHS = ["/", "/metrics", "/healthz", "/readyz", *API]


class Provider:
    def __init__(self) -> None:
        self.is_ready = True
        self.revision = 1
        self.failing = False
        self.hold = threading.Event()
        self.entered = threading.Event()
        self.hold.set()

    def healthy(self) -> tuple[bool, str]:
        self.entered.set()
        self.hold.wait(30)
        return True, "turned 0.2 s ago"

    def ready(self) -> tuple[bool, str]:
        return self.is_ready, "ready" if self.is_ready else "the first pass\nis not done"

    def daemon(self) -> list[dict[str, Any]]:
        return [{"kind": "Daemon"}]

    def items_revision(self) -> str:
        return f"items-{self.revision}"

    def events_revision(self) -> str:
        return f"events-{self.revision}"

    def items(self, kind: str) -> list[dict[str, Any]]:
        if self.failing:
            raise RuntimeError("secret detail")
        return [{"kind": kind, "metadata": {"name": "tank"}, "spec": None, "status": None}]

    def events(self) -> list[dict[str, Any]]:
        return [{"kind": "Event"}]


@pytest.fixture
def provider() -> Provider:
    return Provider()


def serve(provider: Provider, limits: Limits | None = None) -> StatusServer:
    registry = CollectorRegistry()
    Metrics(registry)
    server = StatusServer(("127.0.0.1", 0), provider, registry, limits)
    server.start()
    return server


@pytest.fixture
def server(provider: Provider) -> Iterator[StatusServer]:
    server = serve(provider)
    yield server
    provider.hold.set()
    server.stop()


class Answer:
    def __init__(
        self, server: StatusServer, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        try:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            self.status = response.status
            self.headers = response.headers
            self.body = response.read()
        finally:
            connection.close()

    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json"
        assert self.body.count(b"\n") == 1
        return json.loads(self.body)


def raw(server: StatusServer, sent: bytes) -> bytes:
    """What comes back until the server ends the connection; empty where it ends it with a reset."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        try:
            connection.sendall(sent)
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionError:
            return b""


def until_accepted(server: StatusServer) -> None:
    """A connection that nobody has accepted yet would end with a reset."""
    deadline = time.monotonic() + 10
    while server._server is None or not server._server._open:
        assert time.monotonic() < deadline


def test_metrics_are_served_in_both_formats(server: StatusServer) -> None:
    text = Answer(server, "/metrics")
    assert text.headers["Content-Type"].startswith("text/plain; version=")
    assert len(list(parse_text(text.body.decode()))) > 20
    open_ = Answer(server, "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert open_.headers["Content-Type"].startswith("application/openmetrics-text")
    parse: Callable[[str], Iterable[Metric]] = parse_openmetrics
    assert len(list(parse(open_.body.decode()))) > 20


def test_health_and_readiness_are_one_line_with_a_status(server: StatusServer, provider: Provider) -> None:
    assert (Answer(server, "/healthz").status, Answer(server, "/healthz").body) == (200, b"turned 0.2 s ago\n")
    assert (Answer(server, "/readyz").status, Answer(server, "/readyz").body) == (200, b"ready\n")
    provider.is_ready = False
    answer = Answer(server, "/readyz")
    assert (answer.status, answer.body) == (503, b"the first pass is not done\n")


def test_records_and_events_have_the_one_shape(server: StatusServer) -> None:
    assert [item["kind"] for item in Answer(server, "/api/v1/pools").json()["items"]] == ["ThinPool"]
    assert [item["kind"] for item in Answer(server, "/api/v1/devices?x=y").json()["items"]] == ["ThinDevice"]
    assert Answer(server, "/api/v1/events").json() == {"items": [{"kind": "Event"}]}


def test_the_first_page_names_every_path(server: StatusServer) -> None:
    page = Answer(server, "/").body.decode()
    assert [path for path in PATHS if path not in page] == []


def test_the_page_is_whole_and_may_load_nothing_but_itself(server: StatusServer) -> None:
    page = Answer(server, "/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    parts = re.findall(r'(?:src|href)="(page/[^"]+)"', page.body.decode())
    assert len(parts) > 3
    parts += [f"page/{path.name}" for path in Path(page_module.__file__).parent.glob("*.js")]
    for part in parts:
        answer = Answer(server, f"/{part}")
        assert (answer.status, bool(answer.body)) == (200, True), part
        assert "://" not in answer.body.decode().replace("http://www.w3.org/2000/svg", ""), part
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
    assert Answer(server, "/page/__init__.py").status == 404
    assert Answer(server, "/page/../http.py").status == 404


@pytest.mark.parametrize("path", ["/api/v1/pools", "/api/v1/devices", "/api/v1/events"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_a_client_has_already_is_not_sent_again(
    server: StatusServer, provider: Provider, path: str, method: str
) -> None:
    tag = Answer(server, path, method).headers["ETag"]
    for known in (tag, f'"other", {tag}'):
        again = Answer(server, path, method, {"If-None-Match": known})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
        assert again.headers["Content-Length"] is None
    assert Answer(server, path, method, {"If-None-Match": '"other"'}).status == 200
    provider.revision = 2
    changed = Answer(server, path, method, {"If-None-Match": tag})
    assert (changed.status, changed.headers["ETag"] != tag) == (200, True)


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_the_body(server: StatusServer, path: str) -> None:
    get, head = Answer(server, path), Answer(server, path, "HEAD")
    assert head.body == b""
    assert head.status == get.status == 200
    if path != "/metrics":
        assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.security("S29")
@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/v1/pools/", "/../etc/passwd", "//metrics/x", "/%6detrics"])
def test_any_other_path_is_not_found(server: StatusServer, path: str) -> None:
    answer = Answer(server, path)
    assert (answer.status, list(answer.json())) == (404, ["error"])


@pytest.mark.security("S28")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "FOO"])
def test_nothing_but_reading_is_allowed(server: StatusServer, method: str) -> None:
    answer = Answer(server, "/api/v1/pools", method)
    assert (answer.status, answer.headers["Allow"], list(answer.json())) == (405, "GET, HEAD", ["error"])


@pytest.mark.security("S36")
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9810", "127.0.0.1.evil.example", "localhost.evil.example"]
)
def test_a_page_whose_name_was_made_to_lead_here_reads_nothing(server: StatusServer, host: str) -> None:
    answer = Answer(server, "/api/v1/pools", headers={"Host": host})
    assert (answer.status, list(answer.json())) == (421, ["error"])
    assert b"evil" not in answer.body


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9810", "localhost:9810", "LOCALHOST", "[::1]:9810", "[::1]", ""]
)
def test_who_asks_by_address_or_as_localhost_is_answered(server: StatusServer, host: str) -> None:
    assert Answer(server, "/api/v1/pools", headers={"Host": host}).status == 200


def test_who_asks_by_the_name_that_it_listens_on_is_answered(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: here)
    server = StatusServer(("status.example", 0), provider, CollectorRegistry())
    server.start()
    monkeypatch.undo()
    try:
        assert Answer(server, "/readyz", headers={"Host": "status.example:9810"}).status == 200
        assert Answer(server, "/readyz", headers={"Host": "other.example:9810"}).status == 421
    finally:
        server.stop()


def test_beyond_loopback_everybody_has_names_for_this_host(provider: Provider) -> None:
    server = StatusServer(("0.0.0.0", 0), provider, CollectorRegistry())  # noqa: S104
    server.start()
    try:
        assert Answer(server, "/readyz", headers={"Host": "web-1.example:9810"}).status == 200
    finally:
        server.stop()


@pytest.mark.security("S37")
@pytest.mark.parametrize("path", ["/", "/metrics", "/nothing"])
def test_every_answer_says_what_browsers_must_not_do_with_it(server: StatusServer, path: str) -> None:
    headers = Answer(server, path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "dm-reconciler"


@pytest.mark.security("S31")
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"GET / HTTP/x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
        (b"GET /metrics HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\nAccept: */*\n\n", b"200"),
        (b"GET /\r\n\r\n", b"200"),
    ],
)
def test_garbage_is_answered_as_such(server: StatusServer, sent: bytes, status: bytes) -> None:
    head = raw(server, sent).split(b"\r\n", 1)[0]
    assert head.split()[:2] == [b"HTTP/1.1", status]


@pytest.mark.security("S31")
def test_a_head_that_has_no_end_is_cut_off(server: StatusServer) -> None:
    assert raw(server, b"GET /" + b"a" * 1_000_000)[:12] in {b"", b"HTTP/1.1 431"}
    assert Answer(server, "/readyz").status == 200


@pytest.mark.parametrize(("more", "status"), [(0, b"HTTP/1.1 200"), (1, b"HTTP/1.1 431")])
def test_a_head_has_at_most_16_kib(server: StatusServer, more: int, status: bytes) -> None:
    begin, end = b"GET /readyz HTTP/1.1\r\nX-Long: ", b"\r\n\r\n"
    head = begin + b"a" * (HEAD_LIMIT - len(begin + end) + more) + end
    assert raw(server, head)[:12] == status


@pytest.mark.security("S30")
def test_nothing_of_a_request_gets_into_the_head_of_its_answer(server: StatusServer) -> None:
    accept = b"application/openmetrics-text; version=1.0.0\r\n Set-Cookie: a=b"
    answer = raw(server, b"GET /metrics HTTP/1.1\r\nAccept: " + accept + b"\r\n\r\n")
    head = answer.split(b"\r\n\r\n", 1)[0]
    assert answer.startswith(b"HTTP/1.1 200")
    assert not [line for line in head.split(b"\n") if line.strip().startswith(b"Set-Cookie")]


@pytest.mark.security("S35")
def test_a_failure_of_ours_tells_the_log_and_not_the_client(
    server: StatusServer, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.failing = True
    answer = Answer(server, "/api/v1/pools")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "secret detail" in caplog.text


@pytest.mark.security("S32")
def test_slow_clients_do_not_hold_up_others(server: StatusServer) -> None:
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(20)]
    try:
        for connection in slow:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        assert Answer(server, "/readyz").status == 200
    finally:
        for connection in slow:
            connection.close()


def test_a_client_that_never_comes_to_its_end_is_ended(provider: Provider) -> None:
    server = serve(provider, Limits(head_seconds=0.2))
    try:
        start = time.monotonic()
        assert raw(server, b"GET /metrics HTTP/1.1\r\n").startswith(b"HTTP/1.1 408")
        assert raw(server, b"") == b""
        assert time.monotonic() - start < 5
    finally:
        server.stop()


@pytest.mark.security("S32")
def test_a_client_that_drips_does_not_win_time(provider: Provider) -> None:
    server = serve(provider, Limits(head_seconds=0.3))
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=0.05) as connection:
            start = time.monotonic()
            answer = b""
            while not answer and time.monotonic() - start < 10:
                connection.sendall(b"x")
                try:
                    answer = connection.recv(100)
                except TimeoutError:
                    continue
        assert answer.startswith(b"HTTP/1.1 408")
    finally:
        server.stop()


@pytest.mark.security("S32")
def test_a_connection_too_many_is_refused_and_the_next_is_not(provider: Provider) -> None:
    server = serve(provider, Limits(connections=2))
    try:
        first, second = (socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(2))
        with first, second:
            answer = Answer(server, "/readyz")
            assert (answer.status, answer.json()) == (503, {"error": "too many connections"})
            second.shutdown(socket.SHUT_WR)
            assert second.recv(1) == b""  # ended on the other side too: its place is free, or will be in a moment
            deadline = time.monotonic() + 10
            while Answer(server, "/readyz").status != 200:
                assert time.monotonic() < deadline
    finally:
        server.stop()


def test_a_client_that_leaves_early_is_no_error(server: StatusServer, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert Answer(server, "/readyz").status == 200
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_stopping_is_quick_with_clients_that_say_nothing(provider: Provider) -> None:
    server = serve(provider)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as idle:
        idle.sendall(b"GET")
        until_accepted(server)
        start = time.monotonic()
        server.stop()
        assert time.monotonic() - start < 1
        assert idle.recv(1) == b""


def test_stopping_is_quick_while_an_answer_hangs(provider: Provider) -> None:
    server = serve(provider)
    provider.hold.clear()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert provider.entered.wait(10)
        start = time.monotonic()
        server.stop()
        assert time.monotonic() - start < 1
    provider.hold.set()


def test_an_answer_under_way_gets_through_a_stop(provider: Provider) -> None:
    server = serve(provider)
    provider.hold.clear()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert provider.entered.wait(10)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        provider.hold.set()
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        stopping.join(10)


def test_after_a_stop_nobody_listens_and_a_start_listens_again(provider: Provider) -> None:
    server = serve(provider)
    port = server.port
    server.stop()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
    server.start()
    try:
        assert Answer(server, "/readyz").status == 200
    finally:
        server.stop()


def test_constructing_listens_to_nothing_and_an_address_in_use_is_said_at_the_start(
    server: StatusServer, provider: Provider
) -> None:
    second = StatusServer(("127.0.0.1", server.port), provider, CollectorRegistry())
    with pytest.raises(ListenError, match="somebody does already"):
        second.start()
    second.stop()


def test_an_ipv6_address_is_served(provider: Provider) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("THIS HOST HAS NO IPv6: serving on ::1 was not tried")
    server = StatusServer(("::1", 0), provider, CollectorRegistry())
    server.start()
    try:
        assert server.url == f"http://[::1]:{server.port}/"
        with socket.create_connection(("::1", server.port), timeout=10) as connection:
            connection.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
    finally:
        server.stop()
