"""Serves one request for each connection, with limits; independent of what is served.

It is made for hosts where anybody may connect to loopback: a head has a maximal size and one deadline as a whole, an
answer has a deadline, and the number of connections is limited. An idle connection costs one thread for seconds at
most.

Also parses the addresses to listen on: `--listen HOST:PORT`.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import logging
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socketserver import BaseServer, TCPServer, ThreadingMixIn
from threading import Condition
from typing import Any, Final, cast

Address = tuple[str, int]

_FORM: Final = "write HOST:PORT, such as 127.0.0.1:9810 or [::1]:9810"


class ListenError(Exception):
    """It is not possible to listen on this address. The message says why, and what to do next."""


def parse_listen(text: str) -> Address:
    """Parses `HOST:PORT`, with an IPv6 address in brackets. Port 0 takes any free port.

    Raises ValueError, with what would be right. A missing host does not mean "everywhere", which has to be written out.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} has no port: {_FORM}")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError(f"{text!r}: the port must be a number from 0 to 65535: {_FORM}")
    if not host:
        raise ValueError(f"{text!r} has no host: write 127.0.0.1:{port}, or 0.0.0.0:{port} to listen on every address")
    return _host(text, host), int(port)


def _host(text: str, host: str) -> str:
    bracketed = host.startswith("[") and host.endswith("]")
    name = host[1:-1] if bracketed else host
    if bracketed != (":" in name):
        raise ValueError(f"{text!r}: an IPv6 address, and only that, is put in brackets: {_FORM}")
    if not name or any(char.isspace() or char in "[]/@" for char in name) or not _can_be_asked_for(name):
        raise ValueError(f"{text!r}: {host!r} is no host: {_FORM}")
    return name


def _can_be_asked_for(name: str) -> bool:
    """Whether a resolver accepts the name; it may have labels that are empty or too long."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def show(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(address: Address, backlog: int) -> socket.socket:
    """A socket that listens on the address. Raises ListenError."""
    host, port = address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = found[0]
        # An IPv6 wildcard listens on IPv4 too, as everywhere else; a single IPv6 address has no IPv4 counterpart.
        both = family is socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(where[:2], family=family, backlog=backlog, dualstack_ipv6=both)
    except OSError as error:
        raise ListenError(f"cannot listen on {show(address)}: {_why(error, port)}") from error


def _why(error: OSError, port: int) -> str:
    if isinstance(error, socket.gaierror):
        return "nothing is known by that host name; write an address of this host, such as 127.0.0.1"
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"somebody does already. See who with: ss -ltnp 'sport = :{port}'; "
                "stop it, or give another address with --listen HOST:PORT"
            )
        case errno.EADDRNOTAVAIL:
            return "this host has no such address. See which it has with: ip -brief address"
        case errno.EACCES:
            return "not permitted. Take a port from 1024 up, or run as root"
        case _:
            return f"{error.strerror or error}. Give another address with --listen HOST:PORT"


def is_loopback(listening: socket.socket) -> bool:
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


def is_own_name(host: str, own: str) -> bool:
    """Whether a Host header names this host: an address, localhost, or `own`, the name that it listens on.

    A page from elsewhere can make its own name resolve to 127.0.0.1, and would then be able to read everything as if
    from its own server (DNS rebinding). But it cannot choose the name in the Host header.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    name = name.removeprefix("[").removesuffix("]").lower()
    if name in {"", "localhost", own.lower()}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


_LOG = logging.getLogger(__name__)

HEAD_LIMIT: Final = 16 * 1024
"""The largest request line and headers, in bytes; Prometheus and browsers send less than 2 KiB."""
_PATIENCE: Final = 0.25
"""Seconds that a client has to send its request while others wait for a connection."""
_LAST: Final = 0.1
"""Seconds for threads to notice that their connection was closed; one inside `answer` does not, and is left."""
_SECURITY: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Limits:
    connections: int = 32
    head_seconds: float = 5.0
    """Seconds from the connection to the end of the head, however many pieces it comes in."""
    answer_seconds: float = 10.0
    """Seconds in which the client must take the whole answer."""


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    accept: str
    host: str
    """The Host header, with its port; empty if there is none."""
    known: str = ""
    """The tags of the If-None-Match header, which name the answers that the client already has."""


@dataclass(frozen=True, slots=True)
class Response:
    status: HTTPStatus
    type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    """Headers in addition to those of every answer, or instead of them."""


Answer = Callable[[Request], Response]


def text(status: HTTPStatus, line: str) -> Response:
    return Response(status, "text/plain; charset=utf-8", f"{line.rstrip()}\n".encode())


def as_json(status: HTTPStatus, value: Any) -> Response:
    return Response(status, "application/json", (json.dumps(value, separators=(",", ":")) + "\n").encode())


def failure(status: HTTPStatus, why: str, **headers: str) -> Response:
    """An error as one line of JSON."""
    answer = as_json(status, {"error": why})
    answer.headers.update(headers)
    return answer


class Server(ThreadingMixIn, TCPServer):
    """Answers each request in its own thread, with the result of `answer`."""

    daemon_threads = True  # a thread that hangs in `answer` must not keep the daemon from ending

    def __init__(self, listening: socket.socket, answer: Answer, limits: Limits) -> None:
        BaseServer.__init__(self, listening.getsockname(), _Handler)
        self.socket = listening
        self.answer = answer
        self.limits = limits
        self._open: dict[socket.socket, float | None] = {}
        """Since when each open connection is idle, the longest first; None once its request is complete."""
        self._changed = Condition()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            if len(self._open) >= self.limits.connections:
                self._end_the_idlest()
            full = len(self._open) >= self.limits.connections
            if not full:
                self._open[request] = time.monotonic()
        if not full:
            super().process_request(request, client_address)
            return
        _refuse(request)
        self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection. socketserver calls this for every connection, however it ended."""
        super().shutdown_request(request)
        with self._changed:
            self._open.pop(request, None)
            self._changed.notify_all()

    def has_asked(self, request: socket.socket) -> None:
        """Marks the connection as not idle, because its head is complete."""
        with self._changed:
            if request in self._open:
                self._open[request] = None

    def _end_the_idlest(self) -> None:
        """Evicts the connection that has been idle longest without a complete request."""
        idle = next((one for one, since in self._open.items() if since is not None), None)
        since = None if idle is None else self._open[idle]
        if idle is None or since is None or time.monotonic() - since < _PATIENCE:
            return
        del self._open[idle]
        try:
            idle.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            _LOG.debug("connection ended by itself: %s", error)

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request
        error = sys.exception()
        if isinstance(error, OSError):
            _LOG.debug("connection of %s ended: %s", client_address, error)
            return
        _LOG.error("a request of %s failed", client_address, exc_info=error)

    def end_connections(self, grace: float) -> None:
        """Lets present answers finish within `grace` seconds, and closes everything else at once."""
        self._cut(socket.SHUT_RD)
        with self._changed:
            if self._changed.wait_for(lambda: not self._open, grace):
                return
        self._cut(socket.SHUT_RDWR)
        with self._changed:
            self._changed.wait_for(lambda: not self._open, _LAST)

    def _cut(self, how: int) -> None:
        with self._changed:
            for connection in self._open:
                try:
                    connection.shutdown(how)
                except OSError as error:
                    _LOG.debug("connection ended by itself: %s", error)


def _refuse(connection: socket.socket) -> None:
    """Answers that there are too many connections, without a thread and without waiting."""
    connection.settimeout(0)
    body = b'{"error":"too many connections"}\n'
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Retry-After: 1\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        connection.sendall(head.encode() + body)
    except OSError as error:
        _LOG.debug("a connection too many ended by itself: %s", error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Otherwise, what is no request counts as HTTP/0.9, and gets an answer without a head.
    default_request_version = "HTTP/1.0"

    def handle(self) -> None:
        head = self._read_head()
        if head is None:
            return
        cast(Server, self.server).has_asked(self.connection)
        self.connection.settimeout(self._limits.answer_seconds)  # Python applies it to one sendall as a whole
        self.rfile = BytesIO(head)
        self.raw_requestline = self.rfile.readline()
        # For what is no request, parse_request itself answers, through send_error.
        if self.parse_request():
            self._answer()

    @property
    def _limits(self) -> Limits:
        return cast(Server, self.server).limits

    def _read_head(self) -> bytes | None:
        """Reads up to the empty line. None if the client is gone, or was already answered."""
        deadline = time.monotonic() + self._limits.head_seconds
        head = b""
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            if len(head) >= HEAD_LIMIT:
                self._reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a request has at most {HEAD_LIMIT} bytes")
                return None
            try:
                self.connection.settimeout(max(deadline - time.monotonic(), 0.001))
                piece = self.connection.recv(min(4096, HEAD_LIMIT - len(head)))
            except TimeoutError:
                if head:
                    self._reject(HTTPStatus.REQUEST_TIMEOUT, "the request did not come to its end in time")
                return None
            if not piece:
                return None
            head += piece
        return head

    def _answer(self) -> None:
        if self.command not in {"GET", "HEAD"}:
            self._write(failure(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are answered", Allow="GET, HEAD"))
            return
        # Folded header lines keep their line breaks, and a part of this one is sent back in the head of the answer.
        accept = " ".join((self.headers.get("Accept") or "").split())
        path = self.path.partition("?")[0]
        try:
            host, known = self.headers.get("Host") or "", self.headers.get("If-None-Match") or ""
            response = cast(Server, self.server).answer(Request(path, accept, host, known))
        except Exception:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the rest
            _LOG.exception("%s could not be answered", path)
            response = failure(HTTPStatus.INTERNAL_SERVER_ERROR, "this could not be answered; the log says why")
        self._write(response)

    def _reject(self, status: HTTPStatus, why: str) -> None:
        """Answers what never became a request."""
        self.requestline, self.request_version, self.command = "", self.protocol_version, ""
        self._write(failure(status, why))

    def _write(self, response: Response) -> None:
        self.close_connection = True
        self.send_response(response.status)
        headers = {
            **_SECURITY,
            "Content-Type": response.type,
            "Content-Length": str(len(response.body)),
            "Connection": "close",
            **response.headers,
        }
        if response.status is HTTPStatus.NOT_MODIFIED:  # a length would be that of the body, which is not sent
            del headers["Content-Length"]
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and response.status is not HTTPStatus.NOT_MODIFIED:
            self.wfile.write(response.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers invalid requests in JSON; the base class would do so in HTML."""
        del explain
        self.command = self.command or ""
        self._write(failure(HTTPStatus(code), message or HTTPStatus(code).phrase))

    def version_string(self) -> str:
        return "dm-reconciler"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the base class gives it
        _LOG.debug("%s " + format, self.client_address[0], *args)
