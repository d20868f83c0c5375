"""What others do to devices by dmsetup: a rename, an external origin, an adopted name moved to another thin."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import House, a_house, eventually
from tests.testing.pools import checksum, declared, dmsetup, exists, make_disk, table
from tests.testing.real_kernel import run


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(house.pool())
        house.start("--suspend-grace", "1s", "--resync", "250ms")
        house.wait_pool()
        yield house


def thin(house: House, name: str, thin_id: int, origin: str = "") -> str:
    """A thin of 16 MiB that somebody else makes, and its device."""
    tank, device = f"{house.prefix}tank", house.prefix + name
    dmsetup("message", tank, "0", f"create_thin {thin_id}")
    dmsetup("create", device, "--table", f"0 32768 thin /dev/mapper/{tank} {thin_id} {origin}".strip())
    return device


def test_a_renamed_device_is_told_with_the_rename_that_helps(house: House) -> None:
    house.have("a")
    name = house.dm_name("a")
    dmsetup("rename", name, f"{name}-x")
    status = house.wait("a", "Conflict")
    assert f"dmsetup rename {name}-x {name}" in status["message"]
    house.look_again()
    assert not exists(house, name)
    dmsetup("rename", f"{name}-x", name)
    house.wait("a", live="Active")


def test_two_names_that_were_swapped_are_put_right_by_what_is_told_and_nothing_is_removed(house: House) -> None:
    names, tables = {}, {}
    for key in ("one", "two"):
        house.have(key)
        names[key], tables[key] = house.dm_name(key), house.table(key)
    with house.asleep():
        dmsetup("rename", names["one"], f"{names['one']}-third")
        dmsetup("rename", names["two"], names["one"])
        dmsetup("rename", f"{names['one']}-third", names["two"])
    for key in ("one", "two"):
        status = house.wait(key, "Conflict")
        for words in re.findall("`dmsetup ([^`]+)`", status["message"]):
            dmsetup(*words.split())
    for key in ("one", "two"):
        house.wait(key, live="Active")
        assert house.table(key) == tables[key]


def test_an_external_origin_is_kept(house: House) -> None:
    origin = make_disk(house, "origin", 16)
    run("dd", "if=/dev/urandom", f"of={origin}", "bs=1M", "count=16", "oflag=direct")
    device = thin(house, "theirs", 70, origin)
    data = checksum(Path("/dev/mapper", device))
    adopt = {"deviceId": 70, "dmName": device}
    house.have("theirs", adopt=adopt)
    assert checksum(Path("/dev/mapper", device)) == data

    house.have("theirs", adopt=adopt, size="32MiB")
    line = table(device)
    assert line.startswith("0 65536 thin "), line
    assert len(line.split()) == 6, line

    run("dmsetup", "remove", "--retry", device)
    status = house.wait("theirs", "Conflict")
    assert "external origin" in status["message"]
    house.look_again()
    assert not exists(house, device)
    dmsetup("create", device, "--table", line)
    house.wait("theirs")
    with Path("/dev/mapper", device).open("rb") as grown:
        assert hashlib.sha256(grown.read(16 << 20)).hexdigest() == data


def test_an_adopted_name_that_its_owner_moved_is_left_and_followed(house: House) -> None:
    device, spare = thin(house, "merged", 80), thin(house, "spare", 81)
    run("dmsetup", "remove", "--retry", spare)
    house.have("merged", adopt={"deviceId": 80, "dmName": device})
    dmsetup("load", device, "--table", f"0 32768 thin /dev/mapper/{house.prefix}tank 81")
    dmsetup("suspend", device)
    dmsetup("resume", device)
    status = house.wait("merged", "Conflict")
    assert "shows thin id 81 now" in status["message"]
    house.look_again()
    assert table(device).split()[4] == "81"

    house.have("merged", adopt={"deviceId": 81, "dmName": device})
    eventually(lambda: house.status("merged")["deviceId"] == 81, "the record is followed")
    assert table(device).split()[4] == "81"


@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken"])
@pytest.mark.parametrize("state", ["Active", "Inactive"])
def test_a_renamed_pool_is_told_with_the_rename_that_helps(house: House, state: str, *, taken: bool) -> None:
    place = f"re{state[:2].lower()}{taken:d}"
    pool, name = house.pool(place), house.prefix + place
    house.declare(pool, file=f"{place}.yaml")
    house.wait_pool(pool=place)
    house.have("b", pool=place)
    renamed, ours = f"{name}-tonk", house.table("b", place)
    with house.asleep():
        dmsetup("rename", name, renamed)
        if taken:
            dmsetup("create", name, "--table", "0 2048 error")
        house.declare(declared(pool, state=state), file=f"{place}.yaml")
    status = house.wait_pool("Conflict", pool=place)
    assert f"`dmsetup rename {renamed} {name}` puts it right" in status["message"]
    assert status["ready"] is False
    house.wait("b", "WaitingForPool", place)
    house.look_again()
    assert house.table("b", place) == ours
    assert table(renamed).split()[2] == "thin-pool"

    if taken:
        run("dmsetup", "remove", "--retry", name)
    house.declare(pool, file=f"{place}.yaml")
    dmsetup("rename", renamed, name)
    house.wait_pool(pool=place)
    house.wait("b", pool=place)
