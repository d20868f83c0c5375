"""systemd's notify protocol: sd_notify(3). Without NOTIFY_SOCKET, nothing is sent."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

from reconciler.model.units import whole_number

_LOG = logging.getLogger(__name__)
_SEND_TIMEOUT = 1.0
"""Seconds to send a message. systemd's queue is full only while systemd hangs, which must not block the daemon."""


class Notifier:
    """Reports the daemon's state to systemd. A message that cannot be sent is lost: the caller's work matters more."""

    def __init__(self, environ: Mapping[str, str], monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._monotonic_ns = monotonic_ns
        self._watchdog = _watchdog_seconds(environ)

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds within which `watchdog` must be called, better twice; None if systemd does not watch."""
        return self._watchdog

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self) -> None:
        """Reports a reload, which `ready` must follow. systemd uses the time to tell which of two reloads has ended."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={self._monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Shows `text`, on one line, in `systemctl status`."""
        self._send("STATUS=" + " ".join(text.split()))

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(_SEND_TIMEOUT)
                channel.connect(_path(self._address))
                channel.sendall("\n".join(lines).encode())
        except (OSError, ValueError) as error:
            _LOG.debug("systemd was not told %s: %s", lines[0], error)


def _path(address: str) -> str:
    """The address for the socket module: an abstract address begins with a zero byte, for which systemd writes @."""
    if address.startswith("@"):
        return "\0" + address[1:]
    if address.startswith("/"):
        return address
    raise ValueError(f"NOTIFY_SOCKET is {address!r}: neither a path nor an abstract socket")


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """The interval, as sd_watchdog_enabled(3) finds it. The variables may be inherited from a
    parent that they are for.
    """
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = whole_number(environ.get("WATCHDOG_USEC", ""))
    return microseconds / 1_000_000 if microseconds else None
