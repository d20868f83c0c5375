"""Committed but visible: a snapshot that only serves as an origin, and that somebody has activated, goes out of sight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

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


def visible(env: Environment, name: str) -> bool:
    return env.dm_name(name) in run("lsblk", "--noheadings", "--raw", "--output", "NAME").out.split()


def test_a_committed_device_that_somebody_activated_is_deactivated(env: Environment) -> None:
    env.have("layer", filesystem={"type": "ext4"})
    env.have("layer", state="Committed", filesystem={"type": "ext4"})
    table = env.thin_table("layer")
    with env.asleep():
        run("dmsetup", "create", env.dm_name("layer"), "--table", table)
        run("udevadm", "settle")
        assert visible(env, "layer")
    eventually(lambda: not visible(env, "layer"), "it is out of sight")
    env.wait("layer", live="Inactive")
    assert env.told("layer", "Healed", "CommittedButActive")
    assert env.metric("dm_reconciler_device_heals_total", pool=f"{env.prefix}tank", device="layer") >= 1


def test_a_committed_device_that_is_mounted_is_left_until_its_umount(env: Environment) -> None:
    env.have("read", filesystem={"type": "ext4"})
    env.have("read", state="Committed", filesystem={"type": "ext4"})
    table = env.thin_table("read")
    with ExitStack() as use:
        with env.asleep():
            run("dmsetup", "create", env.dm_name("read"), "--table", table)
            run("udevadm", "settle")
            point = use.enter_context(env.mounted("read"))
        status = env.wait("read", "Busy", live="Active")
        assert f"mounted at {point}" in status["message"]
        assert env.told("read", "Found", "CommittedButActive")
        env.look_again()
        assert env.table("read") == table
        assert list(point.iterdir()), "it still serves whoever uses it"
    eventually(lambda: env.info("read") is None, "it is deactivated after the umount")
    env.wait("read", live="Inactive")
    assert env.told("read", "Healed", "CommittedButActive")
