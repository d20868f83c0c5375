"""A pool that was there before and is not active: brought back if it is whole, and otherwise nothing is touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.pools import (
    attach,
    checksum,
    declared,
    detach,
    detach_loops,
    dmsetup,
    exists,
    has_node,
    loops_on,
    overwrite,
    passes,
    put_down,
    stopped,
    write,
)
from tests.testing.real_kernel import MIB, run


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(house.pool(), house.device("a"), file=f"{house.prefix}tank.yaml")
        house.start("--suspend-grace", "1s")
        house.wait("a")
        write(house.dm_name("a"), 1)
        yield house


@pytest.fixture
def data(house: House) -> Iterator[str]:
    """The checksum of what is on the pool's device, which is the same again after each test."""
    house.wait("a")
    node = f"/dev/mapper/{house.dm_name('a')}"
    before = checksum(node)
    yield before
    house.wait_pool()
    house.wait("a")
    assert checksum(node) == before


@contextmanager
def _down(house: House) -> Iterator[None]:
    """The pool is down while this is prepared; then it is the daemon's turn."""
    with stopped(house):
        put_down(house, "tank", "a")
        yield


def _metadata(house: House) -> Path:
    return house.root / "tank.meta"


def _left_alone(house: House, reason: str, words: str) -> None:
    said = house.wait_pool(reason)
    assert words in said["message"]
    house.wait("a", "WaitingForPool")
    passes(house)
    assert not exists(house, house.prefix + "tank")
    assert house.pool_status()["reason"] == reason


@pytest.mark.usefixtures("data")
def test_a_pool_that_was_removed_comes_back_with_its_devices(house: House) -> None:
    with _down(house):
        pass
    _is_back(house)
    assert f'device "{house.dm_name("a")}" is recorded as Active but is not active' in house.tail()


@pytest.mark.usefixtures("data")
def test_detached_loops_are_attached_again(house: House) -> None:
    with _down(house):
        detach_loops(house, "tank")
        assert not loops_on(_metadata(house))
    _is_back(house)
    assert len(loops_on(_metadata(house))) == 1
    assert any(event["reason"] == "LoopDetached" for event in house.events(house.prefix + "tank"))


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_a_file_on_two_loops_is_a_conflict_until_one_is_gone(house: House) -> None:
    with _down(house):
        second = attach(house.root / "tank.data")
    _left_alone(house, "Conflict", second)
    detach(second)


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("kind", ["data", "meta"])
def test_a_missing_file_is_not_made_anew(house: House, kind: str) -> None:
    file, away = house.root / f"tank.{kind}", house.root / "away"
    with _down(house):
        detach_loops(house, "tank")
        file.rename(away)
    _left_alone(house, "MetadataMismatch", f"{file}, is missing")
    assert not file.exists()
    away.rename(file)


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_a_file_that_was_cut_short_is_not_used(house: House) -> None:
    file = house.root / "tank.data"
    with _down(house):
        detach_loops(house, "tank")
        run("truncate", "--size", "128M", str(file))
    _left_alone(house, "MetadataMismatch", "is shorter than it was")
    run("truncate", "--size", "256M", str(file))


@pytest.mark.usefixtures("data")
def test_a_new_file_of_the_same_length_is_not_taken_for_the_data(house: House) -> None:
    file, away = house.root / "tank.data", house.root / "away"
    with _down(house):
        detach_loops(house, "tank")
        file.rename(away)
        run("truncate", "--size", str(away.stat().st_size), str(file))
    _left_alone(house, "MetadataMismatch", f"{file}, is an empty file")
    assert not loops_on(file)
    assert not file.stat().st_blocks
    away.rename(file)


def test_a_pool_whose_thin_was_never_written_to_comes_back_on_its_empty_file(house: House) -> None:
    file = house.root / "bare.data"
    house.declare(house.pool("bare"), house.device("a", "bare"), file=f"{house.prefix}bare.yaml")
    house.wait("a", pool="bare")
    with stopped(house):
        put_down(house, "bare", "a")
        detach_loops(house, "bare")
        assert not file.stat().st_blocks
    eventually(lambda: has_node(house.dm_name("a", "bare")), "the device is back")
    house.wait("a", pool="bare")
    house.declare(
        declared(house.pool("bare"), state="Absent"),
        house.device("a", "bare", state="Absent"),
        file=f"{house.prefix}bare.yaml",
    )
    house.wait_pool("Converged", "bare", live="Absent")


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("how", "words"),
    [
        (("--read-only",), "is read-only"),
        pytest.param(("--sizelimit", str(64 * MIB)), "shows only the first", marks=pytest.mark.soak),
    ],
)
def test_a_loop_that_does_not_give_all_of_the_data_is_a_conflict(
    house: House, how: tuple[str, ...], words: str
) -> None:
    file = house.root / "tank.data"
    with _down(house):
        detach_loops(house, "tank")
        loop = run("losetup", "--find", "--show", *how, str(file)).out
    _left_alone(house, "Conflict", words)
    assert f"losetup -d {loop}" in house.pool_status()["message"]
    detach(loop)


@pytest.mark.usefixtures("data")
def test_a_zeroed_superblock_is_not_formatted_over(house: House) -> None:
    before = house.root / "before"
    with _down(house):
        detach_loops(house, "tank")
        shutil.copy(_metadata(house), before)
        overwrite(_metadata(house))
        zeroed = checksum(_metadata(house))
    _left_alone(house, "MetadataMismatch", "begins with zeros where its superblock was")
    assert checksum(_metadata(house)) == zeroed
    _put_back(house, before)


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_something_else_where_the_superblock_was_is_not_used(house: House) -> None:
    before = house.root / "before"
    with _down(house):
        detach_loops(house, "tank")
        shutil.copy(_metadata(house), before)
        overwrite(_metadata(house), source="/dev/urandom")
    _left_alone(house, "MetadataMismatch", "begins with something else where its superblock was")
    _put_back(house, before)


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_an_older_copy_of_the_metadata_is_not_used(house: House) -> None:
    """A device was made since: its thin id is not in the copy."""
    older, newest = house.root / "older", house.root / "newest"
    with _down(house):
        shutil.copy(_metadata(house), older)
    _is_back(house)
    devices = (house.device("a"), house.device("since"))
    house.declare(house.pool(), *devices, file=f"{house.prefix}tank.yaml")
    house.wait("since")
    with stopped(house):
        put_down(house, "tank", "a", "since")
        detach_loops(house, "tank")
        shutil.copy(_metadata(house), newest)
        _put_back(house, older)
    _left_alone(house, "MetadataMismatch", "one of the two is an old copy")
    _put_back(house, newest)
    house.wait("since")
    house.declare(house.pool(), devices[0], house.device("since", state="Absent"), file=f"{house.prefix}tank.yaml")
    house.wait("since", live="Absent")


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_damaged_metadata_stops_with_the_words_that_repair_it(house: House) -> None:
    before = house.root / "before"
    with _down(house):
        detach_loops(house, "tank")
        shutil.copy(_metadata(house), before)
        for block in range(1, 40):
            overwrite(_metadata(house), skip=block, source="/dev/urandom")
        damaged = checksum(_metadata(house))
    _left_alone(house, "PoolUnhealthy", f"thin_repair -i {_metadata(house)} -o NEW")
    tried = house.metric("dm_reconciler_actions_total", action="thin_check", result="error")
    assert tried < 10, "it is tried less and less often"
    assert checksum(_metadata(house)) == damaged
    _put_back(house, before)


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_a_data_file_that_another_device_lies_on_is_a_conflict(house: House) -> None:
    above = house.prefix + "above"
    with _down(house):
        (loop,) = loops_on(house.root / "tank.data")
        dmsetup("create", above, "--table", f"0 2048 linear {loop} 0")
    _left_alone(house, "Conflict", f"device {above}")
    dmsetup("remove", above)


@pytest.mark.soak
@pytest.mark.usefixtures("data")
def test_a_file_that_grew_beside_is_used_whole(house: House) -> None:
    with _down(house):
        detach_loops(house, "tank")
        run("truncate", "--size", "300M", str(house.root / "tank.data"))
    house.wait_pool(dataSizeBytes=300 * MIB)


def _is_back(house: House) -> None:
    eventually(lambda: has_node(house.dm_name("a")), "the device is back")
    house.wait("a")


def _put_back(house: House, copy: Path) -> None:
    """Whatever still has a loop on the file goes on seeing the file."""
    run("dd", f"if={copy}", f"of={_metadata(house)}", "bs=1M", "conv=notrunc,fsync")
