"""What a pool lies on is known by what stays with it: another disk under its path is never brought up on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import House, Record, a_house, eventually
from tests.testing.pools import (
    checksum,
    declared,
    detach,
    detach_loops,
    exists,
    has_node,
    make_disk,
    passes,
    put_down,
    stopped,
    table,
    write,
)
from tests.testing.real_kernel import run


@pytest.fixture
def house() -> Iterator[House]:
    with a_house() as house:
        yield house


def _on_disks(house: House) -> tuple[Record, str, str]:
    """A pool on two block devices, with something in it."""
    data, metadata = make_disk(house, "data.disk"), make_disk(house, "metadata.disk", 8)
    record = house.pool(data={"device": data}, metadata={"device": metadata})
    house.declare(record, house.device("a"))
    house.start("--suspend-grace", "1s")
    house.wait("a")
    write(house.dm_name("a"), 1)
    passes(house)
    return record, data, metadata


def _sum(house: House) -> str:
    eventually(lambda: has_node(house.dm_name("a")), "the device is there")
    house.wait("a")
    return checksum(house.node("a"))


def _refused(house: House, *words: str) -> None:
    said = house.wait_pool("MetadataMismatch")
    for word in words:
        assert word in said["message"]
    passes(house)
    assert not exists(house, house.prefix + "tank")


def _attach(device: str, file: Path) -> None:
    run("losetup", device, str(file))


def test_a_disk_that_another_number_was_given_is_not_written_to(house: House) -> None:
    record, data, _ = _on_disks(house)
    before = _sum(house)
    other = make_disk(house, "other.disk")
    run("mkfs.ext4", "-q", "-F", other)
    foreign = checksum(house.root / "other.disk")
    with stopped(house):
        put_down(house, "tank", "a")
        detach(data, other)
        _attach(data, house.root / "other.disk")
        _attach(other, house.root / "data.disk")
    _refused(house, str(house.root / "data.disk"), f"{other} now")
    assert checksum(house.root / "other.disk") == foreign

    house.declare(declared(record, data={"device": other}), house.device("a"))
    assert _sum(house) == before
    house.wait_pool()


def test_a_disk_that_was_replaced_by_a_copy_is_taken_once_somebody_says_so(house: House) -> None:
    _, data, _ = _on_disks(house)
    before = _sum(house)
    with stopped(house):
        put_down(house, "tank", "a")
        detach(data)
        shutil.copy(house.root / "data.disk", house.root / "copy.disk")
        _attach(data, house.root / "copy.disk")
    _refused(house, "doctor --fix")
    house.stop()
    said = house.cli("doctor", "--fix", "--yes", "--manifests", str(house.manifests), check=False)
    assert f"take {data}" in said.out
    house.start()
    assert _sum(house) == before


def test_data_and_metadata_that_were_swapped_stay_as_they_are(house: House) -> None:
    _, data, metadata = _on_disks(house)
    before = _sum(house)
    with stopped(house):
        put_down(house, "tank", "a")
        detach(data, metadata)
        eventually(lambda: not Path("/sys/block", Path(metadata).name, "loop").exists(), "the loops are free")
        _attach(data, house.root / "metadata.disk")
        _attach(metadata, house.root / "data.disk")
    _refused(house, "the data of pool", f"{metadata} now")
    with stopped(house):
        detach(data, metadata)
        eventually(lambda: not Path("/sys/block", Path(metadata).name, "loop").exists(), "the loops are free")
        _attach(data, house.root / "data.disk")
        _attach(metadata, house.root / "metadata.disk")
    assert _sum(house) == before


def test_a_disk_that_was_formatted_while_the_pool_was_down_keeps_its_filesystem(house: House) -> None:
    _on_disks(house)
    with stopped(house):
        put_down(house, "tank", "a")
        run("mkfs.ext4", "-q", "-F", str(house.root / "data.disk"))
        formatted = checksum(house.root / "data.disk")
    _refused(house, "begins with ext4")
    assert checksum(house.root / "data.disk") == formatted


def test_the_same_disk_by_another_path_is_taken_up_without_a_change(house: House) -> None:
    record, data, _ = _on_disks(house)
    link = house.root / "stable-name"
    link.symlink_to(data)
    live = table(house.prefix + "tank")
    house.declare(declared(record, data={"device": str(link)}), house.device("a"))
    passes(house)
    house.wait_pool()
    assert table(house.prefix + "tank") == live
    before = _sum(house)
    with stopped(house):
        put_down(house, "tank", "a")
    assert _sum(house) == before


@pytest.mark.parametrize("what", ["a copy", "zeros", "other bytes"])
def test_a_data_file_that_was_replaced_is_told_from_a_copy_of_it(house: House, what: str) -> None:
    record = house.pool()
    house.declare(record, house.device("a", filesystem={"type": "ext4"}))
    house.start("--suspend-grace", "1s")
    before = _sum(house)
    file, away = house.root / "tank.data", house.root / "away"
    with stopped(house):
        put_down(house, "tank", "a")
        detach_loops(house, "tank")
        file.rename(away)
        if what == "a copy":
            shutil.copy(away, file)
        else:
            source = "/dev/zero" if what == "zeros" else "/dev/urandom"
            run("dd", f"if={source}", f"of={file}", "bs=1M", "count=256")
    if what == "a copy":
        assert _sum(house) == before
        return
    _refused(house, str(file))
    with stopped(house):
        away.rename(file)
    assert _sum(house) == before


def test_an_older_copy_of_the_metadata_is_refused_and_the_newest_is_not(house: House) -> None:
    record = house.pool()
    on, off = (record, house.device("a")), (declared(record, state="Inactive"), house.device("a", state="Inactive"))
    file, old, new = (house.root / name for name in ("tank.meta", "old", "new"))

    def take_down() -> None:
        house.declare(*off)
        eventually(lambda: not exists(house, house.prefix + "tank"), "the pool is down")
        house.wait_pool(live="Inactive")
        passes(house)

    house.declare(*on)
    house.start("--suspend-grace", "1s")
    house.wait("a")
    write(house.dm_name("a"), 1)
    take_down()
    shutil.copy(file, old)
    house.declare(*on)
    eventually(lambda: has_node(house.dm_name("a")), "the device is there")
    write(house.dm_name("a"), 4, at=2)
    before = _sum(house)
    take_down()
    shutil.copy(file, new)
    shutil.copy(old, file)
    house.declare(*on)
    _refused(house, "older copy", "doctor --fix")
    with stopped(house):
        shutil.copy(new, file)
    assert _sum(house) == before
