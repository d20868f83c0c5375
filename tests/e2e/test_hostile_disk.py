"""The daemon's store has no room: nothing is done to any device meanwhile, it is said, and it goes on by itself."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.pools import attach, dmsetup, is_suspended, transaction
from tests.testing.real_kernel import MIB, run


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.state.mkdir(mode=0o700)
        run("mount", "-t", "tmpfs", "-o", "size=1M,mode=0700", "dmrtest", str(env.state))
        try:
            env.declare(env.pool(), env.device("app"))
            env.start("--suspend-grace", "0s")
            env.wait("app")
            yield env
            env.stop()
        finally:
            run("umount", "--lazy", str(env.state))


@contextmanager
def no_room(env: Environment) -> Iterator[None]:
    filler = env.state / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


def readiness(env: Environment) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{env.port}/readyz", timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"


def test_a_full_disk_stops_all_work_and_room_lets_it_go_on(env: Environment) -> None:
    before = transaction(env.prefix + "tank")
    with no_room(env):
        env.declare(env.device("late"), file="late.yaml")
        eventually(lambda: "503 store " in readiness(env), "it says that it cannot write")
        dmsetup("suspend", env.dm_name("app"))
        assert "free some space" in readiness(env)
        assert "nothing is done to any device" in readiness(env)
        env.look_again(3)
        assert env.get("/healthz").startswith("ok")
        assert is_suspended(env, env.dm_name("app")), env.tail()
        assert "\ndm_reconciler_store_writable 0.0\n" in env.get("/metrics")
        assert env.info("late") is None
        assert transaction(env.prefix + "tank") == before
        assert "free some space" in env.tail()
    env.wait("late")
    env.wait("app")
    eventually(lambda: readiness(env).startswith("ok"), "the pass in which all that was done is over")
    eventually(lambda: env.metric("dm_reconciler_store_writable") == 1, "it can be written to again")
    assert transaction(env.prefix + "tank") == before + 1
    assert "going on" in env.tail()
    assert "Traceback" not in env.log.read_text(encoding="utf-8")
    assert [event for event in env.events(env.key("app")) if event["reason"] == "Suspended"], "it is told afterwards"


@contextmanager
def a_disk_for(env: Environment) -> Iterator[str]:
    """The state directory on a disk of its own, which a test can break."""
    image, name = env.root / "disk", f"{env.prefix}disk"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    loop = attach(image)
    dmsetup("create", name, "--table", f"0 131072 linear {loop} 0")
    run("mkfs.ext4", "-q", f"/dev/mapper/{name}")
    env.state.mkdir(mode=0o700)
    run("mount", f"/dev/mapper/{name}", str(env.state))
    env.state.chmod(0o700)
    try:
        yield name
    finally:
        run("umount", str(env.state), check=False)
        dmsetup("remove", "--retry", name)
        run("losetup", "--detach", loop)


def swap_table(name: str, table: str) -> None:
    dmsetup("suspend", "--noflush", "--nolockfs", name)
    dmsetup("load", name, "--table", table)
    dmsetup("resume", name)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_disk_that_fails_stops_all_work_and_its_repair_loses_nothing() -> None:
    with an_environment() as env, a_disk_for(env) as disk:
        env.declare(env.pool(), env.device("app"))
        env.start("--suspend-grace", "0s")
        env.wait("app")
        before, good = transaction(env.prefix + "tank"), dmsetup("table", disk)
        swap_table(disk, "0 131072 error")
        env.declare(env.device("late"), file="late.yaml")
        eventually(lambda: "503 store " in readiness(env), "it says that it cannot write")
        env.look_again(3)
        assert env.info("late") is None
        assert transaction(env.prefix + "tank") == before
        env.stop()
        run("umount", str(env.state))
        swap_table(disk, good)
        run("e2fsck", "-f", "-p", f"/dev/mapper/{disk}", check=False)
        run("mount", f"/dev/mapper/{disk}", str(env.state))
        env.start()
        env.wait("late")
        env.wait("app")
        assert transaction(env.prefix + "tank") == before + 1
        env.stop()
