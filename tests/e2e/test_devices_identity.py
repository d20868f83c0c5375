"""What is not provably the reconciler's is left alone, and so is what a record has paused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(house.pool())
        house.start("--suspend-grace", "1s", "--resync", "250ms")
        house.wait_pool()
        yield house


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
def test_a_name_that_somebody_else_carries_is_left_to_them(house: House, uuid: str, owner: str, state: str) -> None:
    name = f"taken-{owner.partition(' ')[0].lower()}-{state.lower()}"
    device = house.dm_name(name)
    run("dmsetup", "create", device, *(("--uuid", uuid) if uuid else ()), "--table", "0 2048 error")
    before = house.info(name)
    status = house.have(name, "Conflict", state=state)
    assert owner in status["message"]
    house.look_again()
    assert house.info(name) == before
    assert house.table(name) == "0 2048 error"
    assert house.told(name, "Blocked", "Conflict")
    run("dmsetup", "remove", "--retry", device)
    house.wait(name, live=state)


def test_a_foreign_device_that_takes_the_place_of_ours_is_left_alone(house: House) -> None:
    house.have("replaced")
    with house.asleep():
        run("dmsetup", "remove", "--retry", house.dm_name("replaced"))
        run("dmsetup", "create", house.dm_name("replaced"), "--uuid", "LVM-dmrtestreplaced", "--table", "0 2048 error")
    house.wait("replaced", "Conflict")
    house.look_again()
    assert house.table("replaced") == "0 2048 error"
    run("dmsetup", "remove", "--retry", house.dm_name("replaced"))
    house.wait("replaced", live="Active")
    assert house.table("replaced") == house.thin_table("replaced")


@pytest.mark.parametrize("state", ["Active", "Inactive", "Absent"])
def test_a_thin_that_is_live_under_another_name_is_a_conflict(house: House, state: str) -> None:
    name, stranger = f"twice-{state.lower()}", f"{house.prefix}stranger-{state.lower()}"
    house.have(name, state="Inactive")
    thin_id = house.status(name)["deviceId"]
    run("dmsetup", "create", stranger, "--table", house.thin_table(name))
    house.change(name, state=state)
    status = house.wait(name, "Conflict")
    assert stranger in status["message"]
    house.look_again()
    assert house.info(name) is None
    assert house.dm.info(stranger)
    run("udevadm", "settle")
    run("dmsetup", "remove", "--retry", stranger)
    house.wait(name, live=state)
    assert (thin_id in house.thin_ids()) == (state != "Absent")


def test_an_unnamed_device_that_shows_our_thin_is_ours(house: House) -> None:
    """As a person or an older tool activates it."""
    house.have("plain")
    table = house.table("plain")
    with house.asleep():
        run("dmsetup", "remove", "--retry", house.dm_name("plain"))
        run("dmsetup", "create", house.dm_name("plain"), "--table", table)
        run("udevadm", "settle")
    house.look_again()
    info = house.info("plain")
    assert info is not None
    assert info.uuid == ""
    house.wait("plain", live="Active")


def test_a_paused_device_is_left_as_it_is_and_its_drift_is_told(house: House) -> None:
    house.have("resting")
    drift = house.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="InactiveButDesiredActive")
    house.have("resting", "Paused", paused=True)
    run("dmsetup", "remove", "--retry", house.dm_name("resting"))
    eventually(lambda: house.told("resting", "Found", "InactiveButDesiredActive"), "the drift is told")
    house.look_again()
    assert house.info("resting") is None
    assert house.status("resting")["reason"] == "Paused"
    now = house.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="InactiveButDesiredActive")
    assert now == drift + 1
    house.have("resting")
    assert house.info("resting")


def test_the_devices_of_a_paused_pool_are_left_as_they_are(house: House) -> None:
    house.declare(house.pool("calm"), file="calm.yaml")
    house.wait_pool(pool="calm")
    house.have("one", pool="calm")
    house.declare(house.pool("calm", paused=True), file="calm.yaml")
    house.wait("one", "Paused", pool="calm")
    run("dmsetup", "suspend", house.dm_name("one", "calm"))
    eventually(lambda: house.told("one", "Found", "Suspended", "calm"), "the drift is told")
    house.declare(house.device("two", "calm"), file="two.yaml")
    house.wait("two", "Paused", pool="calm")
    house.look_again(8)  # well beyond the grace
    info = house.info("one", "calm")
    assert info is not None
    assert info.suspended
    assert house.info("two", "calm") is None
    house.declare(house.pool("calm"), file="calm.yaml")
    house.wait("one", pool="calm", live="Active")
    house.wait("two", pool="calm", live="Active")


def test_a_strangers_device_under_a_private_name_stays(house: House) -> None:
    private = f"{house.dm_name('prepared')}.private"
    run("dmsetup", "create", private, "--table", "0 2048 error")
    status = house.have("prepared", "Conflict", filesystem={"type": "ext4"})
    assert private in status["message"]
    house.look_again()
    assert house.dm.info(private)
    run("dmsetup", "remove", "--retry", private)
    house.wait("prepared", live="Active")
