"""What others do to devices by dmsetup: a rename, an external origin, an adopted name moved to another thin."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import Environment, an_environment, eventually
from tests.testing.pools import checksum, declared, dmsetup, exists, make_disk, table
from tests.testing.real_kernel import run


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        env.declare(env.pool())
        env.start("--suspend-grace", "1s", "--resync", "250ms")
        env.wait_pool()
        yield env


def thin(env: Environment, name: str, thin_id: int, origin: str = "") -> str:
    """A thin of 16 MiB that somebody else makes, and its device."""
    tank, device = f"{env.prefix}tank", env.prefix + name
    dmsetup("message", tank, "0", f"create_thin {thin_id}")
    dmsetup("create", device, "--table", f"0 32768 thin /dev/mapper/{tank} {thin_id} {origin}".strip())
    return device


def test_a_renamed_device_is_told_with_the_rename_that_helps(env: Environment) -> None:
    env.have("a")
    name = env.dm_name("a")
    dmsetup("rename", name, f"{name}-x")
    status = env.wait("a", "Conflict")
    assert f"dmsetup rename {name}-x {name}" in status["message"]
    env.look_again()
    assert not exists(env, name)
    dmsetup("rename", f"{name}-x", name)
    env.wait("a", live="Active")


def test_two_names_that_were_swapped_are_put_right_by_what_is_told_and_nothing_is_removed(env: Environment) -> None:
    names, tables = {}, {}
    for key in ("one", "two"):
        env.have(key)
        names[key], tables[key] = env.dm_name(key), env.table(key)
    with env.asleep():
        dmsetup("rename", names["one"], f"{names['one']}-third")
        dmsetup("rename", names["two"], names["one"])
        dmsetup("rename", f"{names['one']}-third", names["two"])
    for key in ("one", "two"):
        status = env.wait(key, "Conflict")
        for words in re.findall("`dmsetup ([^`]+)`", status["message"]):
            dmsetup(*words.split())
    for key in ("one", "two"):
        env.wait(key, live="Active")
        assert env.table(key) == tables[key]


def test_an_external_origin_is_kept(env: Environment) -> None:
    origin = make_disk(env, "origin", 16)
    run("dd", "if=/dev/urandom", f"of={origin}", "bs=1M", "count=16", "oflag=direct")
    device = thin(env, "theirs", 70, origin)
    data = checksum(Path("/dev/mapper", device))
    adopt = {"deviceId": 70, "dmName": device}
    env.have("theirs", adopt=adopt)
    assert checksum(Path("/dev/mapper", device)) == data

    env.have("theirs", adopt=adopt, size="32MiB")
    line = table(device)
    assert line.startswith("0 65536 thin "), line
    assert len(line.split()) == 6, line

    run("dmsetup", "remove", "--retry", device)
    status = env.wait("theirs", "Conflict")
    assert "external origin" in status["message"]
    env.look_again()
    assert not exists(env, device)
    dmsetup("create", device, "--table", line)
    env.wait("theirs")
    with Path("/dev/mapper", device).open("rb") as grown:
        assert hashlib.sha256(grown.read(16 << 20)).hexdigest() == data


def test_an_adopted_name_that_its_owner_moved_is_left_and_followed(env: Environment) -> None:
    device, spare = thin(env, "merged", 80), thin(env, "spare", 81)
    run("dmsetup", "remove", "--retry", spare)
    env.have("merged", adopt={"deviceId": 80, "dmName": device})
    dmsetup("load", device, "--table", f"0 32768 thin /dev/mapper/{env.prefix}tank 81")
    dmsetup("suspend", device)
    dmsetup("resume", device)
    status = env.wait("merged", "Conflict")
    assert "shows thin id 81 now" in status["message"]
    env.look_again()
    assert table(device).split()[4] == "81"

    env.have("merged", adopt={"deviceId": 81, "dmName": device})
    eventually(lambda: env.status("merged")["deviceId"] == 81, "the record is followed")
    assert table(device).split()[4] == "81"


@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken"])
@pytest.mark.parametrize("state", ["Active", "Inactive"])
def test_a_renamed_pool_is_told_with_the_rename_that_helps(env: Environment, state: str, *, taken: bool) -> None:
    place = f"re{state[:2].lower()}{taken:d}"
    pool, name = env.pool(place), env.prefix + place
    env.declare(pool, file=f"{place}.yaml")
    env.wait_pool(pool=place)
    env.have("b", pool=place)
    renamed, ours = f"{name}-tonk", env.table("b", place)
    with env.asleep():
        dmsetup("rename", name, renamed)
        if taken:
            dmsetup("create", name, "--table", "0 2048 error")
        env.declare(declared(pool, state=state), file=f"{place}.yaml")
    status = env.wait_pool("Conflict", pool=place)
    assert f"`dmsetup rename {renamed} {name}` puts it right" in status["message"]
    assert status["ready"] is False
    env.wait("b", "WaitingForPool", place)
    env.look_again()
    assert env.table("b", place) == ours
    assert table(renamed).split()[2] == "thin-pool"

    if taken:
        run("dmsetup", "remove", "--retry", name)
    env.declare(pool, file=f"{place}.yaml")
    dmsetup("rename", renamed, name)
    env.wait_pool(pool=place)
    env.wait("b", pool=place)
