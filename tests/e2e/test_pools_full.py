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
from tests.testing.environment import Environment, Record, an_environment, eventually
from tests.testing.pools import attach, checksum, dmsetup, exists, passes, pool_status, table, write
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak
MIB: Final = 1024 * 1024
FIRST_ID: Final = 100_000
"""Of the thins that somebody else makes."""
EXTEND: Final = {"threshold": "80%", "step": "100%", "max": "1GiB"}
TIMEOUT: Final = Path("/sys/module/dm_thin_pool/parameters/no_space_timeout")


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.start("--suspend-grace", "1s", "--resync", "2s")
        yield env


def mode(env: Environment, pool: str) -> str:
    return pool_status(env.prefix + pool)[4]


def metadata_blocks(env: Environment, pool: str) -> tuple[int, int]:
    used, total = pool_status(env.prefix + pool)[1].split("/")
    return int(used), int(total)


def fill_metadata(env: Environment, pool: str) -> None:
    """Somebody makes thins in it until the kernel refuses."""
    name = env.prefix + pool
    with env.asleep():
        for number in range(FIRST_ID, FIRST_ID + 2000):
            try:
                env.dm.message(name, f"create_thin {number}")
            except HostError:
                break
        assert mode(env, pool) == "ro"


def small(env: Environment, pool: str, **spec: Any) -> Record:
    """2 MiB of metadata: 512 blocks."""
    metadata = {"file": str(env.root / f"{pool}.meta"), "size": "2MiB"}
    return env.pool(pool, **{"metadata": metadata, **spec})


def have(env: Environment, record: Record, *devices: Record) -> str:
    pool: str = record["metadata"]["name"].removeprefix(env.prefix)
    env.declare(record, *devices, file=f"{pool}.yaml")
    env.wait_pool(pool=pool)
    for device in devices:
        env.wait(device["metadata"]["name"], pool=pool)
    return pool


def disk(env: Environment, name: str, mib: int) -> tuple[Path, str]:
    """A block device on a file that can be made longer, as a logical volume can."""
    file = env.root / name
    run("truncate", "--size", f"{mib}M", str(file))
    return file, attach(file)


def lengthen(file: Path, loop: str, mib: int) -> None:
    run("truncate", "--size", f"{mib}M", str(file))
    run("losetup", "--set-capacity", loop)


@contextmanager
def writer(env: Environment, pool: str, device: str, mib: int) -> Iterator[subprocess.Popen[bytes]]:
    """A program that writes past the page cache, and waits where the pool makes it wait."""
    command = ["dd", "if=/dev/zero", f"of={env.node(device, pool)}", "bs=1M", f"count={mib}", "oflag=direct"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()


class TestMetadataThatIsFull:
    def test_with_extend_it_grows_while_it_is_up(self, env: Environment) -> None:
        pool = have(env, small(env, "grows", extend=EXTEND), env.device("a", "grows"))
        node = env.node("a", pool)
        write(node.name, 2)
        before = checksum(node)
        fill_metadata(env, pool)
        eventually(lambda: mode(env, pool) == "rw", "it is written to again")
        assert metadata_blocks(env, pool)[1] >= 1024
        env.wait_pool(pool=pool)
        assert checksum(node) == before
        env.have("new", pool=pool)

    def test_a_larger_size_in_its_record_is_taken_up_while_it_is_ro(self, env: Environment) -> None:
        record = small(env, "raised")
        pool = have(env, record, env.device("a", "raised"))
        fill_metadata(env, pool)
        said = env.wait_pool("PoolUnhealthy", pool, mode="ro")
        assert "is full" in said["message"]
        assert "raise `metadata.size`" in said["message"]
        assert "thin_check" not in said["message"]
        assert said["metadataSizeBytes"] == 2 * MIB
        assert said["metadataUsedBytes"] == 2 * MIB
        shown = env.cli("describe", "pool", env.prefix + pool).out
        assert "2MiB of 2MiB used" in shown
        assert "of 256MiB used" in shown
        uuid = env.dm.info(env.prefix + pool)
        record["spec"]["metadata"]["size"] = "8MiB"
        env.declare(record, env.device("a", pool), file=f"{pool}.yaml")
        eventually(lambda: mode(env, pool) == "rw", "it is written to again")
        env.wait_pool(pool=pool)
        assert metadata_blocks(env, pool)[1] == 2048
        now = env.dm.info(env.prefix + pool)
        assert uuid is not None
        assert now is not None
        assert now.devno == uuid.devno, "it never was down"

    def test_a_device_that_was_made_longer_is_taken_up(self, env: Environment) -> None:
        file, loop = disk(env, "lv.metadisk", 2)
        pool = have(env, env.pool("lv", metadata={"device": loop}), env.device("a", "lv"))
        fill_metadata(env, pool)
        said = env.wait_pool("PoolUnhealthy", pool, mode="ro")
        assert f"make {loop} larger" in said["message"]
        assert "extend" not in said["message"].replace("lvextend", "")
        lengthen(file, loop, 8)
        eventually(lambda: mode(env, pool) == "rw", "it is written to again")
        env.wait_pool(pool=pool)
        write(env.dm_name("a", pool), 1)

    def test_nothing_is_made_with_the_last_of_it(self, env: Environment) -> None:
        """What is left is for the devices that are there; deleting goes on."""
        pool = have(env, small(env, "last"), env.device("a", "last"), env.device("b", "last"))
        name = env.prefix + pool
        with env.asleep():
            for number in range(FIRST_ID, FIRST_ID + 2000):
                env.dm.message(name, f"create_thin {number}")
                used, total = metadata_blocks(env, pool) if number % 8 == 0 else (0, 1)
                if total - used < total // 20:
                    break
        assert mode(env, pool) == "rw"
        env.have("new", "WaitingForPool", pool)
        env.have("copy", "WaitingForPool", pool, snapshotOf="a")
        assert "hardly any metadata" in env.status("new", pool)["message"]
        assert env.wait_pool("PoolLow", pool)["metadataUsedBytes"]
        env.declare(small(env, "last"), env.device("a", pool), file="last.yaml")
        env.have("b", pool=pool, state="Absent")
        write(env.dm_name("a", pool), 1)
        env.declare(small(env, "last", extend=EXTEND), env.device("a", pool), file="last.yaml")
        env.wait("new", pool=pool)
        env.wait("copy", pool=pool)


def test_a_table_that_says_read_only_is_loaded_without(env: Environment) -> None:
    pool = have(env, env.pool("word"), env.device("a", "word"))
    name = env.prefix + pool
    write(env.dm_name("a", pool), 1)
    before = checksum(env.node("a", pool))
    words = table(name).split()
    dmsetup("load", name, "--table", " ".join([*words[:7], "1", "read_only"]))
    dmsetup("resume", name)
    eventually(lambda: "read_only" not in table(name), "its table is as its record says")
    assert mode(env, pool) == "rw"
    env.wait_pool(pool=pool)
    assert checksum(env.node("a", pool)) == before
    assert any(event["reason"] == "PoolTableWrong" for event in env.events(name))


class TestDataThatIsFull:
    def test_on_a_device_what_works_is_said_and_its_growth_taken_up(self, env: Environment) -> None:
        file, loop = disk(env, "lv.datadisk", 16)
        metadata = disk(env, "lv.datameta", 4)[1]
        record = env.pool("datadisk", data={"device": loop}, metadata={"device": metadata})
        pool = have(env, record, env.device("a", "datadisk", size="64MiB"))
        with writer(env, pool, "a", 40) as process:
            said = env.wait_pool("PoolUnhealthy", pool, mode="out_of_data_space")
            assert f"make {loop} larger" in said["message"]
            assert "data.size" not in said["message"]
            assert "wait for it" in said["message"]
            lengthen(file, loop, 96)
            assert process.wait(60) == 0
        env.wait_pool(pool=pool)

    def test_what_is_absent_is_deleted_and_makes_room(self, env: Environment) -> None:
        data = {"file": str(env.root / "deletes.data"), "size": "16MiB"}
        record = env.pool("deletes", data=data)
        devices = [env.device("a", "deletes", size="64MiB"), env.device("b", "deletes")]
        pool = have(env, record, *devices, env.device("c", "deletes"))
        write(env.dm_name("b", pool), 8)
        with writer(env, pool, "a", 14) as process:
            env.wait_pool("PoolUnhealthy", pool, mode="out_of_data_space")
            env.declare(record, devices[0], env.device("b", pool, state="Absent"), file=f"{pool}.yaml")
            assert process.wait(60) == 0
        eventually(lambda: env.status("b", pool).get("live") == "Absent", "it is deleted")
        env.declare(record, devices[0], file=f"{pool}.yaml")
        assert mode(env, pool) == "rw"

    def test_an_inactive_pool_that_is_full_goes_down_once_its_absent_device_is_deleted(self, env: Environment) -> None:
        data = {"file": str(env.root / "goes.data"), "size": "16MiB"}
        pool = have(env, env.pool("goes", data=data, whenFull="error"), env.device("a", "goes", size="64MiB"))
        with writer(env, pool, "a", 40) as process:
            assert process.wait(60) != 0
        assert mode(env, pool) == "out_of_data_space"
        down = env.pool("goes", data=data, whenFull="error", state="Inactive")
        env.declare(down, env.device("a", pool, state="Absent", discardOnDelete=True), file=f"{pool}.yaml")
        eventually(lambda: not exists(env, env.prefix + pool), "it is down")
        env.wait_pool(pool=pool)

    def test_it_grows_also_at_an_unexpected_transaction(self, env: Environment) -> None:
        data = {"file": str(env.root / "moved.data"), "size": "16MiB"}
        record = env.pool("moved", data=data, extend=EXTEND)
        pool = have(env, record, env.device("a", "moved", size="64MiB"))
        name = env.prefix + pool
        was = int(pool_status(name)[0])
        dmsetup("message", name, "0", f"set_transaction_id {was} {was + 3}")
        env.wait_pool("MetadataMismatch", pool)
        with writer(env, pool, "a", 40) as process:
            assert process.wait(60) == 0
        assert pool_status(name)[0] == str(was + 3)
        env.have("new", "MetadataMismatch", pool)

    def test_after_the_kernels_timeout_writes_wait_again_once_there_is_room(self, env: Environment) -> None:
        data = {"file": str(env.root / "late.data"), "size": "16MiB"}
        record = env.pool("late", data=data)
        pool = have(env, record, env.device("a", "late", size="64MiB"))
        name, before = env.prefix + pool, TIMEOUT.read_text(encoding="ascii")
        TIMEOUT.write_text("2", encoding="ascii")
        try:
            with writer(env, pool, "a", 40) as process:
                assert process.wait(60) != 0
            assert "error_if_no_space" in pool_status(name)
            eventually(lambda: "no_space_timeout" in env.pool_status(pool)["message"], "it is said")
        finally:
            TIMEOUT.write_text(before, encoding="ascii")
        record["spec"]["data"]["size"] = "48MiB"
        env.declare(record, env.device("a", pool, size="64MiB"), file=f"{pool}.yaml")
        env.wait_pool(pool=pool)
        assert "queue_if_no_space" in pool_status(name)
        with writer(env, pool, "a", 60) as process:
            env.wait_pool("PoolUnhealthy", pool, mode="out_of_data_space")
            passes(env)
            assert process.poll() is None, "it waits"
            record["spec"]["data"]["size"] = "96MiB"
            env.declare(record, env.device("a", pool, size="64MiB"), file=f"{pool}.yaml")
            assert process.wait(60) == 0
