"""Making devices: new ones, snapshots of what is in use, ids that are somebody's, and crashes in between."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.real_kernel import run


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool())
        env.start("--suspend-grace", "1s", "--resync", "250ms")
        env.wait_pool()
        yield env


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


def test_a_new_device_is_made_with_its_filesystem(env: Environment) -> None:
    status = env.have("base", filesystem={"type": "ext4", "label": "golden", "blockSize": "1KiB"})
    assert status["live"] == "Active"
    assert status["uuid"].startswith("DMR-")
    info = env.info("base")
    assert info is not None
    assert info.uuid == status["uuid"]
    assert env.table("base") == env.thin_table("base")
    assert label(env.node("base")) == "golden"
    assert env.told("base", "Healed", "NotCreated")
    assert status["deviceId"] in env.thin_ids()


@pytest.mark.soak
def test_a_chain_of_snapshots_is_made_in_order(env: Environment) -> None:
    env.have("z-first", filesystem={"type": "ext4"})
    with env.mounted("z-first") as point:
        (point / "file").write_text("in all three", encoding="utf-8")
    env.declare(
        env.device("a-third", snapshotOf="m-second", state="Active"),
        env.device("m-second", snapshotOf="z-first", state="Committed"),
        file="chain.yaml",
    )
    env.wait("a-third", live="Active")
    env.wait("m-second", live="Inactive")
    with env.mounted("a-third") as point:
        assert (point / "file").read_text(encoding="utf-8") == "in all three"


def test_a_snapshot_of_a_filesystem_that_is_written_to_is_whole(env: Environment) -> None:
    env.have("busy", size="64MiB", filesystem={"type": "ext4"})
    with env.mounted("busy") as point, writing_to(point):
        for number in range(3):
            env.have(f"moment-{number}", snapshotOf="busy")
            assert run("e2fsck", "-fn", str(env.node(f"moment-{number}")), check=False).code == 0
        origin = env.info("busy")
        assert origin is not None
        assert not origin.suspended


@pytest.mark.soak
def test_a_snapshot_waits_for_an_origin_that_somebody_has_suspended(env: Environment) -> None:
    env.have("held")
    env.have("held", "Paused", paused=True)
    run("dmsetup", "suspend", env.dm_name("held"))
    env.have("of-held", "WaitingForOrigin", snapshotOf="held")
    env.look_again()
    info = env.info("held")
    assert info is not None
    assert info.suspended, "somebody else's freeze is not ended"
    run("dmsetup", "resume", env.dm_name("held"))
    env.look_again()
    assert env.info("of-held") is None, "a paused origin is not suspended either"
    env.have("held")
    env.wait("of-held", live="Active")


@pytest.mark.soak
def test_a_snapshot_waits_for_an_origin_that_is_yet_to_come(env: Environment) -> None:
    env.have("early", "WaitingForOrigin", snapshotOf="late")
    env.have("late")
    env.wait("early", live="Active")


def test_a_strangers_thin_is_not_touched(env: Environment) -> None:
    env.have("before")
    pool, next_id = f"{env.prefix}tank", env.status("before")["deviceId"] + 1
    stranger = f"{env.prefix}stranger"
    with env.asleep():
        run("dmsetup", "message", pool, "0", f"create_thin {next_id}")
        table = env.table("before").rpartition(" ")[0]
        run("dmsetup", "create", stranger, "--table", f"{table} {next_id}")
        run("dd", f"of=/dev/mapper/{stranger}", "oflag=direct", "status=none", stdin="a stranger's".ljust(4096))
        run("udevadm", "settle")
        run("dmsetup", "remove", "--retry", stranger)
    status = env.have("after", filesystem={"type": "ext4"})
    assert status["deviceId"] == next_id + 1
    run("dmsetup", "create", stranger, "--table", f"{table} {next_id}")
    assert run("dd", f"if=/dev/mapper/{stranger}", "bs=4096", "count=1", "status=none").out.startswith("a stranger's")
    run("udevadm", "settle")
    run("dmsetup", "remove", "--retry", stranger)


def test_an_existing_thin_is_adopted_as_it_is(env: Environment) -> None:
    env.have("model")
    pool, foreign = f"{env.prefix}tank", f"{env.prefix}vg-thin1"
    table = f"{env.table('model').rpartition(' ')[0]} 700"
    run("dmsetup", "message", pool, "0", "create_thin 700")
    run("dmsetup", "create", foreign, "--table", table)
    run("dd", f"of=/dev/mapper/{foreign}", "oflag=direct", "status=none", stdin="already there".ljust(4096))
    run("udevadm", "settle")
    before = env.dm.info(foreign)
    env.have("adopted", adopt={"deviceId": 700, "dmName": foreign}, size="16MiB")
    after = env.dm.info(foreign)
    assert before is not None
    assert after is not None
    assert (after.devno, after.uuid) == (before.devno, ""), "it was not made anew"
    run("dmsetup", "remove", "--retry", foreign)
    eventually(lambda: env.dm.info(foreign), "it is activated under its own name")
    env.wait("adopted", live="Active")
    assert run("dd", f"if=/dev/mapper/{foreign}", "bs=4096", "count=1", "status=none").out.startswith("already there")


@pytest.mark.soak
def test_killed_while_it_makes_a_filesystem_it_begins_again(env: Environment) -> None:
    env.have("calm")
    before = set(env.thin_ids())
    env.declare(env.device("torn", size="1GiB", filesystem={"type": "ext4", "discard": True}), file="tank-torn.yaml")
    private = f"{env.dm_name('torn')}.private"
    eventually(lambda: env.dm.info(private), "its filesystem is being made", pause=0.005)
    env.crash()
    assert env.info("torn") is None, "nothing half-made was ever shown"
    env.start()
    env.wait("torn", live="Active")
    assert env.dm.info(private) is None
    assert run("e2fsck", "-fn", str(env.node("torn"))).code == 0
    assert set(env.thin_ids()) - before == {env.status("torn")["deviceId"]}, "no thin id has leaked"
    env.wait("calm", live="Active")
    assert env.pool_status()["reason"] == "Converged"


def test_a_private_device_that_a_crash_has_left_goes(env: Environment) -> None:
    env.have("tidy", state="Inactive")
    private = f"{env.dm_name('tidy')}.private"
    uuid, table = f"{env.status('tidy')['uuid']}-private", env.thin_table("tidy")
    with env.asleep():
        run("dmsetup", "create", private, "--uuid", uuid, "--table", table)
        run("udevadm", "settle")
        run("dmsetup", "suspend", private)
    eventually(lambda: env.dm.info(private) is None, "it is gone")
    env.wait("tidy", live="Inactive")


def can_be_suspended(name: str) -> bool:
    """While its filesystem is frozen: Linux 6.1 says EBUSY, 6.12 counts who has frozen it."""
    if run("dmsetup", "suspend", name, check=False).code:
        return False
    run("dmsetup", "resume", name)
    return True


def test_a_frozen_filesystem_is_named_with_the_command_that_thaws_it(env: Environment) -> None:
    env.have("iced", filesystem={"type": "ext4"})
    with env.mounted("iced") as point:
        run("fsfreeze", "--freeze", str(point))
        try:
            if can_be_suspended(env.dm_name("iced")):
                env.have("of-iced", snapshotOf="iced")
                run("e2fsck", "-f", "-n", str(env.node("of-iced")))
            else:
                said = env.have("of-iced", "Busy", snapshotOf="iced")
                assert f"`fsfreeze --unfreeze {point}`" in said["message"]
        finally:
            run("fsfreeze", "--unfreeze", str(point))
        env.wait("of-iced")
