"""What people and their programs send: command lines, variables, HTTP, systemd's variables."""

from __future__ import annotations

import io
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from prometheus_client import CollectorRegistry

from reconciler.cli.main import main
from reconciler.cli.params import parse_duration
from reconciler.sandbox import SandboxError
from reconciler.sandbox.settings import memory_bytes
from reconciler.sandbox.wire import Decoder, frame
from reconciler.telemetry.http.routes import StatusServer
from reconciler.telemetry.http.server import Limits, parse_listen, show
from reconciler.telemetry.metrics import Metrics
from reconciler.telemetry.sd_notify import Notifier
from tests.fuzz.target import Target, refuses, text_of


def _duration(data: bytes) -> None:
    text = text_of(data)
    if not refuses(lambda: parse_duration(text), ValueError, echoed=text):
        assert 0 <= parse_duration(text) <= 10 * 366 * 24 * 3600


def _listen(data: bytes) -> None:
    text = text_of(data)
    if not refuses(lambda: parse_listen(text), ValueError, echoed=text):
        address = parse_listen(text)
        assert parse_listen(show(address)) == address


def _memory(data: bytes) -> None:
    text = text_of(data)
    if not refuses(lambda: memory_bytes(text), SandboxError, echoed=text):
        assert memory_bytes(text) >= 128 << 20


def _wire(data: bytes) -> None:
    """Pieces of any length give the same frames as the whole."""
    whole, pieces = Decoder(), Decoder()
    frames = whole.feed(data)
    cut = [each for start in range(0, len(data), 7) for each in pieces.feed(data[start : start + 7])]
    assert frames == cut
    assert data.startswith(b"".join(frame(kind, payload) for kind, payload in frames))


def _notify(data: bytes) -> None:
    address, _, rest = text_of(data).partition("\n")
    interval, _, pid = rest.partition("\n")
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": interval, "WATCHDOG_PID": pid or str(os.getpid())})
    notifier.status(rest)
    assert notifier.watchdog_interval is None or notifier.watchdog_interval > 0


# The command line


_COMMANDS = (
    "get",
    "describe",
    "tree",
    "events",
    "wait",
    "forget",
    "validate",
    "schema",
    "plan",
    "apply",
    "doctor",
    "run",
)
_NEVER = ("--help", "--version")
_EMPTY = tempfile.TemporaryDirectory(prefix="fuzz-")


def said(words: list[str], variables: dict[str, str]) -> None:
    """One line, or several of manifests; one of the promised codes; nothing that a terminal would take for its own."""
    out, err = io.StringIO(), io.StringIO()
    usual = {"DM_RECONCILER_WAIT_TIMEOUT": "0", **variables}
    with mock.patch.dict(os.environ, usual), redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
    assert code in {0, 1, 2, 3, 4}, code
    assert "Traceback" not in err.getvalue()
    if code:
        lines = err.getvalue().splitlines()
        assert lines or out.getvalue(), "nothing is said"
        assert all(line.isprintable() for line in lines), ascii(err.getvalue())


def _command(data: bytes) -> None:
    """Words, NUL between them as execve has it, for each command, in a place where there is nothing to be done."""
    words = text_of(data).split("\x00")[:20]
    place = Path(_EMPTY.name, "state")
    name = words[0] if words[0] in _COMMANDS[:8] else "get"
    said(
        [name, *words[1:], "--state-dir", str(place)] if name not in {"validate", "schema"} else [name, *words[1:]], {}
    )


def _variable(data: bytes) -> None:
    text = text_of(data).replace("\x00", "")
    name, _, value = text.partition("=")
    options = ("STATE_DIR", "OUTPUT", "LIMIT", "TIMEOUT", "WATCH", "MANIFESTS", "NODE")
    option = name if name in options else options[len(text) % len(options)]
    value = value if option != "STATE_DIR" else _EMPTY.name + "/" + value
    for command in ("get", "events"):
        said([command], {f"DM_RECONCILER_{command.upper()}_{option}": value})


# HTTP


class Provider:
    def healthy(self) -> tuple[bool, str]:
        return True, "ok"

    def ready(self) -> tuple[bool, str]:
        return True, "ok"

    def daemon(self) -> list[dict[str, Any]]:
        return [{"kind": "Daemon", "metadata": {"name": "web-1"}, "spec": None, "status": {}}]

    def items_revision(self) -> str:
        return "1"

    def events_revision(self) -> str:
        return "1"

    def items(self, kind: str) -> list[dict[str, Any]]:
        return [{"kind": kind, "metadata": {"name": "tank"}, "spec": None, "status": None}]

    def events(self) -> list[dict[str, Any]]:
        return []


_SERVER: list[StatusServer] = []


@contextmanager
def _serving() -> Iterator[None]:
    registry = CollectorRegistry()
    Metrics(registry)
    server = StatusServer(("127.0.0.1", 0), Provider(), registry, Limits(head_seconds=0.5, answer_seconds=1.0))
    server.start()
    _SERVER.append(server)
    try:
        yield
    finally:
        _SERVER.pop()
        server.stop()


def ask(data: bytes) -> bytes:
    """All that is answered. What is sent ends there: no more comes."""
    with socket.create_connection(("127.0.0.1", _SERVER[-1].port), timeout=5) as connection:
        answer = b""
        with suppress(OSError):  # refused in the midst: the answer came before
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                answer += piece
        return answer


def _http(data: bytes) -> None:
    """Any bytes get an answer of HTTP or a closed connection, and the next who asks is answered."""
    answer = ask(data)
    assert not answer or answer.startswith(b"HTTP/1.1 "), answer[:100]
    if answer:
        head, _, body = answer.partition(b"\r\n\r\n")
        code = int(answer.split()[1])
        assert code in {200, 400, 404, 405, 408, 414, 421, 431, 503, 505}, code
        assert b"Traceback" not in answer
        assert f"Content-Length: {len(body)}".encode() in head or data.startswith(b"HEAD ")
    assert ask(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def _metrics(data: bytes) -> None:
    """The header that says what is understood."""
    accept = data.replace(b"\r", b"").replace(b"\n", b"").replace(b"\x00", b"")
    answer = ask(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: " + accept + b"\r\n\r\n")
    assert answer.split()[1] in {b"200", b"400", b"431"}, answer[:100]


logging.getLogger("reconciler").addHandler(logging.NullHandler())
_HTTP_WORDS = (
    *(b"GET ", b"HEAD ", b"POST ", b"OPTIONS * ", b" HTTP/1.1\r\n", b" HTTP/9.9\r\n", b"Host: 127.0.0.1\r\n", b"\r\n\r\n", b"\n\n"),
    *(b"/metrics", b"/healthz", b"/api/v1/pools", b"?a=b", b"//x", b"/%2e%2e/", b"http://[::1", b"Accept: ", b"\r\n "),
    *(b"Content-Length: 99999\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n"),
)  # fmt: skip
_OPTIONS = (
    b"\x00-o\x00json",
    b"\x00--limit\x00",
    b"\x00--",
    b"\x00-",
    b"pool",
    b"device",
    b"tank/a",
    b"\x00--yes",
    b"get",
    b"wait",
)

TARGETS = (
    Target("duration", _duration, (b"ms", b"s", b"m", b"h", b".", b"1.5h"), share=2),
    Target("listen", _listen, (b"127.0.0.1:", b"[::1]:", b":", b"65535", b"65536", b"[", b"]", b"%eth0")),
    Target("memory", _memory, (b"M", b"GiB", b" ")),
    Target("wire", _wire, (bytes([1, 0, 0, 0, 0]), bytes([3, 255, 255, 255, 255]))),
    Target("notify", _notify, (b"@", b"/run/systemd/notify", b"\n30000000\n"), share=0.5),
    Target("command", _command, _OPTIONS, seconds=5, share=0.05),
    Target("variable", _variable, (b"OUTPUT=json", b"LIMIT=", b"TIMEOUT=", b"NODE="), seconds=5, share=0.05),
    Target("http", _http, _HTTP_WORDS, seconds=5, share=0.05, around=_serving),
    Target(
        "accept",
        _metrics,
        (b"application/openmetrics-text", b";version=", b";q=", b",", b"*/*"),
        seconds=5,
        share=0.02,
        around=_serving,
    ),
)
