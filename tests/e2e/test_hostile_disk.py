"""The daemon's store has no room: nothing is done to any device meanwhile, it is said, and it goes on by itself."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.pools import attach, dmsetup, is_suspended, transaction
from tests.testing.real_kernel import MIB, run


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.state.mkdir(mode=0o700)
        run("mount", "-t", "tmpfs", "-o", "size=1M,mode=0700", "dmrtest", str(house.state))
        try:
            house.declare(house.pool(), house.device("app"))
            house.start("--suspend-grace", "0s")
            house.wait("app")
            yield house
            house.stop()
        finally:
            run("umount", "--lazy", str(house.state))


@contextmanager
def no_room(house: House) -> Iterator[None]:
    filler = house.state / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


def readiness(house: House) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{house.port}/readyz", timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"


def test_a_full_disk_stops_all_work_and_room_lets_it_go_on(house: House) -> None:
    before = transaction(house.prefix + "tank")
    with no_room(house):
        house.declare(house.device("late"), file="late.yaml")
        eventually(lambda: "503 store " in readiness(house), "it says that it cannot write")
        dmsetup("suspend", house.dm_name("app"))
        assert "free some space" in readiness(house)
        assert "nothing is done to any device" in readiness(house)
        house.look_again(3)
        assert house.get("/healthz").startswith("ok")
        assert is_suspended(house, house.dm_name("app")), house.tail()
        assert "\ndm_reconciler_store_writable 0.0\n" in house.get("/metrics")
        assert house.info("late") is None
        assert transaction(house.prefix + "tank") == before
        assert "free some space" in house.tail()
    house.wait("late")
    house.wait("app")
    eventually(lambda: readiness(house).startswith("ok"), "the pass in which all that was done is over")
    eventually(lambda: house.metric("dm_reconciler_store_writable") == 1, "it can be written to again")
    assert transaction(house.prefix + "tank") == before + 1
    assert "going on" in house.tail()
    assert "Traceback" not in house.log.read_text(encoding="utf-8")
    assert [event for event in house.events(house.key("app")) if event["reason"] == "Suspended"], (
        "it is told afterwards"
    )


@contextmanager
def a_disk_for(house: House) -> Iterator[str]:
    """The state directory on a disk of its own, which a test can break."""
    image, name = house.root / "disk", f"{house.prefix}disk"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    loop = attach(image)
    dmsetup("create", name, "--table", f"0 131072 linear {loop} 0")
    run("mkfs.ext4", "-q", f"/dev/mapper/{name}")
    house.state.mkdir(mode=0o700)
    run("mount", f"/dev/mapper/{name}", str(house.state))
    house.state.chmod(0o700)
    try:
        yield name
    finally:
        run("umount", str(house.state), check=False)
        dmsetup("remove", "--retry", name)
        run("losetup", "--detach", loop)


def swap_table(name: str, table: str) -> None:
    dmsetup("suspend", "--noflush", "--nolockfs", name)
    dmsetup("load", name, "--table", table)
    dmsetup("resume", name)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_disk_that_fails_stops_all_work_and_its_repair_loses_nothing() -> None:
    with a_house() as house, a_disk_for(house) as disk:
        house.declare(house.pool(), house.device("app"))
        house.start("--suspend-grace", "0s")
        house.wait("app")
        before, good = transaction(house.prefix + "tank"), dmsetup("table", disk)
        swap_table(disk, "0 131072 error")
        house.declare(house.device("late"), file="late.yaml")
        eventually(lambda: "503 store " in readiness(house), "it says that it cannot write")
        house.look_again(3)
        assert house.info("late") is None
        assert transaction(house.prefix + "tank") == before
        house.stop()
        run("umount", str(house.state))
        swap_table(disk, good)
        run("e2fsck", "-f", "-p", f"/dev/mapper/{disk}", check=False)
        run("mount", f"/dev/mapper/{disk}", str(house.state))
        house.start()
        house.wait("late")
        house.wait("app")
        assert transaction(house.prefix + "tank") == before + 1
        house.stop()
