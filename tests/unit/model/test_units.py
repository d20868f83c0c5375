"""Sizes: what is taken, what is refused and with which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.units import (
    LARGEST,
    SECTOR,
    Bytes,
    exact_size,
    format_size,
    in_bytes,
    parse_size,
    percent_of,
    sectors,
)

on_the_grid = st.integers(1, LARGEST // SECTOR).map(lambda count: count * SECTOR)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10GiB", 10 * 1024**3),
        ("10Gi", 10 * 1024**3),
        ("64MiB", 64 * 1024**2),
        ("65536", 65536),
        ("65536B", 65536),
        (65536, 65536),
        ("2048s", 1024**2),
        ("1KiB", 1024),
        ("1TiB", 1024**4),
        ("1PiB", 1024**5),
        ("1EiB", 1024**6),
    ],
)
def test_a_size_is_read(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10GB", "not a binary unit: write 10GiB"),
        ("10G", "not a binary unit: write 10GiB"),
        ("5k", "not a binary unit: write 5KiB"),
        ("-5GiB", "a size must be more than 0"),
        (-512, "a size must be more than 0"),
        ("0", "a size must be more than 0"),
        ("1.5GiB", "not a whole number: write 1536MiB"),
        ("0.3GiB", "not a whole number: write it in a smaller unit, such as MiB"),
        ("1000", "not whole sectors: use a multiple of 512 bytes, such as 2s"),
        ("9999999999999999999", "too large: a size must be at most 9223372036854775296 bytes"),
        ("9" * 5000, "too large: a size must be at most 9223372036854775296 bytes"),
        pytest.param(10**5000, "too large: a size must be at most 9223372036854775296 bytes", id="huge"),
        ("16EiB", "too large: a size must be at most 9223372036854775296 bytes"),
        ("", "not a size: write 10GiB, 64MiB, 65536 (bytes) or 2048s (sectors)"),
        ("2048sB", "not a size: write 10GiB, 64MiB, 65536 (bytes) or 2048s (sectors)"),
        ("10 GiB", "not a size: write 10GiB, 64MiB, 65536 (bytes) or 2048s (sectors)"),
        ("10GiB\n", "not a size: write 10GiB, 64MiB, 65536 (bytes) or 2048s (sectors)"),
        ("\u0661GiB", "not a size: write 10GiB, 64MiB, 65536 (bytes) or 2048s (sectors)"),
    ],
)
def test_what_is_no_size_is_refused_with_what_would_be_right(text: str | int, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole text is compared
        parse_size(text)
    assert str(caught.value) == message


@given(on_the_grid)
def test_an_exact_size_reads_back(size: int) -> None:
    assert parse_size(exact_size(size)) == size


@given(on_the_grid)
def test_a_shown_size_reads_back_where_it_is_exact_and_else_never_shows_more(size: int) -> None:
    text = format_size(size)
    if "." not in text:
        assert parse_size(text) == size
        return
    number, unit = text[:-3], text[-3:]
    assert float(number) * parse_size("1" + unit) <= size * (1 + 1e-12)


@given(st.text() | st.integers())
def test_any_text_is_a_size_on_the_grid_or_a_value_error(text: str | int) -> None:
    try:
        size = parse_size(text)
    except ValueError:
        return
    assert 0 < size <= LARGEST
    assert size % SECTOR == 0


def test_a_size_is_not_rounded_up_to_the_next_unit() -> None:
    assert format_size(1024**4 - 512) == "1023.9GiB"


@given(on_the_grid)
def test_sectors_and_bytes_are_the_same_size(size: int) -> None:
    assert in_bytes(sectors(Bytes(size))) == size


@pytest.mark.parametrize(("text", "number"), [("1%", 1), ("80%", 80), ("100%", 100)])
def test_a_percentage_is_read(text: str, number: int) -> None:
    assert percent_of(text) == number


@pytest.mark.parametrize("text", ["0%", "101%", "80", "8.5%", "-1%", "", "%", "1000%"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a percentage"):
        percent_of(text)
