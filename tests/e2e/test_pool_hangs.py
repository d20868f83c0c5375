"""A data disk that fails under healthy metadata, and a pool that fills up between the look and a suspension."""

from __future__ import annotations

import errno
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from reconciler.kernel.dm.device_mapper import SUSPEND_DEADLINE, LibDm
from reconciler.kernel.host import host_kernel
from reconciler.kernel.protocol import Kernel
from reconciler.kernel.steps.table import run_step
from reconciler.model.errors import HostError, PreconditionError
from reconciler.model.steps import CreateSnapshot
from reconciler.model.units import Sectors
from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.pools import declared, dmsetup, exists, loops_on, make_disk, passes, pool_status, transaction
from tests.testing.real_kernel import TestPool, info_of, run

MIB: Final = 1024 * 1024
SECTORS: Final = 64 * 2048
SPECS: Final[dict[str, dict[str, Any]]] = {
    "origin": {},
    "fs": {"filesystem": {"type": "ext4"}},
    "raw": {},
    "copy": {"snapshotOf": "origin"},
}


class TestAFullPoolAndASuspension:
    """Below the daemon: the step is asked for as if the look had found room."""

    @pytest.fixture
    def pool(self, make_pool: Callable[..., TestPool]) -> TestPool:
        return make_pool(data=8 * MIB, metadata=4 * MIB, thins=(0, 1))

    @pytest.fixture
    def full(self, pool: TestPool, make_thin: Callable[..., str], dm: LibDm) -> Iterator[str]:
        """The origin, whose writes wait. Its name."""
        name = make_thin(pool, 0, "origin", 32 * MIB)
        command = ["dd", "if=/dev/zero", f"of=/dev/mapper/{name}", "bs=1M", "count=20", "oflag=direct"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        eventually(lambda: "out_of_data_space" in dm.status(pool.name)[0][1], "it is full")
        yield name
        with pool.data_file.open("r+b") as file:
            file.truncate(64 * MIB)
        run("losetup", "--set-capacity", str(pool.data))
        table = replace(pool.table, length=Sectors(pool.table.length * 8))
        dm.load(pool.name, (table.target(),))
        dm.resume(pool.name, hidden=True)
        assert process.wait(30) == 0, "its writes went on when the pool grew"

    def test_a_suspension_behind_waiting_writes_ends_in_time_and_is_undone(self, full: str, dm: LibDm) -> None:
        begun = time.monotonic()
        with pytest.raises(HostError) as caught:
            dm.suspend(full)
        assert caught.value.errno == errno.EINTR
        assert SUSPEND_DEADLINE - 1 < time.monotonic() - begun < 3 * SUSPEND_DEADLINE
        assert not info_of(dm, full).suspended

    def test_a_snapshot_in_a_pool_that_has_filled_up_is_not_begun(self, pool: TestPool, full: str, dm: LibDm) -> None:
        with pytest.raises(HostError) as caught:
            run_step(host_kernel(), CreateSnapshot(pool.name, 5, 0, full))
        assert caught.value.errno == errno.EROFS
        assert not info_of(dm, full).suspended

    def test_a_snapshot_is_not_begun_while_more_waits_to_be_written_than_there_is_room(
        self, pool: TestPool, make_thin: Callable[..., str], dm: LibDm
    ) -> None:
        name = make_thin(pool, 0, "origin", 32 * MIB)
        run("dd", "if=/dev/zero", f"of=/dev/mapper/{name}", "bs=1M", "count=7", "oflag=direct")
        kernel: Kernel = host_kernel()
        with Path(f"/dev/mapper/{name}").open("r+b") as opened:  # its last close would write
            opened.write(b"x" * 4 * MIB)
            opened.flush()
            assert kernel.disks.unwritten() > MIB
            with pytest.raises(PreconditionError) as caught:
                run_step(kernel, CreateSnapshot(pool.name, 5, 0, name))
        assert "wait to be written" in str(caught.value)
        run("sync")
        run_step(kernel, CreateSnapshot(pool.name, 5, 0, name))
        assert not info_of(dm, name).suspended


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    """Its pool's data is on a linear device, which another table takes the place of."""
    with an_environment() as env:
        loops = {name: make_disk(env, f"{name}.disk", mib) for name, mib in (("data", 64), ("meta", 4))}
        disk = f"{env.prefix}datadisk"
        dmsetup("create", disk, "--table", f"0 {SECTORS} linear {loops['data']} 0")
        env.start("--suspend-grace", "1s", "--resync", "500ms")
        places: dict[str, Any] = {"data": {"device": f"/dev/mapper/{disk}"}, "metadata": {"device": loops["meta"]}}
        env.places = places  # type: ignore[attr-defined]
        env.declare(env.pool(**places))
        env.wait_pool()
        env.have("origin")
        yield env


def swap(env: Environment, kind: str, *more: str) -> None:
    """What the data lies on, from now on: nothing announces it."""
    disk = f"{env.prefix}datadisk"
    loop = loops_on(env.root / "data.disk")[0]
    places = {"error": "", "linear": f"{loop} 0", "flakey": f"{loop} 0"}
    with env.asleep():
        dmsetup("suspend", "--noflush", "--nolockfs", disk)
        dmsetup("load", disk, "--table", " ".join([f"0 {SECTORS} {kind}", places[kind], *more]).rstrip())
        dmsetup("resume", "--noflush", "--nolockfs", disk)


def nothing_leaked(env: Environment) -> bool:
    return len(env.thin_ids()) == len(env.get("/api/v1/devices")["items"])


@pytest.mark.soak
@pytest.mark.parametrize("name", ["fs", "raw", "copy"])
def test_a_data_disk_that_fails_is_named_and_nothing_made_until_it_is_back(env: Environment, name: str) -> None:
    before = transaction(env.prefix + "tank")
    swap(env, "error")
    env.change(name, **SPECS[name])

    def told() -> bool:
        return f"{env.prefix}datadisk" in env.status(name).get("message", "")

    eventually(told, "the disk is named")
    assert pool_status(env.prefix + "tank")[4] == "rw"
    passes(env, 3)
    assert told()
    assert transaction(env.prefix + "tank") == before, "nothing was made, and nothing undone"
    swap(env, "linear")
    env.wait(name, live="Active")
    assert nothing_leaked(env)


@pytest.mark.soak
def test_a_data_disk_that_takes_no_writes_fails_a_commit_and_the_repair_is_told(env: Environment) -> None:
    """It can be read, so that nothing shows beforehand; the kernel flushes it before each commit of the metadata."""
    if "flakey" not in dmsetup("targets") and run("modprobe", "dm-flakey", check=False).code:
        pytest.skip("this kernel has no dm-flakey")
    pool = env.prefix + "tank"
    swap(env, "flakey", "0 600 1 error_writes")
    env.change("late", filesystem={"type": "ext4"})
    said = env.wait_pool("PoolUnhealthy", mode="needs_check")["message"]
    assert f"/dev/mapper/{env.prefix}datadisk" in said
    swap(env, "linear")
    commands = [word for word in said.split("`") if word.startswith("thin_check")]
    record = env.pool(data=env.places["data"], metadata=env.places["metadata"])  # type: ignore[attr-defined]
    active = [name for name in ("origin", "fs", "raw", "copy") if env.status(name).get("live") == "Active"]
    for name in active:
        env.change(name, state="Inactive", **SPECS[name])
    env.change("late", state="Inactive", filesystem={"type": "ext4"})
    env.declare(declared(record, state="Inactive"))
    eventually(lambda: not exists(env, pool), "it is down")
    for command in commands:
        run(*command.split())
    env.declare(record)
    for name in active:
        env.change(name, **SPECS[name])
    env.have("late", filesystem={"type": "ext4"})
    env.wait_pool(mode="rw")
    assert nothing_leaked(env)
