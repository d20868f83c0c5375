"""Devices whose records are Absent: no device, no thin id, no data; and thin ids that somebody else has deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.real_kernel import run

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(house.pool())
        house.start("--suspend-grace", "1s", "--resync", "250ms")
        house.wait_pool()
        yield house


def absent(house: House, name: str, **spec: Any) -> None:
    house.declare(house.device(name, state="Absent", **spec), file=f"tank-{name}.yaml")
    eventually(lambda: house.status(name).get("live") == "Absent", f"{name} is absent")


def delete_by_hand(house: House, name: str) -> None:
    thin_id = house.status(name)["deviceId"]
    with house.asleep():
        if house.info(name) is not None:
            run("dmsetup", "remove", "--retry", house.dm_name(name))
        run("dmsetup", "message", f"{house.prefix}tank", "0", f"delete {thin_id}")


def allocated(house: House) -> int:
    """Bytes that the pool's data file takes from its filesystem."""
    return (house.root / "tank.data").stat().st_blocks * 512


def fill(house: House, name: str, mib: int) -> None:
    run("dd", "if=/dev/urandom", f"of={house.node(name)}", "bs=1M", f"count={mib}", "oflag=direct", "status=none")


@pytest.mark.parametrize(
    "state", ["Active", *(pytest.param(state, marks=pytest.mark.soak) for state in ("Inactive", "Committed"))]
)
def test_an_absent_device_leaves_nothing(house: House, state: str) -> None:
    name = f"goes-{state.lower()}"
    house.have(name, state=state)
    thin_id = house.status(name)["deviceId"]
    assert thin_id in house.thin_ids()
    absent(house, name)
    assert house.info(name) is None
    assert thin_id not in house.thin_ids()
    assert house.told(name, "Healed", "PresentButDesiredAbsent")


@pytest.mark.soak
def test_a_suspended_one_is_resumed_first(house: House) -> None:
    house.have("frozen")
    thin_id = house.status("frozen")["deviceId"]
    run("dmsetup", "suspend", house.dm_name("frozen"))
    absent(house, "frozen")
    assert house.info("frozen") is None
    assert thin_id not in house.thin_ids()


def test_a_mounted_one_waits_for_its_umount(house: House) -> None:
    house.have("used", filesystem={"type": "ext4"})
    thin_id = house.status("used")["deviceId"]
    with house.mounted("used") as point:
        house.change("used", state="Absent")
        status = house.wait("used", "Busy")
        assert f"mounted at {point}" in status["message"]
        (point / "file").write_text("still served", encoding="utf-8")
        assert thin_id in house.thin_ids()
    eventually(lambda: house.info("used") is None, "it is gone")
    eventually(lambda: house.status("used").get("live") == "Absent", "it is absent")
    assert thin_id not in house.thin_ids()


def test_its_blocks_are_given_back_where_that_is_asked_for(house: House) -> None:
    for name in ("kept-blocks", "given-blocks"):
        house.have(name)
        fill(house, name, 8)
    full = allocated(house)
    absent(house, "kept-blocks")
    assert allocated(house) > full - 4 * MIB, "freed in the pool, and not below it"
    absent(house, "given-blocks", discardOnDelete=True)
    assert allocated(house) < full - 6 * MIB
    assert not [d.name for d in house.dm.list_all() if d.name.endswith(".private") and d.name.startswith(house.prefix)]


@pytest.mark.soak
def test_what_somebody_else_has_deleted_is_gone(house: House) -> None:
    house.have("stolen")
    house.have("neighbour")
    delete_by_hand(house, "stolen")
    absent(house, "stolen")
    assert house.info("stolen") is None
    house.wait("neighbour", live="Active")
    house.wait_pool()


def test_a_lost_device_is_never_replaced_by_an_empty_one(house: House) -> None:
    house.have("lost")
    thin_id = house.status("lost")["deviceId"]
    delete_by_hand(house, "lost")
    status = house.wait("lost", "MetadataMismatch")
    assert f"thin id {thin_id}" in status["message"]
    assert "state: Absent" in status["message"]
    assert "forget device" in status["message"]
    before = house.thin_ids()
    house.look_again()
    assert house.thin_ids().keys() == before.keys()
    assert house.info("lost") is None
    absent(house, "lost")
    house.have("lost")
    assert house.status("lost")["deviceId"] != thin_id


def test_a_lost_device_that_is_forgotten_is_made_anew(house: House) -> None:
    house.have("forgotten", state="Inactive")
    delete_by_hand(house, "forgotten")
    house.change("forgotten", state="Active")
    house.wait("forgotten", "MetadataMismatch")
    house.stop()
    house.cli("forget", "device", house.key("forgotten"), "--yes")
    house.start()
    house.wait("forgotten", live="Active")


@pytest.mark.soak
def test_what_is_made_again_is_empty(house: House) -> None:
    house.have("again")
    thin_id = house.status("again")["deviceId"]
    fill(house, "again", 1)
    absent(house, "again")
    house.have("again")
    assert house.status("again")["deviceId"] != thin_id
    head = run("dd", f"if={house.node('again')}", "bs=4096", "count=1", "status=none", "iflag=direct").out
    assert set(head) == {"\0"}


def test_an_origin_can_go_before_its_snapshot(house: House) -> None:
    house.have("golden", filesystem={"type": "ext4"})
    house.have("copy", snapshotOf="golden")
    absent(house, "golden")
    house.look_again(1)
    house.wait("copy", live="Active")
    assert run("e2fsck", "-fn", str(house.node("copy"))).code == 0


@pytest.mark.soak
def test_a_deletion_that_was_killed_goes_on_though_the_record_came_back(house: House) -> None:
    house.have("killed", size="200MiB")
    fill(house, "killed", 64)
    thin_id = house.status("killed")["deviceId"]
    house.declare(house.device("killed", size="200MiB", state="Absent", discardOnDelete=True), file="tank-killed.yaml")
    private = f"{house.dm_name('killed')}.private"
    eventually(lambda: house.dm.info(private), "it is being discarded", pause=0.005)
    house.crash()
    house.declare(house.device("killed", size="200MiB"), file="tank-killed.yaml")
    house.start()
    house.wait("killed", live="Active")
    assert house.told("killed", "Blocked", "InvalidChange"), "it is said that the data goes"
    ids = house.thin_ids()
    assert thin_id not in ids
    assert house.status("killed")["deviceId"] in ids
    assert house.dm.info(private) is None
