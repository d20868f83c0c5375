"""Pools that must not be written to: what repairs them is said, what hangs is let go, and nothing else is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import Environment, Record, an_environment, eventually
from tests.testing.pools import (
    checksum,
    dmsetup,
    exists,
    is_suspended,
    loops_on,
    make_disk,
    passes,
    pool_status,
    put_down,
    stopped,
    table,
    transaction,
    write,
)
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.start("--suspend-grace", "1s")
        yield env


@pytest.fixture(scope="module")
def tank(env: Environment) -> Record:
    """Its metadata is on a block device, as the repairing programs need direct I/O, which files on a tmpfs have not."""
    pool = env.pool(metadata={"device": make_disk(env, "tank.metadisk", 4)})
    _declare(env, pool)
    env.wait("a")
    return pool


def _declare(env: Environment, pool: Record, *more: Record, **spec: object) -> None:
    record = {**pool, "spec": {**pool["spec"], **spec}}
    short = pool["metadata"]["name"].removeprefix(env.prefix)
    env.declare(record, env.device("a", short), *more, file=f"{short}.yaml")


def _frozen(env: Environment, pool: Record, reason: str, new: str = "new") -> None:
    """Nothing is made, and what is suspended is resumed all the same."""
    short = pool["metadata"]["name"].removeprefix(env.prefix)
    before = pool_status(env.prefix + short)
    _declare(env, pool, env.device(new, short))
    env.wait(new, reason, pool=short, live="Absent")
    name = env.dm_name("a", short)
    dmsetup("suspend", "--noflush", name)
    eventually(lambda: not is_suspended(env, name), "it is resumed")
    passes(env)
    assert pool_status(env.prefix + short) == before


def test_a_transaction_id_that_somebody_changed_freezes_the_pool(env: Environment, tank: Record) -> None:
    name = env.prefix + "tank"
    old = transaction(name)
    dmsetup("message", name, "0", f"set_transaction_id {old} {old + 5}")
    said = env.wait_pool("MetadataMismatch")
    assert f"is at transaction {old + 5}, the store expects {old}" in said["message"]
    assert "dm-reconciler doctor --fix" in said["message"]
    _frozen(env, tank, "MetadataMismatch")
    dmsetup("message", name, "0", f"set_transaction_id {old + 5} {old}")
    env.wait("new")
    env.wait_pool()


def test_needs_check_is_repaired_by_the_commands_that_are_said(env: Environment, tank: Record) -> None:
    metadata = Path(tank["spec"]["metadata"]["device"])
    write(env.dm_name("a"), 1)
    before = checksum(f"/dev/mapper/{env.dm_name('a')}")
    with stopped(env):
        put_down(env, "tank", "a", "new")
        _set_needs_check(env, metadata)
    said = env.wait_pool("PoolUnhealthy", mode="needs_check")
    assert "needs_check" in pool_status(env.prefix + "tank")
    env.wait("a", "PoolUnhealthy")
    assert not exists(env, env.dm_name("a")), "nothing is loaded in it"

    commands = [word for word in said["message"].split("`") if word.startswith("thin_check")]
    assert len(commands) == 2
    _declare(env, tank, state="Inactive")
    eventually(lambda: not exists(env, env.prefix + "tank"), "the pool is down")
    for command in commands:
        run(*command.split())
    _declare(env, tank)
    env.wait("a", live="Active")
    env.wait_pool(mode="rw")
    assert checksum(f"/dev/mapper/{env.dm_name('a')}") == before


def _set_needs_check(env: Environment, metadata: Path) -> None:
    """As the kernel does after a metadata error."""
    dump = env.root / "dump.xml"
    run("thin_dump", str(metadata), "--output", str(dump))
    text = dump.read_text(encoding="ascii")
    assert 'flags="0"' in text
    dump.write_text(text.replace('flags="0"', 'flags="1"'), encoding="ascii")
    run("thin_restore", "--input", str(dump), "--output", str(metadata))


def test_a_pool_whose_metadata_fails_is_frozen_and_comes_back_when_taken_down(env: Environment) -> None:
    """The metadata is on a linear device, which an error table takes the place of."""
    metadata = env.prefix + "metadisk"
    dmsetup("create", metadata, "--table", f"0 8192 linear {make_disk(env, 'fail.metadisk', 4)} 0")
    pool, name = env.pool("fail", metadata={"device": f"/dev/mapper/{metadata}"}), env.prefix + "fail"
    _declare(env, pool)
    env.wait("a", pool="fail")
    write(env.dm_name("a", "fail"), 1)
    run("sync")
    before = checksum(f"/dev/mapper/{env.dm_name('a', 'fail')}")
    good = table(metadata)
    dmsetup("load", metadata, "--table", "0 8192 error")
    dmsetup("resume", metadata)
    dmsetup("message", name, "0", "create_thin 99", check=False)
    eventually(lambda: pool_status(name)[0] == "Fail", "the pool fails")
    said = env.wait_pool("PoolUnhealthy", "fail", mode="fail")
    assert "thin_check" in said["message"]
    _frozen(env, pool, "PoolUnhealthy")

    dmsetup("load", metadata, "--table", good)
    dmsetup("resume", metadata)
    env.declare(
        {**pool, "spec": {**pool["spec"], "state": "Inactive"}},
        env.device("a", "fail", state="Inactive"),
        file="fail.yaml",
    )
    eventually(lambda: not exists(env, name), "it is down")
    _declare(env, pool)
    env.wait("a", pool="fail", live="Active")
    env.wait_pool(pool="fail", mode="rw")
    assert checksum(f"/dev/mapper/{env.dm_name('a', 'fail')}") == before
    assert loops_on(env.root / "fail.data")
