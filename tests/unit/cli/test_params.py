"""Durations, addresses and kinds, as people write them."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli.params import Duration, Kind, Listen, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("15", 15), ("1.5s", 1.5), ("0.25", 0.25), (" 1s ", 1)],
)
def test_durations_are_written_with_a_unit_or_in_plain_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 s", "1d", "1e3", "inf", "nan", "1m30s", "٣s", "9" * 40, "999999h"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|too long"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**6), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60)]))
def test_units_are_factors(count: int, unit: tuple[str, float]) -> None:
    assert parse_duration(f"{count}{unit[0]}") == pytest.approx(count * unit[1])


def test_no_time_at_all_is_taken_only_where_it_makes_sense() -> None:
    assert Duration(zero=True).convert("0", None, None) == 0
    with pytest.raises(click.BadParameter, match="more than 0"):
        Duration().convert("0s", None, None)


def test_addresses_are_those_that_the_server_takes() -> None:
    assert Listen().convert("127.0.0.1:9810", None, None) == ("127.0.0.1", 9810)
    assert Listen().convert("[::1]:0", None, None) == ("::1", 0)
    with pytest.raises(click.BadParameter, match="no host"):
        Listen().convert(":9810", None, None)


@pytest.mark.parametrize("text", ["pool", "pools", "Pools"])
def test_a_kind_may_be_one_or_many(text: str) -> None:
    assert Kind().convert(text, None, None) == "pool"
    assert Kind(many=True).convert(text, None, None) == "pool"
