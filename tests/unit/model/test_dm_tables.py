"""Tables as the kernel writes them, and what they are understood as."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.dm_tables import (
    Devno,
    ErrorTable,
    OtherTable,
    PoolTable,
    Table,
    Target,
    ThinTable,
    parse_devno,
    read_table,
)
from reconciler.model.units import Sectors

numbers = st.integers(0, 2**20)
devnos = st.builds(Devno, st.integers(0, 2**12 - 1), st.integers(0, 2**20 - 1))
lengths = st.integers(1, 2**50).map(Sectors)
words = st.text(alphabet="0123456789:-abcxyz ", max_size=30)


def table(params: str, kind: str, start: int = 0, length: int = 8) -> Table:
    return (Target(Sectors(start), Sectors(length), kind, params),)


def thin(params: str) -> Table:
    return table(params, "thin")


def pool(params: str) -> Table:
    return table(params, "thin-pool")


@given(st.builds(ThinTable, lengths, devnos, st.integers(0, 2**24 - 1), st.none() | devnos))
def test_a_thin_is_read_as_it_is_written(wanted: ThinTable) -> None:
    assert read_table((wanted.target(),)) == wanted


@given(
    st.builds(
        PoolTable,
        length=lengths,
        metadata=devnos,
        data=devnos,
        block=lengths,
        low_water=numbers,
        zero_new_blocks=st.booleans(),
        discards=st.sampled_from(["passdown", "nopassdown", "ignore"]),
        error_if_full=st.booleans(),
        read_only=st.booleans(),
    )
)
def test_a_pool_is_read_as_it_is_written(wanted: PoolTable) -> None:
    assert read_table((wanted.target(),)) == wanted


def test_the_line_of_a_pool_is_the_kernels() -> None:
    wanted = PoolTable(
        Sectors(204800), Devno(7, 0), Devno(7, 1), Sectors(128), 100, zero_new_blocks=False, discards="ignore"
    )
    assert str(wanted.target()) == "0 204800 thin-pool 7:0 7:1 128 100 2 skip_block_zeroing ignore_discard"


def test_the_kernel_may_end_a_line_without_features_with_a_space() -> None:
    found = read_table(pool("7:0 7:1 128 100 0 "))
    assert isinstance(found, PoolTable)
    assert (found.low_water, found.discards, found.error_if_full) == (100, "passdown", False)


def test_an_error_table_has_a_length() -> None:
    assert read_table(table("", "error", length=100)) == ErrorTable(Sectors(100))


@pytest.mark.parametrize(
    "found",
    [
        (),
        thin("253:0 7 origin"),
        thin("253:0 7 8:16 8:32"),
        thin("253:0"),
        thin("253:0 x"),
        thin("pool 7"),
        table("253:0 7", "thin", start=8),
        table("8:0 0", "linear"),
        pool("7:0 7:1 128 x 0"),
        pool("7:0 7:1"),
        pool("7:0 meta 128 100 0"),
        pool("7:0 7:1 128 100 1 from_the_future"),
        thin("253:0 7") + table("", "error", start=8),
        table("", "error") + table("", "error", start=8),
    ],
)
def test_what_is_not_understood_is_never_guessed(found: Table) -> None:
    assert isinstance(read_table(found), OtherTable)


@given(st.lists(st.builds(Target, lengths, lengths, st.sampled_from(["thin", "thin-pool", "error", "x"]), words)))
def test_every_table_is_read_without_an_error_and_keeps_its_length(targets: list[Target]) -> None:
    assert read_table(tuple(targets)).length == sum(target.length for target in targets)


@pytest.mark.parametrize("text", ["", ":", "7", "7:", ":7", "a:b", "/dev/sda", "7:0:1", "-7:0"])
def test_what_is_no_device_number_is_none(text: str) -> None:
    assert parse_devno(text) is None


@given(devnos)
def test_a_device_number_is_read_as_it_is_written(devno: Devno) -> None:
    assert parse_devno(str(devno)) == devno
