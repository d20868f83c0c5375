"""A pool that does not exist yet: made where nothing is in the way, and a Conflict wherever something is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import Environment, Record, an_environment
from tests.testing.pools import (
    attach,
    checksum,
    declared,
    dmsetup,
    exists,
    make_disk,
    overwrite,
    passes,
    pool_status,
    table,
    write,
)
from tests.testing.real_kernel import MIB, run


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.start("--suspend-grace", "1s", "--resync", "2s")
        yield env


@pytest.fixture(autouse=True)
def _records_go_with_their_test(env: Environment) -> Iterator[None]:
    """A pool without a record costs the daemon next to nothing."""
    yield
    for file in env.manifests.iterdir():
        file.unlink()


@pytest.fixture
def on_disks(env: Environment, request: pytest.FixtureRequest) -> Record:
    """A pool on two block devices of its own, both of zeros. Not declared yet."""
    name = request.node.name.removeprefix("test_")[:24]
    return env.pool(
        name,
        data={"device": make_disk(env, f"{name}.data")},
        metadata={"device": make_disk(env, f"{name}.meta", 4)},
    )


def _short(env: Environment, pool: Record) -> str:
    name: str = pool["metadata"]["name"]
    return name.removeprefix(env.prefix)


def _declare(env: Environment, pool: Record) -> str:
    """With one device. The pool's short name."""
    name = _short(env, pool)
    env.declare(pool, env.device("a", name), file=f"{name}.yaml")
    return name


def _refused(env: Environment, pool: Record, words: str) -> None:
    """It is a Conflict that says so, and stays one, and no pool is made."""
    name = _declare(env, pool)
    said = env.wait_pool("Conflict", name)
    assert words in said["message"]
    env.wait("a", "WaitingForPool", pool=name)
    passes(env, 1)
    assert not exists(env, env.prefix + name)


def _data(pool: Record) -> str:
    return str(pool["spec"]["data"]["device"])


def _allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_files_are_made_the_metadata_allocated_and_the_data_sparse(env: Environment) -> None:
    name = _declare(env, env.pool("files"))
    env.wait("a", pool=name)
    data, metadata = env.root / "files.data", env.root / "files.meta"
    assert (data.stat().st_size, metadata.stat().st_size) == (256 * MIB, 4 * MIB)
    assert _allocated(metadata) >= 4 * MIB
    assert _allocated(data) < 16 * MIB
    assert {file.stat().st_mode & 0o777 for file in (data, metadata)} == {0o600}
    assert dmsetup("info", "--columns", "--noheadings", "--options", "uuid", env.prefix + name).startswith("DMR-")


@pytest.mark.soak
def test_a_data_file_is_allocated_in_full_where_the_record_asks(env: Environment) -> None:
    data = {"file": str(env.root / "full.data"), "size": "32MiB", "preallocate": True}
    env.wait("a", pool=_declare(env, env.pool("full", data=data)))
    assert _allocated(env.root / "full.data") >= 32 * MIB


def test_a_pool_is_made_on_block_devices(env: Environment, on_disks: Record) -> None:
    name = _declare(env, on_disks)
    env.wait("a", pool=name)
    assert int(table(env.prefix + name).split()[1]) * 512 == 64 * MIB


def test_a_filesystem_on_the_data_device_is_left_alone(env: Environment, on_disks: Record) -> None:
    run("mkfs.ext4", "-q", _data(on_disks))
    before = checksum(_data(on_disks))
    _refused(env, on_disks, "carries ext4")
    assert checksum(_data(on_disks)) == before


@pytest.mark.soak
def test_a_mounted_data_device_is_left_alone(env: Environment, on_disks: Record) -> None:
    run("mkfs.ext4", "-q", _data(on_disks))
    place = env.root / "mounted"
    place.mkdir()
    run("mount", _data(on_disks), str(place))
    try:
        _refused(env, on_disks, f"a mount at {place}")
    finally:
        run("umount", str(place))


@pytest.mark.soak
def test_a_data_device_that_another_device_lies_on_is_left_alone(env: Environment, on_disks: Record) -> None:
    above = env.prefix + "above"
    dmsetup("create", above, "--table", f"0 2048 linear {_data(on_disks)} 0")
    _refused(env, on_disks, f"device {above}")
    dmsetup("remove", above)
    env.wait("a", pool=_short(env, on_disks))


def test_a_metadata_device_that_does_not_begin_with_zeros_is_left_alone(env: Environment, on_disks: Record) -> None:
    metadata = on_disks["spec"]["metadata"]["device"]
    overwrite(metadata, source="/dev/urandom")
    before = checksum(metadata)
    _refused(env, on_disks, "does not begin with zeros")
    assert checksum(metadata) == before


@pytest.mark.soak
def test_a_file_with_something_in_it_is_left_alone(env: Environment) -> None:
    file = env.root / "letters.data"
    file.write_text("letters " * 1000, encoding="ascii")
    _refused(env, env.pool("letters"), "is not empty")
    assert file.read_text(encoding="ascii") == "letters " * 1000
    assert not (env.root / "letters.meta").exists()
    file.unlink()
    env.wait("a", pool="letters")


@pytest.mark.soak
def test_a_folder_that_is_not_there_is_not_made(env: Environment) -> None:
    """It is where a filesystem would be mounted: a pool beside it would fill the root filesystem."""
    folder = env.root / "srv"
    data = {"file": str(folder / "data"), "size": "64MiB"}
    _refused(env, env.pool("srv", data=data), "does not exist; make or mount it")
    assert not folder.exists()
    folder.mkdir()
    env.wait("a", pool="srv")


@pytest.mark.soak
def test_metadata_that_does_not_fit_is_not_begun(env: Environment) -> None:
    metadata = {"file": str(env.root / "large.meta"), "size": "15GiB"}
    _refused(env, env.pool("large", metadata=metadata), "do not fit")
    assert not (env.root / "large.data").exists()


@pytest.mark.soak
def test_a_disk_that_comes_late_is_waited_for(env: Environment) -> None:
    link = env.root / "late-disk"
    pool = env.pool("late", data={"device": str(link)})
    name = _declare(env, pool)
    said = env.wait_pool("PoolMissing", name)
    assert "does not exist (yet)" in said["message"]
    link.symlink_to(make_disk(env, "late-disk.file"))
    env.wait("a", pool=name)


def test_a_pool_of_somebody_else_is_left_alone_until_the_record_adopts_it(env: Environment, on_disks: Record) -> None:
    """Made by hand, with a thin full of data in it."""
    name, metadata = _short(env, on_disks), on_disks["spec"]["metadata"]["device"]
    pool, thin = env.prefix + name, env.prefix + "byhand"
    blocks = 64 * MIB // 512
    dmsetup("create", pool, "--table", f"0 {blocks} thin-pool {metadata} {_data(on_disks)} 128 0")
    dmsetup("message", pool, "0", "create_thin 5")
    dmsetup("create", thin, "--table", f"0 8192 thin /dev/mapper/{pool} 5")
    write(thin, 2)
    before = checksum(f"/dev/mapper/{thin}")
    put_down_by_hand(thin, pool)
    superblock = checksum(metadata)

    env.declare(on_disks, file=f"{name}.yaml")
    said = env.wait_pool("MetadataMismatch", name)
    assert "adopt: true" in said["message"]
    passes(env, 1)
    assert not exists(env, pool)
    assert checksum(metadata) == superblock

    adopted = env.device("kept", name, adopt={"deviceId": 5, "dmName": thin}, size="4MiB")
    env.declare(declared(on_disks, adopt=True), adopted, file=f"{name}.yaml")
    env.wait("kept", pool=name)
    assert checksum(f"/dev/mapper/{thin}") == before
    assert pool_status(pool)[0] == "0"


def put_down_by_hand(*names: str) -> None:
    run("udevadm", "settle")
    for name in names:
        dmsetup("remove", "--retry", name)


@pytest.mark.soak
def test_a_file_that_was_made_beside_is_used_and_never_deleted(env: Environment) -> None:
    """Sparse and empty, as somebody prepares one."""
    file = env.root / "own.data"
    run("truncate", "--size", "64M", str(file))
    os.sync()
    name = _declare(env, env.pool("own", data={"file": str(file), "size": "64MiB"}))
    env.wait("a", pool=name)
    env.declare(
        declared(env.pool("own"), state="Absent", data={"file": str(file), "size": "64MiB"}),
        env.device("a", "own", state="Absent"),
        file="own.yaml",
    )
    env.wait_pool("Converged", "own", live="Absent")
    assert file.exists()
    assert not (env.root / "own.meta").exists()


def test_the_loop_of_a_file_that_is_attached_already_is_used(env: Environment) -> None:
    file = env.root / "looped.data"
    run("truncate", "--size", "64M", str(file))
    loop = attach(file)
    name = _declare(env, env.pool("looped", data={"file": str(file), "size": "64MiB"}))
    env.wait("a", pool=name)
    number = os.stat(loop).st_rdev  # noqa: PTH116  # a Path's stat is the same call
    assert f"{os.major(number)}:{os.minor(number)}" == table(env.prefix + name).split()[4]
