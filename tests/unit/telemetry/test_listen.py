from __future__ import annotations

import socket

import pytest

from reconciler.telemetry.http.server import ListenError, bind, parse_listen, show


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9810", ("127.0.0.1", 9810)),
        ("[::1]:9810", ("::1", 9810)),
        ("[::]:0", ("::", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),  # noqa: S104 - asked for
    ],
)
def test_an_address_is_read_and_shown_again(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address
    assert show(address) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no port"),
        ("localhost", "has no port"),
        (":9810", "has no host: write 127.0.0.1:9810"),
        ("localhost:", "must be a number"),
        ("localhost:http", "must be a number"),
        ("localhost:65536", "must be a number"),
        ("localhost:-1", "must be a number"),
        ("localhost:٣", "must be a number"),
        ("::1:9810", "put in brackets"),
        ("[localhost]:9810", "put in brackets"),
        ("[]:9810", "put in brackets"),
        ("[::1:9810", "put in brackets"),
        ("http://localhost:9810", "put in brackets"),
        ("local host:9810", "is no host"),
        ("me@host:9810", "is no host"),
        ("a..b:9810", "is no host"),
        (".:9810", "is no host"),
        (f"{'a' * 64}:9810", "is no host"),
        ("\udcff:9810", "is no host"),
    ],
)
def test_what_is_no_address_is_refused_with_what_would_be_right(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_listen(text)


def test_an_address_in_use_says_who_to_look_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"cannot listen on 127\.0\.0\.1:{port}: somebody.*ss -ltnp.*{port}"):
            bind(("127.0.0.1", port), 1)


def test_an_address_of_another_host_is_refused() -> None:
    with pytest.raises(ListenError, match="no such address"):
        bind(("192.0.2.1", 0), 1)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on nobody\.invalid:0: nothing is known by that host name"):
        bind(("nobody.invalid", 0), 1)


def test_every_address_means_both_families() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("THIS HOST HAS NO IPv6: dual stack was not tried")
    with (
        bind(("::", 0), 1) as listening,
        socket.create_connection(("127.0.0.1", listening.getsockname()[1]), timeout=10),
        socket.create_connection(("::1", listening.getsockname()[1]), timeout=10),
    ):
        pass
