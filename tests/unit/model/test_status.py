"""Status lines as kernels write them, and what they are understood as."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.dm_tables import (
    PoolFailure,
    PoolMode,
    PoolStatus,
    ThinFailure,
    ThinStatus,
    read_pool_status,
    read_thin_status,
)

HEALTHY = "4 61/512 10/16384 - rw discard_passdown queue_if_no_space - 128"


def test_a_healthy_pool() -> None:
    assert read_pool_status(HEALTHY) == PoolStatus(
        transaction_id=4,
        metadata_used=61,
        metadata_total=512,
        data_used=10,
        data_total=16384,
        held_root=False,
        mode=PoolMode.RW,
        needs_check=False,
    )


def test_the_last_number_came_with_newer_kernels() -> None:
    assert read_pool_status(HEALTHY.removesuffix(" 128")) == read_pool_status(HEALTHY)


def test_a_held_metadata_snapshot_shows() -> None:
    found = read_pool_status("4 61/512 10/16384 77 rw no_discard_passdown error_if_no_space - 128")
    assert isinstance(found, PoolStatus)
    assert found.held_root


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ("rw discard_passdown queue_if_no_space -", PoolMode.RW),
        ("ro discard_passdown queue_if_no_space -", PoolMode.RO),
        ("out_of_data_space discard_passdown queue_if_no_space -", PoolMode.OUT_OF_DATA_SPACE),
        ("ro discard_passdown queue_if_no_space needs_check", PoolMode.NEEDS_CHECK),
        ("rw ignore_discard error_if_no_space needs_check", PoolMode.NEEDS_CHECK),
    ],
)
def test_the_mode_is_what_has_to_be_done_about_it(words: str, mode: PoolMode) -> None:
    found = read_pool_status(f"4 61/512 10/16384 - {words} 128")
    assert isinstance(found, PoolStatus)
    assert (found.mode, found.needs_check) == (mode, mode is PoolMode.NEEDS_CHECK)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("Fail", PoolMode.FAIL),
        ("Error", PoolMode.ERROR),
        ("", PoolMode.ERROR),
        ("4 61/512", PoolMode.ERROR),
        ("4 61/512 10/16384 - from_the_future", PoolMode.ERROR),
        ("4 61/512 10/16384 - fail", PoolMode.ERROR),
        ("x 61/512 10/16384 - rw", PoolMode.ERROR),
        ("4 61 10/16384 - rw", PoolMode.ERROR),
    ],
)
def test_what_is_no_healthy_line_is_never_taken_for_one(text: str, mode: PoolMode) -> None:
    assert read_pool_status(text) == PoolFailure(mode, text)


@pytest.mark.parametrize(("text", "mapped"), [("0 -", 0), ("20480 20479", 20480)])
def test_a_thin_that_answers(text: str, mapped: int) -> None:
    assert read_thin_status(text) == ThinStatus(mapped)


@pytest.mark.parametrize("text", ["Fail", "Error", "-", "", "x -", "5", "5 x", "5 6 7"])
def test_a_thin_that_does_not_answer_with_numbers_is_a_failure(text: str) -> None:
    assert read_thin_status(text) == ThinFailure(text)


@given(st.text(alphabet="0123456789/- rwofFailErrorneds_chk", max_size=60))
def test_every_line_is_read_without_an_error(text: str) -> None:
    assert isinstance(read_pool_status(text), PoolStatus | PoolFailure)
    assert isinstance(read_thin_status(text), ThinStatus | ThinFailure)
