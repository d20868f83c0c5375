"""`doctor` on the real kernel: a host that is fit, and each repair of `--fix`, seen to help."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.pools import attach, dmsetup, exists, loops_on, transaction
from tests.testing.real_kernel import Run, run


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool(), env.device("a"), env.device("b"))
        env.declare(env.device("old"), env.device("other"), file="former.yaml")
        env.declare(env.pool("rest"), file="rest.yaml")
        env.start("--suspend-grace", "1s")
        for name in ("a", "b", "old", "other"):
            env.wait(name)
        env.wait_pool(pool="rest", live="Active")
        yield env


@pytest.fixture
def tank(env: Environment) -> str:
    return env.prefix + "tank"


def doctor(env: Environment, *words: str) -> Run:
    return env.cli("doctor", "--manifests", str(env.manifests), *words, check=False)


def remove(name: str) -> None:
    eventually(lambda: run("dmsetup", "remove", name, check=False).code == 0, "udev has let go of it")


def test_a_host_that_is_fit_beside_the_daemon(env: Environment, tank: str) -> None:
    said = doctor(env)
    assert said.code == 0, said.out + said.err
    assert said.out.splitlines()[-2] == "nothing to do: this host is fit"
    assert f"[ok] pool {tank}: as desired" in said.out
    assert "[ok] records: 6 are as desired" in said.out


def test_it_repairs_nothing_while_the_daemon_runs_and_says_how_to_stop_it(env: Environment) -> None:
    said = doctor(env, "--fix", "--yes")
    assert said.code == 1
    assert env.process is not None
    assert f"kill {env.process.pid}" in said.err
    assert "systemctl stop dm-reconciler" in said.err


def test_everything_that_it_can_repair_in_a_pool(env: Environment, tank: str) -> None:
    """Left by a person with dmsetup: a thin of ours deleted, one forgotten, one forgotten and its id used again by
    somebody, one of somebody's, and the transaction id moved on. And a loop on the file of a pool that is to rest.
    """
    ids = {name: env.status(name)["deviceId"] for name in ("a", "b", "old", "other")}
    env.declare(env.pool("rest", state="Inactive"), file="rest.yaml")
    env.declare(file="former.yaml")
    for name in ("old", "other"):
        env.wait(name, "Orphaned")
    eventually(lambda: not loops_on(env.root / "rest.data"), "its loops are gone")
    env.stop()
    for name in ("old", "other"):
        env.cli("forget", "device", env.key(name), "--yes")
    for name in ("old", "other", "a"):
        remove(env.dm_name(name))
    before = transaction(tank)
    dmsetup("message", tank, "0", f"set_transaction_id {before} {before + 3}")
    for message in (f"delete {ids['a']}", f"delete {ids['other']}", f"create_thin {ids['other']}", "create_thin 88"):
        dmsetup("message", tank, "0", message)
    loop, gone = attach(env.root / "rest.data"), env.root / "gone"
    run("truncate", "--size", "1M", str(gone))
    stale = attach(gone)
    gone.unlink()

    found = doctor(env)
    assert found.code == 4
    assert f"[!!] pool {tank}: MetadataMismatch" in found.out
    assert f"made by this store: {ids['old']};" in found.out
    assert "doctor --fix" in found.out.partition("to do:")[2]

    said = doctor(env, "--fix", "--yes")
    run("losetup", "--detach", stale)
    assert said.code == 4, said.out + said.err
    assert said.out.splitlines()[-1].startswith(f"  1. pool {tank}: take in what is yours of thin ids "), "the rest"
    assert f"record transaction {before + 3} for pool {tank}" in said.out
    assert f"known to the store, and not in the pool: {env.key('a')} (thin id {ids['a']})" in said.out
    assert f"forget device {env.key('a')}" in said.out
    assert f"delete thin id {ids['old']} of pool {tank}" in said.out
    assert f"delete thin id {ids['other']}" not in said.out
    assert f"detach {loop} from {env.root / 'rest.data'}" in said.out
    assert f"[--] {stale}: on a deleted file ({gone})" in said.out
    assert "4 repairs done" in said.out
    assert not loops_on(env.root / "rest.data")
    assert transaction(tank) == before + 4

    env.start()
    env.wait("b")
    env.wait_pool()
    left = env.thin_ids()
    assert ids["old"] not in left
    assert {ids["other"], 88} <= left.keys()
    said_of_a = env.wait("a", "MetadataMismatch")["message"]
    assert "its data may be in a thin id" in said_of_a, "the store took the pool's word for its transaction"
    foreign = sorted((ids["other"], 88))
    env.declare(env.pool(foreignThins=foreign), env.device("a"), env.device("b"))
    assert env.wait("a")["deviceId"] not in ids.values()
    env.declare(env.pool(), env.device("a"), env.device("b"))
    for number in foreign:
        dmsetup("message", tank, "0", f"delete {number}")


def test_a_store_that_was_lost_takes_the_pool_and_its_devices_over(env: Environment, tank: str) -> None:
    """A committed device is not live: nobody can tell which thin is its, and an empty one is not put in its place."""
    env.have("c", state="Committed")
    ids = {name: env.status(name)["deviceId"] for name in ("a", "b", "c")}
    env.stop()
    shutil.rmtree(env.state)
    held_back = doctor(env, "--fix", "--yes")
    assert held_back.code == 4
    assert f"{env.key('c')} would then be made anew, empty" in held_back.out
    adopt = {"deviceId": ids["c"], "dmName": env.dm_name("c")}
    env.declare(env.device("c", state="Committed", adopt=adopt, size="16MiB"), file="tank-c.yaml")
    said = doctor(env, "--fix", "--yes")
    assert f"take over pool {tank}" in said.out, said.out + said.err
    for name in ("a", "b"):
        assert f"{env.key(name)} is thin id {ids[name]} again" in said.out
    assert f"[ok] thin ids of {tank}: all 3 are accounted for" in said.out
    env.start()
    for name in ("a", "b", "c"):
        assert env.wait(name)["deviceId"] == ids[name]
    assert not exists(env, env.dm_name("c"))


def test_what_the_daemon_reports_is_in_the_list_of_what_to_do(env: Environment, tank: str) -> None:
    """A leak of this store's, after one of somebody else's; a step that fails; and a device that waits for ever."""
    assert env.process is not None
    env.declare(
        env.device("xfs", filesystem={"type": "xfs"}), env.device("orph", snapshotOf="nowhere"), file="odd.yaml"
    )
    env.wait("xfs", "KernelError")
    env.wait("orph", "WaitingForOrigin")
    dmsetup("message", tank, "0", "create_thin 77")
    env.wait_pool(leakedThinIds=[77])
    said = doctor(env)
    assert said.code == 4
    bad = f"{env.key('xfs')} (KernelError), {env.key('orph')} (WaitingForOrigin)"
    assert f"[!!] records: 2 are not as desired: {bad}" in said.out
    assert f"[!!] thin ids of {tank}: the daemon reports 1 leaked: 77; none of them was made by this store" in said.out
    first, second = said.out.splitlines()[-2:]
    assert first.startswith(
        f"  1. pool {tank}: take in what is yours of thin ids 77, each by a record with `adopt: {{dev"
    )
    assert f"`dm-reconciler describe device {env.key('xfs')} --state-dir {env.state}`" in second
    dmsetup("message", tank, "0", "delete 77")

    thin_id = env.have("made")["deviceId"]
    env.stop()
    env.declare(file="tank-made.yaml")
    env.cli("forget", "device", env.key("made"), "--yes")
    remove(env.dm_name("made"))
    env.start()
    env.wait_pool(leakedThinIds=[thin_id])
    beside = doctor(env)
    assert beside.code == 4
    assert f"made by this store, as it seems: {thin_id}" in beside.out
    todo = beside.out.partition("to do:")[2]
    assert f"stop the daemon (`systemctl stop dm-reconciler`, or `kill {env.process.pid}`); then `dm-rec" in todo
    env.stop()
    assert f"delete thin id {thin_id} of pool {tank}" in doctor(env, "--fix", "--yes").out
    alone = doctor(env)
    assert alone.code == 0, alone.out
    assert "[--] records: " in alone.out
