"""`doctor` on the real kernel: a host that is fit, and each repair of `--fix`, seen to help."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.pools import attach, dmsetup, exists, loops_on, transaction
from tests.testing.real_kernel import Run, run


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(house.pool(), house.device("a"), house.device("b"))
        house.declare(house.device("old"), house.device("other"), file="former.yaml")
        house.declare(house.pool("rest"), file="rest.yaml")
        house.start("--suspend-grace", "1s")
        for name in ("a", "b", "old", "other"):
            house.wait(name)
        house.wait_pool(pool="rest", live="Active")
        yield house


@pytest.fixture
def tank(house: House) -> str:
    return house.prefix + "tank"


def doctor(house: House, *words: str) -> Run:
    return house.cli("doctor", "--manifests", str(house.manifests), *words, check=False)


def remove(name: str) -> None:
    eventually(lambda: run("dmsetup", "remove", name, check=False).code == 0, "udev has let go of it")


def test_a_host_that_is_fit_beside_the_daemon(house: House, tank: str) -> None:
    said = doctor(house)
    assert said.code == 0, said.out + said.err
    assert said.out.splitlines()[-2] == "nothing to do: this host is fit"
    assert f"[ok] pool {tank}: as desired" in said.out
    assert "[ok] records: 6 are as desired" in said.out


def test_it_repairs_nothing_while_the_daemon_runs_and_says_how_to_stop_it(house: House) -> None:
    said = doctor(house, "--fix", "--yes")
    assert said.code == 1
    assert house.process is not None
    assert f"kill {house.process.pid}" in said.err
    assert "systemctl stop dm-reconciler" in said.err


def test_everything_that_it_can_repair_in_a_pool(house: House, tank: str) -> None:
    """Left by a person with dmsetup: a thin of ours deleted, one forgotten, one forgotten and its id used again by
    somebody, one of somebody's, and the transaction id moved on. And a loop on the file of a pool that is to rest.
    """
    ids = {name: house.status(name)["deviceId"] for name in ("a", "b", "old", "other")}
    house.declare(house.pool("rest", state="Inactive"), file="rest.yaml")
    house.declare(file="former.yaml")
    for name in ("old", "other"):
        house.wait(name, "Orphaned")
    eventually(lambda: not loops_on(house.root / "rest.data"), "its loops are gone")
    house.stop()
    for name in ("old", "other"):
        house.cli("forget", "device", house.key(name), "--yes")
    for name in ("old", "other", "a"):
        remove(house.dm_name(name))
    before = transaction(tank)
    dmsetup("message", tank, "0", f"set_transaction_id {before} {before + 3}")
    for message in (f"delete {ids['a']}", f"delete {ids['other']}", f"create_thin {ids['other']}", "create_thin 88"):
        dmsetup("message", tank, "0", message)
    loop, gone = attach(house.root / "rest.data"), house.root / "gone"
    run("truncate", "--size", "1M", str(gone))
    stale = attach(gone)
    gone.unlink()

    found = doctor(house)
    assert found.code == 4
    assert f"[!!] pool {tank}: MetadataMismatch" in found.out
    assert f"made by this store: {ids['old']};" in found.out
    assert "doctor --fix" in found.out.partition("to do:")[2]

    said = doctor(house, "--fix", "--yes")
    run("losetup", "--detach", stale)
    assert said.code == 4, said.out + said.err
    assert said.out.splitlines()[-1].startswith(f"  1. pool {tank}: take in what is yours of thin ids "), "the rest"
    assert f"record transaction {before + 3} for pool {tank}" in said.out
    assert f"known to the store, and not in the pool: {house.key('a')} (thin id {ids['a']})" in said.out
    assert f"forget device {house.key('a')}" in said.out
    assert f"delete thin id {ids['old']} of pool {tank}" in said.out
    assert f"delete thin id {ids['other']}" not in said.out
    assert f"detach {loop} from {house.root / 'rest.data'}" in said.out
    assert f"[--] {stale}: on a deleted file ({gone})" in said.out
    assert "4 repairs done" in said.out
    assert not loops_on(house.root / "rest.data")
    assert transaction(tank) == before + 4

    house.start()
    house.wait("b")
    house.wait_pool()
    left = house.thin_ids()
    assert ids["old"] not in left
    assert {ids["other"], 88} <= left.keys()
    said_of_a = house.wait("a", "MetadataMismatch")["message"]
    assert "its data may be in a thin id" in said_of_a, "the store took the pool's word for its transaction"
    foreign = sorted((ids["other"], 88))
    house.declare(house.pool(foreignThins=foreign), house.device("a"), house.device("b"))
    assert house.wait("a")["deviceId"] not in ids.values()
    house.declare(house.pool(), house.device("a"), house.device("b"))
    for number in foreign:
        dmsetup("message", tank, "0", f"delete {number}")


def test_a_store_that_was_lost_takes_the_pool_and_its_devices_over(house: House, tank: str) -> None:
    """A committed device is not live: nobody can tell which thin is its, and an empty one is not put in its place."""
    house.have("c", state="Committed")
    ids = {name: house.status(name)["deviceId"] for name in ("a", "b", "c")}
    house.stop()
    shutil.rmtree(house.state)
    held_back = doctor(house, "--fix", "--yes")
    assert held_back.code == 4
    assert f"{house.key('c')} would then be made anew, empty" in held_back.out
    adopt = {"deviceId": ids["c"], "dmName": house.dm_name("c")}
    house.declare(house.device("c", state="Committed", adopt=adopt, size="16MiB"), file="tank-c.yaml")
    said = doctor(house, "--fix", "--yes")
    assert f"take over pool {tank}" in said.out, said.out + said.err
    for name in ("a", "b"):
        assert f"{house.key(name)} is thin id {ids[name]} again" in said.out
    assert f"[ok] thin ids of {tank}: all 3 are accounted for" in said.out
    house.start()
    for name in ("a", "b", "c"):
        assert house.wait(name)["deviceId"] == ids[name]
    assert not exists(house, house.dm_name("c"))


def test_what_the_daemon_reports_is_in_the_list_of_what_to_do(house: House, tank: str) -> None:
    """A leak of this store's, after one of somebody else's; a step that fails; and a device that waits for ever."""
    assert house.process is not None
    house.declare(
        house.device("xfs", filesystem={"type": "xfs"}), house.device("orph", snapshotOf="nowhere"), file="odd.yaml"
    )
    house.wait("xfs", "KernelError")
    house.wait("orph", "WaitingForOrigin")
    dmsetup("message", tank, "0", "create_thin 77")
    house.wait_pool(leakedThinIds=[77])
    said = doctor(house)
    assert said.code == 4
    bad = f"{house.key('xfs')} (KernelError), {house.key('orph')} (WaitingForOrigin)"
    assert f"[!!] records: 2 are not as desired: {bad}" in said.out
    assert f"[!!] thin ids of {tank}: the daemon reports 1 leaked: 77; none of them was made by this store" in said.out
    first, second = said.out.splitlines()[-2:]
    assert first.startswith(
        f"  1. pool {tank}: take in what is yours of thin ids 77, each by a record with `adopt: {{dev"
    )
    assert f"`dm-reconciler describe device {house.key('xfs')} --state-dir {house.state}`" in second
    dmsetup("message", tank, "0", "delete 77")

    thin_id = house.have("made")["deviceId"]
    house.stop()
    house.declare(file="tank-made.yaml")
    house.cli("forget", "device", house.key("made"), "--yes")
    remove(house.dm_name("made"))
    house.start()
    house.wait_pool(leakedThinIds=[thin_id])
    beside = doctor(house)
    assert beside.code == 4
    assert f"made by this store, as it seems: {thin_id}" in beside.out
    todo = beside.out.partition("to do:")[2]
    assert f"stop the daemon (`systemctl stop dm-reconciler`, or `kill {house.process.pid}`); then `dm-rec" in todo
    house.stop()
    assert f"delete thin id {thin_id} of pool {tank}" in doctor(house, "--fix", "--yes").out
    alone = doctor(house)
    assert alone.code == 0, alone.out
    assert "[--] records: " in alone.out
