"""What a pool lies on is known by what stays with it: another disk under its path is never brought up on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import Environment, Record, an_environment, eventually
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
def env() -> Iterator[Environment]:
    with an_environment() as env:
        yield env


def _on_disks(env: Environment) -> tuple[Record, str, str]:
    """A pool on two block devices, with something in it."""
    data, metadata = make_disk(env, "data.disk"), make_disk(env, "metadata.disk", 8)
    record = env.pool(data={"device": data}, metadata={"device": metadata})
    env.declare(record, env.device("a"))
    env.start("--suspend-grace", "1s")
    env.wait("a")
    write(env.dm_name("a"), 1)
    passes(env)
    return record, data, metadata


def _sum(env: Environment) -> str:
    eventually(lambda: has_node(env.dm_name("a")), "the device is there")
    env.wait("a")
    return checksum(env.node("a"))


def _refused(env: Environment, *words: str) -> None:
    said = env.wait_pool("MetadataMismatch")
    for word in words:
        assert word in said["message"]
    passes(env)
    assert not exists(env, env.prefix + "tank")


def _attach(device: str, file: Path) -> None:
    run("losetup", device, str(file))


def test_a_disk_that_another_number_was_given_is_not_written_to(env: Environment) -> None:
    record, data, _ = _on_disks(env)
    before = _sum(env)
    other = make_disk(env, "other.disk")
    run("mkfs.ext4", "-q", "-F", other)
    foreign = checksum(env.root / "other.disk")
    with stopped(env):
        put_down(env, "tank", "a")
        detach(data, other)
        _attach(data, env.root / "other.disk")
        _attach(other, env.root / "data.disk")
    _refused(env, str(env.root / "data.disk"), f"{other} now")
    assert checksum(env.root / "other.disk") == foreign

    env.declare(declared(record, data={"device": other}), env.device("a"))
    assert _sum(env) == before
    env.wait_pool()


def test_a_disk_that_was_replaced_by_a_copy_is_taken_once_somebody_says_so(env: Environment) -> None:
    _, data, _ = _on_disks(env)
    before = _sum(env)
    with stopped(env):
        put_down(env, "tank", "a")
        detach(data)
        shutil.copy(env.root / "data.disk", env.root / "copy.disk")
        _attach(data, env.root / "copy.disk")
    _refused(env, "doctor --fix")
    env.stop()
    said = env.cli("doctor", "--fix", "--yes", "--manifests", str(env.manifests), check=False)
    assert f"take {data}" in said.out
    env.start()
    assert _sum(env) == before


def test_data_and_metadata_that_were_swapped_stay_as_they_are(env: Environment) -> None:
    _, data, metadata = _on_disks(env)
    before = _sum(env)
    with stopped(env):
        put_down(env, "tank", "a")
        detach(data, metadata)
        eventually(lambda: not Path("/sys/block", Path(metadata).name, "loop").exists(), "the loops are free")
        _attach(data, env.root / "metadata.disk")
        _attach(metadata, env.root / "data.disk")
    _refused(env, "the data of pool", f"{metadata} now")
    with stopped(env):
        detach(data, metadata)
        eventually(lambda: not Path("/sys/block", Path(metadata).name, "loop").exists(), "the loops are free")
        _attach(data, env.root / "data.disk")
        _attach(metadata, env.root / "metadata.disk")
    assert _sum(env) == before


def test_a_disk_that_was_formatted_while_the_pool_was_down_keeps_its_filesystem(env: Environment) -> None:
    _on_disks(env)
    with stopped(env):
        put_down(env, "tank", "a")
        run("mkfs.ext4", "-q", "-F", str(env.root / "data.disk"))
        formatted = checksum(env.root / "data.disk")
    _refused(env, "begins with ext4")
    assert checksum(env.root / "data.disk") == formatted


def test_the_same_disk_by_another_path_is_taken_up_without_a_change(env: Environment) -> None:
    record, data, _ = _on_disks(env)
    link = env.root / "stable-name"
    link.symlink_to(data)
    live = table(env.prefix + "tank")
    env.declare(declared(record, data={"device": str(link)}), env.device("a"))
    passes(env)
    env.wait_pool()
    assert table(env.prefix + "tank") == live
    before = _sum(env)
    with stopped(env):
        put_down(env, "tank", "a")
    assert _sum(env) == before


@pytest.mark.parametrize("what", ["a copy", "zeros", "other bytes"])
def test_a_data_file_that_was_replaced_is_told_from_a_copy_of_it(env: Environment, what: str) -> None:
    record = env.pool()
    env.declare(record, env.device("a", filesystem={"type": "ext4"}))
    env.start("--suspend-grace", "1s")
    before = _sum(env)
    file, away = env.root / "tank.data", env.root / "away"
    with stopped(env):
        put_down(env, "tank", "a")
        detach_loops(env, "tank")
        file.rename(away)
        if what == "a copy":
            shutil.copy(away, file)
        else:
            source = "/dev/zero" if what == "zeros" else "/dev/urandom"
            run("dd", f"if={source}", f"of={file}", "bs=1M", "count=256")
    if what == "a copy":
        assert _sum(env) == before
        return
    _refused(env, str(file))
    with stopped(env):
        away.rename(file)
    assert _sum(env) == before


def test_an_older_copy_of_the_metadata_is_refused_and_the_newest_is_not(env: Environment) -> None:
    record = env.pool()
    on, off = (record, env.device("a")), (declared(record, state="Inactive"), env.device("a", state="Inactive"))
    file, old, new = (env.root / name for name in ("tank.meta", "old", "new"))

    def take_down() -> None:
        env.declare(*off)
        eventually(lambda: not exists(env, env.prefix + "tank"), "the pool is down")
        env.wait_pool(live="Inactive")
        passes(env)

    env.declare(*on)
    env.start("--suspend-grace", "1s")
    env.wait("a")
    write(env.dm_name("a"), 1)
    take_down()
    shutil.copy(file, old)
    env.declare(*on)
    eventually(lambda: has_node(env.dm_name("a")), "the device is there")
    write(env.dm_name("a"), 4, at=2)
    before = _sum(env)
    take_down()
    shutil.copy(file, new)
    shutil.copy(old, file)
    env.declare(*on)
    _refused(env, "older copy", "doctor --fix")
    with stopped(env):
        shutil.copy(new, file)
    assert _sum(env) == before
