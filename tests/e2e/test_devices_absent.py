"""Devices whose records are Absent: no device, no thin id, no data; and thin ids that somebody else has deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.real_kernel import run

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool())
        env.start("--suspend-grace", "1s", "--resync", "250ms")
        env.wait_pool()
        yield env


def absent(env: Environment, name: str, **spec: Any) -> None:
    env.declare(env.device(name, state="Absent", **spec), file=f"tank-{name}.yaml")
    eventually(lambda: env.status(name).get("live") == "Absent", f"{name} is absent")


def delete_by_hand(env: Environment, name: str) -> None:
    thin_id = env.status(name)["deviceId"]
    with env.asleep():
        if env.info(name) is not None:
            run("dmsetup", "remove", "--retry", env.dm_name(name))
        run("dmsetup", "message", f"{env.prefix}tank", "0", f"delete {thin_id}")


def allocated(env: Environment) -> int:
    """Bytes that the pool's data file takes from its filesystem."""
    return (env.root / "tank.data").stat().st_blocks * 512


def fill(env: Environment, name: str, mib: int) -> None:
    run("dd", "if=/dev/urandom", f"of={env.node(name)}", "bs=1M", f"count={mib}", "oflag=direct", "status=none")


@pytest.mark.parametrize(
    "state", ["Active", *(pytest.param(state, marks=pytest.mark.soak) for state in ("Inactive", "Committed"))]
)
def test_an_absent_device_leaves_nothing(env: Environment, state: str) -> None:
    name = f"goes-{state.lower()}"
    env.have(name, state=state)
    thin_id = env.status(name)["deviceId"]
    assert thin_id in env.thin_ids()
    absent(env, name)
    assert env.info(name) is None
    assert thin_id not in env.thin_ids()
    assert env.told(name, "Healed", "PresentButDesiredAbsent")


@pytest.mark.soak
def test_a_suspended_one_is_resumed_first(env: Environment) -> None:
    env.have("frozen")
    thin_id = env.status("frozen")["deviceId"]
    run("dmsetup", "suspend", env.dm_name("frozen"))
    absent(env, "frozen")
    assert env.info("frozen") is None
    assert thin_id not in env.thin_ids()


def test_a_mounted_one_waits_for_its_umount(env: Environment) -> None:
    env.have("used", filesystem={"type": "ext4"})
    thin_id = env.status("used")["deviceId"]
    with env.mounted("used") as point:
        env.change("used", state="Absent")
        status = env.wait("used", "Busy")
        assert f"mounted at {point}" in status["message"]
        (point / "file").write_text("still served", encoding="utf-8")
        assert thin_id in env.thin_ids()
    eventually(lambda: env.info("used") is None, "it is gone")
    eventually(lambda: env.status("used").get("live") == "Absent", "it is absent")
    assert thin_id not in env.thin_ids()


def test_its_blocks_are_given_back_where_that_is_asked_for(env: Environment) -> None:
    for name in ("kept-blocks", "given-blocks"):
        env.have(name)
        fill(env, name, 8)
    full = allocated(env)
    absent(env, "kept-blocks")
    assert allocated(env) > full - 4 * MIB, "freed in the pool, and not below it"
    absent(env, "given-blocks", discardOnDelete=True)
    assert allocated(env) < full - 6 * MIB
    assert not [d.name for d in env.dm.list_all() if d.name.endswith(".private") and d.name.startswith(env.prefix)]


@pytest.mark.soak
def test_what_somebody_else_has_deleted_is_gone(env: Environment) -> None:
    env.have("stolen")
    env.have("neighbour")
    delete_by_hand(env, "stolen")
    absent(env, "stolen")
    assert env.info("stolen") is None
    env.wait("neighbour", live="Active")
    env.wait_pool()


def test_a_lost_device_is_never_replaced_by_an_empty_one(env: Environment) -> None:
    env.have("lost")
    thin_id = env.status("lost")["deviceId"]
    delete_by_hand(env, "lost")
    status = env.wait("lost", "MetadataMismatch")
    assert f"thin id {thin_id}" in status["message"]
    assert "state: Absent" in status["message"]
    assert "forget device" in status["message"]
    before = env.thin_ids()
    env.look_again()
    assert env.thin_ids().keys() == before.keys()
    assert env.info("lost") is None
    absent(env, "lost")
    env.have("lost")
    assert env.status("lost")["deviceId"] != thin_id


def test_a_lost_device_that_is_forgotten_is_made_anew(env: Environment) -> None:
    env.have("forgotten", state="Inactive")
    delete_by_hand(env, "forgotten")
    env.change("forgotten", state="Active")
    env.wait("forgotten", "MetadataMismatch")
    env.stop()
    env.cli("forget", "device", env.key("forgotten"), "--yes")
    env.start()
    env.wait("forgotten", live="Active")


@pytest.mark.soak
def test_what_is_made_again_is_empty(env: Environment) -> None:
    env.have("again")
    thin_id = env.status("again")["deviceId"]
    fill(env, "again", 1)
    absent(env, "again")
    env.have("again")
    assert env.status("again")["deviceId"] != thin_id
    head = run("dd", f"if={env.node('again')}", "bs=4096", "count=1", "status=none", "iflag=direct").out
    assert set(head) == {"\0"}


def test_an_origin_can_go_before_its_snapshot(env: Environment) -> None:
    env.have("golden", filesystem={"type": "ext4"})
    env.have("copy", snapshotOf="golden")
    absent(env, "golden")
    env.look_again(1)
    env.wait("copy", live="Active")
    assert run("e2fsck", "-fn", str(env.node("copy"))).code == 0


@pytest.mark.soak
def test_a_deletion_that_was_killed_goes_on_though_the_record_came_back(env: Environment) -> None:
    env.have("killed", size="200MiB")
    fill(env, "killed", 64)
    thin_id = env.status("killed")["deviceId"]
    env.declare(env.device("killed", size="200MiB", state="Absent", discardOnDelete=True), file="tank-killed.yaml")
    private = f"{env.dm_name('killed')}.private"
    eventually(lambda: env.dm.info(private), "it is being discarded", pause=0.005)
    env.crash()
    env.declare(env.device("killed", size="200MiB"), file="tank-killed.yaml")
    env.start()
    env.wait("killed", live="Active")
    assert env.told("killed", "Blocked", "InvalidChange"), "it is said that the data goes"
    ids = env.thin_ids()
    assert thin_id not in ids
    assert env.status("killed")["deviceId"] in ids
    assert env.dm.info(private) is None
