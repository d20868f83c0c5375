"""What is not provably the reconciler's is left alone, and so is what a record has paused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool())
        env.start("--suspend-grace", "1s", "--resync", "250ms")
        env.wait_pool()
        yield env


@pytest.mark.parametrize(
    ("uuid", "owner"),
    [
        ("LVM-dmrtestdmrtest", "LVM"),
        (f"DMR-{'0' * 32}-{'1' * 32}", "another dm-reconciler store"),
        ("", "no UUID"),
    ],
    ids=["lvm", "another-store", "nobody"],
)
@pytest.mark.parametrize("state", ["Active", "Absent"])
def test_a_name_that_somebody_else_carries_is_left_to_them(env: Environment, uuid: str, owner: str, state: str) -> None:
    name = f"taken-{owner.partition(' ')[0].lower()}-{state.lower()}"
    device = env.dm_name(name)
    run("dmsetup", "create", device, *(("--uuid", uuid) if uuid else ()), "--table", "0 2048 error")
    before = env.info(name)
    status = env.have(name, "Conflict", state=state)
    assert owner in status["message"]
    env.look_again()
    assert env.info(name) == before
    assert env.table(name) == "0 2048 error"
    assert env.told(name, "Blocked", "Conflict")
    run("dmsetup", "remove", "--retry", device)
    env.wait(name, live=state)


def test_a_foreign_device_that_takes_the_place_of_ours_is_left_alone(env: Environment) -> None:
    env.have("replaced")
    with env.asleep():
        run("dmsetup", "remove", "--retry", env.dm_name("replaced"))
        run("dmsetup", "create", env.dm_name("replaced"), "--uuid", "LVM-dmrtestreplaced", "--table", "0 2048 error")
    env.wait("replaced", "Conflict")
    env.look_again()
    assert env.table("replaced") == "0 2048 error"
    run("dmsetup", "remove", "--retry", env.dm_name("replaced"))
    env.wait("replaced", live="Active")
    assert env.table("replaced") == env.thin_table("replaced")


@pytest.mark.parametrize("state", ["Active", "Inactive", "Absent"])
def test_a_thin_that_is_live_under_another_name_is_a_conflict(env: Environment, state: str) -> None:
    name, stranger = f"twice-{state.lower()}", f"{env.prefix}stranger-{state.lower()}"
    env.have(name, state="Inactive")
    thin_id = env.status(name)["deviceId"]
    run("dmsetup", "create", stranger, "--table", env.thin_table(name))
    env.change(name, state=state)
    status = env.wait(name, "Conflict")
    assert stranger in status["message"]
    env.look_again()
    assert env.info(name) is None
    assert env.dm.info(stranger)
    run("udevadm", "settle")
    run("dmsetup", "remove", "--retry", stranger)
    env.wait(name, live=state)
    assert (thin_id in env.thin_ids()) == (state != "Absent")


def test_an_unnamed_device_that_shows_our_thin_is_ours(env: Environment) -> None:
    """As a person or an older tool activates it."""
    env.have("plain")
    table = env.table("plain")
    with env.asleep():
        run("dmsetup", "remove", "--retry", env.dm_name("plain"))
        run("dmsetup", "create", env.dm_name("plain"), "--table", table)
        run("udevadm", "settle")
    env.look_again()
    info = env.info("plain")
    assert info is not None
    assert info.uuid == ""
    env.wait("plain", live="Active")


def test_a_paused_device_is_left_as_it_is_and_its_drift_is_told(env: Environment) -> None:
    env.have("resting")
    drift = env.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="InactiveButDesiredActive")
    env.have("resting", "Paused", paused=True)
    run("dmsetup", "remove", "--retry", env.dm_name("resting"))
    eventually(lambda: env.told("resting", "Found", "InactiveButDesiredActive"), "the drift is told")
    env.look_again()
    assert env.info("resting") is None
    assert env.status("resting")["reason"] == "Paused"
    now = env.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="InactiveButDesiredActive")
    assert now == drift + 1
    env.have("resting")
    assert env.info("resting")


def test_the_devices_of_a_paused_pool_are_left_as_they_are(env: Environment) -> None:
    env.declare(env.pool("calm"), file="calm.yaml")
    env.wait_pool(pool="calm")
    env.have("one", pool="calm")
    env.declare(env.pool("calm", paused=True), file="calm.yaml")
    env.wait("one", "Paused", pool="calm")
    run("dmsetup", "suspend", env.dm_name("one", "calm"))
    eventually(lambda: env.told("one", "Found", "Suspended", "calm"), "the drift is told")
    env.declare(env.device("two", "calm"), file="two.yaml")
    env.wait("two", "Paused", pool="calm")
    env.look_again(8)  # well beyond the grace
    info = env.info("one", "calm")
    assert info is not None
    assert info.suspended
    assert env.info("two", "calm") is None
    env.declare(env.pool("calm"), file="calm.yaml")
    env.wait("one", pool="calm", live="Active")
    env.wait("two", pool="calm", live="Active")


def test_a_strangers_device_under_a_private_name_stays(env: Environment) -> None:
    private = f"{env.dm_name('prepared')}.private"
    run("dmsetup", "create", private, "--table", "0 2048 error")
    status = env.have("prepared", "Conflict", filesystem={"type": "ext4"})
    assert private in status["message"]
    env.look_again()
    assert env.dm.info(private)
    run("dmsetup", "remove", "--retry", private)
    env.wait("prepared", live="Active")
