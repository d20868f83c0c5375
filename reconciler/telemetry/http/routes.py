"""What is served over HTTP: docs/reference/http.md. It is read-only; no answer makes a kernel call or waits for one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from threading import Thread
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from reconciler.telemetry.collector import Exposition
from reconciler.telemetry.http.server import (
    Address,
    Limits,
    ListenError,
    Request,
    Response,
    Server,
    as_json,
    bind,
    failure,
    is_loopback,
    is_own_name,
    parse_listen,
    show,
    text,
)
from reconciler.telemetry.page import POLICY, PageFile, page_files

__all__ = ["Limits", "ListenError", "StatusProvider", "StatusServer", "parse_listen"]

_LOG = logging.getLogger(__name__)
_POLL = 0.1
"""Seconds until the accepting thread notices that it is to stop."""
_GRACE = 0.4
"""Seconds that present answers have when the server stops; with all else, that takes less than a second."""
_BACKLOG = 64


class StatusProvider(Protocol):
    """The source of the answers. Several threads call it at a time; it must neither block nor access the kernel."""

    def healthy(self) -> tuple[bool, str]:
        """Whether the reconciler goes round, and a line that says so or why not."""

    def ready(self) -> tuple[bool, str]:
        """Whether what is served is complete, and a line that says so or why not."""

    def daemon(self) -> list[dict[str, Any]]:
        """The reconciler itself, as one item of the kind Daemon."""

    def items_revision(self) -> str:
        """A revision that differs whenever `items` does. It must be cheap, as open pages ask for it all the time."""

    def events_revision(self) -> str:
        """A revision that differs whenever `events` does."""

    def items(self, kind: str) -> list[dict[str, Any]]:
        """All records of the kind (ThinPool or ThinDevice), in the shape of `model.conditions.item`."""

    def events(self) -> list[dict[str, Any]]:
        """The last events, the newest last, in the shape of `model.conditions.event_item`."""


class StatusServer:
    """The HTTP server, which listens from `start` to `stop`."""

    def __init__(
        self, address: Address, provider: StatusProvider, registry: CollectorRegistry, limits: Limits | None = None
    ) -> None:
        self._address = address
        self._answer = Routes(provider, registry)
        self._limits = limits or Limits()
        self._server: Server | None = None
        self._thread: Thread | None = None

    @property
    def port(self) -> int:
        """The port that the server listens on: the one that was asked for, or the free one that it took for 0."""
        if self._server is None:
            return self._address[1]
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{show((self._address[0], self.port))}/"

    def start(self) -> None:
        """Starts to listen. Raises ListenError if that is not possible."""
        if self._server is not None:
            raise RuntimeError("the server is started already")
        listening = bind(self._address, _BACKLOG)
        # On other addresses people use any name that they gave this host. On loopback, only a foreign page (DNS
        # rebinding) does.
        answer = self._only_by_own_name if is_loopback(listening) else self._answer
        self._server = Server(listening, answer, self._limits)
        self._thread = Thread(target=self._server.serve_forever, args=(_POLL,), name="http", daemon=True)
        self._thread.start()
        _LOG.info("listening on %s", self.url)

    def _only_by_own_name(self, request: Request) -> Response:
        if is_own_name(request.host, self._address[0]):
            return self._answer(request)
        why = "asked for under a name that is not this host's: use 127.0.0.1, localhost, or the name given to --listen"
        return failure(HTTPStatus.MISDIRECTED_REQUEST, why)

    def stop(self) -> None:
        """Stops listening, within a second. Does nothing if the server does not listen."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self._server = self._thread = None
        server.shutdown()
        server.server_close()
        server.end_connections(_GRACE)
        thread.join()


class Routes:
    """Answers each path."""

    def __init__(self, provider: StatusProvider, registry: CollectorRegistry) -> None:
        self._provider = provider
        self._exposition = Exposition(registry)
        self._paths: dict[str, Callable[[Request], Response]] = {
            "/metrics": self._metrics,
            "/healthz": lambda _: _verdict(provider.healthy()),
            "/readyz": lambda _: _verdict(provider.ready()),
            "/api/v1/daemon": lambda _: _items(provider.daemon()),
            "/api/v1/pools": lambda request: self._records(request, "ThinPool"),
            "/api/v1/devices": lambda request: self._records(request, "ThinDevice"),
            "/api/v1/events": lambda request: _unless_known(request, provider.events_revision(), provider.events),
        }
        for path, file in page_files().items():
            self._paths[path] = _serving(file)

    def __call__(self, request: Request) -> Response:
        route = self._paths.get(request.path)
        if route is None:
            return failure(HTTPStatus.NOT_FOUND, "there is no such path; / lists those that there are")
        return route(request)

    def _records(self, request: Request, kind: str) -> Response:
        return _unless_known(request, self._provider.items_revision(), lambda: self._provider.items(kind))

    def _metrics(self, request: Request) -> Response:
        body, content_type = self._exposition.answer(request.accept)
        return Response(HTTPStatus.OK, content_type, body)


def _verdict(verdict: tuple[bool, str]) -> Response:
    good, line = verdict
    return text(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, " ".join(line.split()))


def _serving(file: PageFile) -> Callable[[Request], Response]:
    answer = Response(HTTPStatus.OK, file.type, file.content, {"Content-Security-Policy": POLICY})
    return lambda _: answer


def _unless_known(request: Request, revision: str, items: Callable[[], list[dict[str, Any]]]) -> Response:
    """The items, unless the client has them. The revision is read first, so the items are at least
    as new as it says.
    """
    tag = f'"{revision}"'
    if tag in (known.strip() for known in request.known.split(",")):
        return Response(HTTPStatus.NOT_MODIFIED, "application/json", b"", {"ETag": tag})
    answer = _items(items())
    answer.headers["ETag"] = tag
    return answer


def _items(items: list[dict[str, Any]]) -> Response:
    return as_json(HTTPStatus.OK, {"items": items})
