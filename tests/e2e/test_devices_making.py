"""Making devices: new ones, snapshots of what is in use, ids that are somebody's, and crashes in between."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.real_kernel import run


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(house.pool())
        house.start("--suspend-grace", "1s", "--resync", "250ms")
        house.wait_pool()
        yield house


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Files are written and replaced there all the while."""
    stop, begun = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            (folder / str(number % 40)).write_bytes(os.urandom(65536))
            if number > 5:
                begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(30)
        yield
    finally:
        stop.set()
        writer.join()


def label(node: Path) -> str:
    return run("blkid", "-p", "-o", "value", "-s", "LABEL", str(node)).out


def test_a_new_device_is_made_with_its_filesystem(house: House) -> None:
    status = house.have("base", filesystem={"type": "ext4", "label": "golden", "blockSize": "1KiB"})
    assert status["live"] == "Active"
    assert status["uuid"].startswith("DMR-")
    info = house.info("base")
    assert info is not None
    assert info.uuid == status["uuid"]
    assert house.table("base") == house.thin_table("base")
    assert label(house.node("base")) == "golden"
    assert house.told("base", "Healed", "NotCreated")
    assert status["deviceId"] in house.thin_ids()


@pytest.mark.soak
def test_a_chain_of_snapshots_is_made_in_order(house: House) -> None:
    house.have("z-first", filesystem={"type": "ext4"})
    with house.mounted("z-first") as point:
        (point / "file").write_text("in all three", encoding="utf-8")
    house.declare(
        house.device("a-third", snapshotOf="m-second", state="Active"),
        house.device("m-second", snapshotOf="z-first", state="Committed"),
        file="chain.yaml",
    )
    house.wait("a-third", live="Active")
    house.wait("m-second", live="Inactive")
    with house.mounted("a-third") as point:
        assert (point / "file").read_text(encoding="utf-8") == "in all three"


def test_a_snapshot_of_a_filesystem_that_is_written_to_is_whole(house: House) -> None:
    house.have("busy", size="64MiB", filesystem={"type": "ext4"})
    with house.mounted("busy") as point, writing_to(point):
        for number in range(3):
            house.have(f"moment-{number}", snapshotOf="busy")
            assert run("e2fsck", "-fn", str(house.node(f"moment-{number}")), check=False).code == 0
        origin = house.info("busy")
        assert origin is not None
        assert not origin.suspended


@pytest.mark.soak
def test_a_snapshot_waits_for_an_origin_that_somebody_has_suspended(house: House) -> None:
    house.have("held")
    house.have("held", "Paused", paused=True)
    run("dmsetup", "suspend", house.dm_name("held"))
    house.have("of-held", "WaitingForOrigin", snapshotOf="held")
    house.look_again()
    info = house.info("held")
    assert info is not None
    assert info.suspended, "somebody else's freeze is not ended"
    run("dmsetup", "resume", house.dm_name("held"))
    house.look_again()
    assert house.info("of-held") is None, "a paused origin is not suspended either"
    house.have("held")
    house.wait("of-held", live="Active")


@pytest.mark.soak
def test_a_snapshot_waits_for_an_origin_that_is_yet_to_come(house: House) -> None:
    house.have("early", "WaitingForOrigin", snapshotOf="late")
    house.have("late")
    house.wait("early", live="Active")


def test_a_strangers_thin_is_not_touched(house: House) -> None:
    house.have("before")
    pool, next_id = f"{house.prefix}tank", house.status("before")["deviceId"] + 1
    stranger = f"{house.prefix}stranger"
    with house.asleep():
        run("dmsetup", "message", pool, "0", f"create_thin {next_id}")
        table = house.table("before").rpartition(" ")[0]
        run("dmsetup", "create", stranger, "--table", f"{table} {next_id}")
        run("dd", f"of=/dev/mapper/{stranger}", "oflag=direct", "status=none", stdin="a stranger's".ljust(4096))
        run("udevadm", "settle")
        run("dmsetup", "remove", "--retry", stranger)
    status = house.have("after", filesystem={"type": "ext4"})
    assert status["deviceId"] == next_id + 1
    run("dmsetup", "create", stranger, "--table", f"{table} {next_id}")
    assert run("dd", f"if=/dev/mapper/{stranger}", "bs=4096", "count=1", "status=none").out.startswith("a stranger's")
    run("udevadm", "settle")
    run("dmsetup", "remove", "--retry", stranger)


def test_an_existing_thin_is_adopted_as_it_is(house: House) -> None:
    house.have("model")
    pool, foreign = f"{house.prefix}tank", f"{house.prefix}vg-thin1"
    table = f"{house.table('model').rpartition(' ')[0]} 700"
    run("dmsetup", "message", pool, "0", "create_thin 700")
    run("dmsetup", "create", foreign, "--table", table)
    run("dd", f"of=/dev/mapper/{foreign}", "oflag=direct", "status=none", stdin="already there".ljust(4096))
    run("udevadm", "settle")
    before = house.dm.info(foreign)
    house.have("adopted", adopt={"deviceId": 700, "dmName": foreign}, size="16MiB")
    after = house.dm.info(foreign)
    assert before is not None
    assert after is not None
    assert (after.devno, after.uuid) == (before.devno, ""), "it was not made anew"
    run("dmsetup", "remove", "--retry", foreign)
    eventually(lambda: house.dm.info(foreign), "it is activated under its own name")
    house.wait("adopted", live="Active")
    assert run("dd", f"if=/dev/mapper/{foreign}", "bs=4096", "count=1", "status=none").out.startswith("already there")


@pytest.mark.soak
def test_killed_while_it_makes_a_filesystem_it_begins_again(house: House) -> None:
    house.have("calm")
    before = set(house.thin_ids())
    house.declare(
        house.device("torn", size="1GiB", filesystem={"type": "ext4", "discard": True}), file="tank-torn.yaml"
    )
    private = f"{house.dm_name('torn')}.private"
    eventually(lambda: house.dm.info(private), "its filesystem is being made", pause=0.005)
    house.crash()
    assert house.info("torn") is None, "nothing half-made was ever shown"
    house.start()
    house.wait("torn", live="Active")
    assert house.dm.info(private) is None
    assert run("e2fsck", "-fn", str(house.node("torn"))).code == 0
    assert set(house.thin_ids()) - before == {house.status("torn")["deviceId"]}, "no thin id has leaked"
    house.wait("calm", live="Active")
    assert house.pool_status()["reason"] == "Converged"


def test_a_private_device_that_a_crash_has_left_goes(house: House) -> None:
    house.have("tidy", state="Inactive")
    private = f"{house.dm_name('tidy')}.private"
    uuid, table = f"{house.status('tidy')['uuid']}-private", house.thin_table("tidy")
    with house.asleep():
        run("dmsetup", "create", private, "--uuid", uuid, "--table", table)
        run("udevadm", "settle")
        run("dmsetup", "suspend", private)
    eventually(lambda: house.dm.info(private) is None, "it is gone")
    house.wait("tidy", live="Inactive")


def can_be_suspended(name: str) -> bool:
    """While its filesystem is frozen: Linux 6.1 says EBUSY, 6.12 counts who has frozen it."""
    if run("dmsetup", "suspend", name, check=False).code:
        return False
    run("dmsetup", "resume", name)
    return True


def test_a_frozen_filesystem_is_named_with_the_command_that_thaws_it(house: House) -> None:
    house.have("iced", filesystem={"type": "ext4"})
    with house.mounted("iced") as point:
        run("fsfreeze", "--freeze", str(point))
        try:
            if can_be_suspended(house.dm_name("iced")):
                house.have("of-iced", snapshotOf="iced")
                run("e2fsck", "-f", "-n", str(house.node("of-iced")))
            else:
                said = house.have("of-iced", "Busy", snapshotOf="iced")
                assert f"`fsfreeze --unfreeze {point}`" in said["message"]
        finally:
            run("fsfreeze", "--unfreeze", str(point))
        house.wait("of-iced")
