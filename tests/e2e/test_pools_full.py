"""Pools whose metadata or data is full, or whose table says read_only: nothing is damaged, and each has a way out while
it is up. Every state is made with plain dmsetup, losetup and dd, and judged by dmsetup and checksums.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from reconciler.model.errors import HostError
from tests.testing.environment import House, Record, a_house, eventually
from tests.testing.pools import attach, checksum, dmsetup, exists, passes, pool_status, table, write
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak
MIB: Final = 1024 * 1024
FIRST_ID: Final = 100_000
"""Of the thins that somebody else makes."""
EXTEND: Final = {"threshold": "80%", "step": "100%", "max": "1GiB"}
TIMEOUT: Final = Path("/sys/module/dm_thin_pool/parameters/no_space_timeout")


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.start("--suspend-grace", "1s", "--resync", "2s")
        yield house


def mode(house: House, pool: str) -> str:
    return pool_status(house.prefix + pool)[4]


def metadata_blocks(house: House, pool: str) -> tuple[int, int]:
    used, total = pool_status(house.prefix + pool)[1].split("/")
    return int(used), int(total)


def fill_metadata(house: House, pool: str) -> None:
    """Somebody makes thins in it until the kernel refuses."""
    name = house.prefix + pool
    with house.asleep():
        for number in range(FIRST_ID, FIRST_ID + 2000):
            try:
                house.dm.message(name, f"create_thin {number}")
            except HostError:
                break
        assert mode(house, pool) == "ro"


def small(house: House, pool: str, **spec: Any) -> Record:
    """2 MiB of metadata: 512 blocks."""
    metadata = {"file": str(house.root / f"{pool}.meta"), "size": "2MiB"}
    return house.pool(pool, **{"metadata": metadata, **spec})


def have(house: House, record: Record, *devices: Record) -> str:
    pool: str = record["metadata"]["name"].removeprefix(house.prefix)
    house.declare(record, *devices, file=f"{pool}.yaml")
    house.wait_pool(pool=pool)
    for device in devices:
        house.wait(device["metadata"]["name"], pool=pool)
    return pool


def disk(house: House, name: str, mib: int) -> tuple[Path, str]:
    """A block device on a file that can be made longer, as a logical volume can."""
    file = house.root / name
    run("truncate", "--size", f"{mib}M", str(file))
    return file, attach(file)


def lengthen(file: Path, loop: str, mib: int) -> None:
    run("truncate", "--size", f"{mib}M", str(file))
    run("losetup", "--set-capacity", loop)


@contextmanager
def writer(house: House, pool: str, device: str, mib: int) -> Iterator[subprocess.Popen[bytes]]:
    """A program that writes past the page cache, and waits where the pool makes it wait."""
    command = ["dd", "if=/dev/zero", f"of={house.node(device, pool)}", "bs=1M", f"count={mib}", "oflag=direct"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()


class TestMetadataThatIsFull:
    def test_with_extend_it_grows_while_it_is_up(self, house: House) -> None:
        pool = have(house, small(house, "grows", extend=EXTEND), house.device("a", "grows"))
        node = house.node("a", pool)
        write(node.name, 2)
        before = checksum(node)
        fill_metadata(house, pool)
        eventually(lambda: mode(house, pool) == "rw", "it is written to again")
        assert metadata_blocks(house, pool)[1] >= 1024
        house.wait_pool(pool=pool)
        assert checksum(node) == before
        house.have("new", pool=pool)

    def test_a_larger_size_in_its_record_is_taken_up_while_it_is_ro(self, house: House) -> None:
        record = small(house, "raised")
        pool = have(house, record, house.device("a", "raised"))
        fill_metadata(house, pool)
        said = house.wait_pool("PoolUnhealthy", pool, mode="ro")
        assert "is full" in said["message"]
        assert "raise `metadata.size`" in said["message"]
        assert "thin_check" not in said["message"]
        assert said["metadataSizeBytes"] == 2 * MIB
        assert said["metadataUsedBytes"] == 2 * MIB
        shown = house.cli("describe", "pool", house.prefix + pool).out
        assert "2MiB of 2MiB used" in shown
        assert "of 256MiB used" in shown
        uuid = house.dm.info(house.prefix + pool)
        record["spec"]["metadata"]["size"] = "8MiB"
        house.declare(record, house.device("a", pool), file=f"{pool}.yaml")
        eventually(lambda: mode(house, pool) == "rw", "it is written to again")
        house.wait_pool(pool=pool)
        assert metadata_blocks(house, pool)[1] == 2048
        now = house.dm.info(house.prefix + pool)
        assert uuid is not None
        assert now is not None
        assert now.devno == uuid.devno, "it never was down"

    def test_a_device_that_was_made_longer_is_taken_up(self, house: House) -> None:
        file, loop = disk(house, "lv.metadisk", 2)
        pool = have(house, house.pool("lv", metadata={"device": loop}), house.device("a", "lv"))
        fill_metadata(house, pool)
        said = house.wait_pool("PoolUnhealthy", pool, mode="ro")
        assert f"make {loop} larger" in said["message"]
        assert "extend" not in said["message"].replace("lvextend", "")
        lengthen(file, loop, 8)
        eventually(lambda: mode(house, pool) == "rw", "it is written to again")
        house.wait_pool(pool=pool)
        write(house.dm_name("a", pool), 1)

    def test_nothing_is_made_with_the_last_of_it(self, house: House) -> None:
        """What is left is for the devices that are there; deleting goes on."""
        pool = have(house, small(house, "last"), house.device("a", "last"), house.device("b", "last"))
        name = house.prefix + pool
        with house.asleep():
            for number in range(FIRST_ID, FIRST_ID + 2000):
                house.dm.message(name, f"create_thin {number}")
                used, total = metadata_blocks(house, pool) if number % 8 == 0 else (0, 1)
                if total - used < total // 20:
                    break
        assert mode(house, pool) == "rw"
        house.have("new", "WaitingForPool", pool)
        house.have("copy", "WaitingForPool", pool, snapshotOf="a")
        assert "hardly any metadata" in house.status("new", pool)["message"]
        assert house.wait_pool("PoolLow", pool)["metadataUsedBytes"]
        house.declare(small(house, "last"), house.device("a", pool), file="last.yaml")
        house.have("b", pool=pool, state="Absent")
        write(house.dm_name("a", pool), 1)
        house.declare(small(house, "last", extend=EXTEND), house.device("a", pool), file="last.yaml")
        house.wait("new", pool=pool)
        house.wait("copy", pool=pool)


def test_a_table_that_says_read_only_is_loaded_without(house: House) -> None:
    pool = have(house, house.pool("word"), house.device("a", "word"))
    name = house.prefix + pool
    write(house.dm_name("a", pool), 1)
    before = checksum(house.node("a", pool))
    words = table(name).split()
    dmsetup("load", name, "--table", " ".join([*words[:7], "1", "read_only"]))
    dmsetup("resume", name)
    eventually(lambda: "read_only" not in table(name), "its table is as its record says")
    assert mode(house, pool) == "rw"
    house.wait_pool(pool=pool)
    assert checksum(house.node("a", pool)) == before
    assert any(event["reason"] == "PoolTableWrong" for event in house.events(name))


class TestDataThatIsFull:
    def test_on_a_device_what_works_is_said_and_its_growth_taken_up(self, house: House) -> None:
        file, loop = disk(house, "lv.datadisk", 16)
        metadata = disk(house, "lv.datameta", 4)[1]
        record = house.pool("datadisk", data={"device": loop}, metadata={"device": metadata})
        pool = have(house, record, house.device("a", "datadisk", size="64MiB"))
        with writer(house, pool, "a", 40) as process:
            said = house.wait_pool("PoolUnhealthy", pool, mode="out_of_data_space")
            assert f"make {loop} larger" in said["message"]
            assert "data.size" not in said["message"]
            assert "wait for it" in said["message"]
            lengthen(file, loop, 96)
            assert process.wait(60) == 0
        house.wait_pool(pool=pool)

    def test_what_is_absent_is_deleted_and_makes_room(self, house: House) -> None:
        data = {"file": str(house.root / "deletes.data"), "size": "16MiB"}
        record = house.pool("deletes", data=data)
        devices = [house.device("a", "deletes", size="64MiB"), house.device("b", "deletes")]
        pool = have(house, record, *devices, house.device("c", "deletes"))
        write(house.dm_name("b", pool), 8)
        with writer(house, pool, "a", 14) as process:
            house.wait_pool("PoolUnhealthy", pool, mode="out_of_data_space")
            house.declare(record, devices[0], house.device("b", pool, state="Absent"), file=f"{pool}.yaml")
            assert process.wait(60) == 0
        eventually(lambda: house.status("b", pool).get("live") == "Absent", "it is deleted")
        house.declare(record, devices[0], file=f"{pool}.yaml")
        assert mode(house, pool) == "rw"

    def test_an_inactive_pool_that_is_full_goes_down_once_its_absent_device_is_deleted(self, house: House) -> None:
        data = {"file": str(house.root / "goes.data"), "size": "16MiB"}
        pool = have(house, house.pool("goes", data=data, whenFull="error"), house.device("a", "goes", size="64MiB"))
        with writer(house, pool, "a", 40) as process:
            assert process.wait(60) != 0
        assert mode(house, pool) == "out_of_data_space"
        down = house.pool("goes", data=data, whenFull="error", state="Inactive")
        house.declare(down, house.device("a", pool, state="Absent", discardOnDelete=True), file=f"{pool}.yaml")
        eventually(lambda: not exists(house, house.prefix + pool), "it is down")
        house.wait_pool(pool=pool)

    def test_it_grows_also_at_an_unexpected_transaction(self, house: House) -> None:
        data = {"file": str(house.root / "moved.data"), "size": "16MiB"}
        record = house.pool("moved", data=data, extend=EXTEND)
        pool = have(house, record, house.device("a", "moved", size="64MiB"))
        name = house.prefix + pool
        was = int(pool_status(name)[0])
        dmsetup("message", name, "0", f"set_transaction_id {was} {was + 3}")
        house.wait_pool("MetadataMismatch", pool)
        with writer(house, pool, "a", 40) as process:
            assert process.wait(60) == 0
        assert pool_status(name)[0] == str(was + 3)
        house.have("new", "MetadataMismatch", pool)

    def test_after_the_kernels_timeout_writes_wait_again_once_there_is_room(self, house: House) -> None:
        data = {"file": str(house.root / "late.data"), "size": "16MiB"}
        record = house.pool("late", data=data)
        pool = have(house, record, house.device("a", "late", size="64MiB"))
        name, before = house.prefix + pool, TIMEOUT.read_text(encoding="ascii")
        TIMEOUT.write_text("2", encoding="ascii")
        try:
            with writer(house, pool, "a", 40) as process:
                assert process.wait(60) != 0
            assert "error_if_no_space" in pool_status(name)
            eventually(lambda: "no_space_timeout" in house.pool_status(pool)["message"], "it is said")
        finally:
            TIMEOUT.write_text(before, encoding="ascii")
        record["spec"]["data"]["size"] = "48MiB"
        house.declare(record, house.device("a", pool, size="64MiB"), file=f"{pool}.yaml")
        house.wait_pool(pool=pool)
        assert "queue_if_no_space" in pool_status(name)
        with writer(house, pool, "a", 60) as process:
            house.wait_pool("PoolUnhealthy", pool, mode="out_of_data_space")
            passes(house)
            assert process.poll() is None, "it waits"
            record["spec"]["data"]["size"] = "96MiB"
            house.declare(record, house.device("a", pool, size="64MiB"), file=f"{pool}.yaml")
            assert process.wait(60) == 0
