"""Devices whose records ask for more room get it, with the filesystem on them; nothing ever shrinks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.real_kernel import run

pytestmark = pytest.mark.soak

MIB = 1024 * 1024
SIZES = {"ext4": (16, 48), "xfs": (304, 400)}
"""MiB before and after. mkfs.xfs refuses less than 300."""


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool())
        env.start("--suspend-grace", "1s", "--resync", "250ms")
        env.wait_pool()
        yield env


def sectors_of(env: Environment, name: str) -> int:
    return int((env.table(name) or "0 0").split()[1])


def room(point: Path) -> int:
    facts = os.statvfs(point)
    return facts.f_blocks * facts.f_frsize


@pytest.mark.parametrize("is_mounted", [True, False], ids=["mounted", "closed"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_filesystem_grows_with_its_device(env: Environment, kind: str, is_mounted: bool) -> None:
    small, large = SIZES[kind]
    name = f"{kind}-{'mounted' if is_mounted else 'closed'}"
    env.have(name, size=f"{small}MiB", filesystem={"type": kind})
    with env.mounted(name) as point:
        (point / "file").write_text("kept", encoding="utf-8")
        before = room(point)
    with env.mounted(name) if is_mounted else nullcontext():
        env.have(name, size=f"{large}MiB", filesystem={"type": kind})
        assert sectors_of(env, name) == large * 2048
    with env.mounted(name) as point:
        assert room(point) > before + (large - small) * MIB * 0.8
        assert (point / "file").read_text(encoding="utf-8") == "kept"
    assert env.told(name, "Healed", "WrongSize")
    assert env.status(name)["sizeBytes"] == large * MIB


def test_a_table_that_was_cut_short_by_hand_gets_its_length_back(env: Environment) -> None:
    env.have("cut")
    right = env.table("cut")
    run("dmsetup", "load", env.dm_name("cut"), "--table", right.replace("0 32768 ", "0 2048 "))
    run("dmsetup", "resume", env.dm_name("cut"))
    eventually(lambda: env.table("cut") == right, "it has its length back")
    env.wait("cut")
    assert env.told("cut", "Found", "WrongSize")


def test_a_device_never_shrinks(env: Environment) -> None:
    env.have("large")
    table = env.table("large")
    status = env.have("large", "InvalidChange", size="8MiB")
    assert "never shrinks" in status["message"]
    env.look_again()
    assert env.table("large") == table
    env.have("large")


def test_a_device_that_was_made_longer_by_hand_is_left_alone(env: Environment) -> None:
    env.have("longer")
    longer = env.table("longer").replace("0 32768 ", "0 65536 ")
    run("dmsetup", "load", env.dm_name("longer"), "--table", longer)
    run("dmsetup", "resume", env.dm_name("longer"))
    env.wait("longer", "InvalidChange")
    env.look_again()
    assert env.table("longer") == longer


def test_a_filesystem_on_a_read_only_device_does_not_grow(env: Environment) -> None:
    env.have("sealed", readOnly=True, filesystem={"type": "ext4"})
    env.have("sealed", readOnly=True, filesystem={"type": "ext4"}, size="32MiB")
    assert sectors_of(env, "sealed") == 65536
    with env.mounted("sealed", "tank", "-o", "ro") as point:
        assert room(point) < 16 * MIB


def test_a_device_grows_while_it_is_inactive(env: Environment) -> None:
    env.have("resting", state="Inactive", filesystem={"type": "ext4"})
    env.have("resting", state="Inactive", filesystem={"type": "ext4"}, size="48MiB")
    env.have("resting", filesystem={"type": "ext4"}, size="48MiB")
    with env.mounted("resting") as point:
        assert room(point) > 40 * MIB
