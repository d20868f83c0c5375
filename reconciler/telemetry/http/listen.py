"""Addresses to listen on: `--listen HOST:PORT`."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Final

Address = tuple[str, int]

_FORM: Final = "write HOST:PORT, such as 127.0.0.1:9810 or [::1]:9810"


class ListenError(Exception):
    """Nobody can listen on this address. The message says why, and what to do next."""


def parse_listen(text: str) -> Address:
    """Host and port of `HOST:PORT`, an IPv6 address in brackets. Port 0 takes any free one.

    Raises ValueError, with what would be right. A missing host is no way to say "everywhere": that takes a word.
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
    """Whether it may be put to a resolver: one of its labels may be empty, or too long."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def show(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(address: Address, backlog: int) -> socket.socket:
    """A socket that listens there. Raises ListenError."""
    host, port = address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = found[0]
        # An IPv6 wildcard listens to IPv4 too, as everywhere else; a single IPv6 address has no IPv4 side.
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
    """Whether a Host header names this host: by an address, as localhost, or as `own`, the name that it listens on.

    A page from elsewhere can have its own name lead to 127.0.0.1, and then read as if this were its own server (DNS
    rebinding). It cannot choose under which name the browser asks for it then.
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
