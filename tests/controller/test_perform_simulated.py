"""Single steps on the host, where what is around them decides how they are done."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.kernel.simulated import Call
from reconciler.kernel.steps.devices import run_step
from reconciler.model.errors import HostError
from reconciler.model.steps import CheckMetadata, GrowFilesystem
from tests.simulation.house import POOL, House, a_house, device_record, pool_record


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house(tmp_path / "state") as house:
        house.declare(pool_record(), device_record("a", filesystem={"type": "ext4"}))
        house.settle()
        yield house


def grown(house: House) -> Call:
    run_step(house.kernel, GrowFilesystem("tank-a", "ext4"))
    return next(call for call in reversed(house.calls.made) if call.name == "grow_filesystem")


def test_a_filesystem_is_grown_where_it_is_mounted(house: House) -> None:
    house.host.mount("tank-a", "/mnt")
    assert grown(house).args == ("/dev/mapper/tank-a", "/mnt")


def test_one_that_is_mounted_nowhere_is_grown_by_its_node(house: House) -> None:
    assert grown(house).args == ("/dev/mapper/tank-a", None)


@pytest.mark.parametrize(("places", "expected"), [(["swap"], None), (["swap", "/mnt"], "/mnt")])
def test_swap_is_no_place_at_which_a_filesystem_is_mounted(
    house: House, places: list[str], expected: str | None
) -> None:
    for place in places:
        house.host.mount("tank-a", place)
    assert grown(house).args == ("/dev/mapper/tank-a", expected)


# What cannot be written


def test_what_is_to_be_read_only_never_comes_up_writable(house: House) -> None:
    house.also(device_record("b", readOnly=True))
    house.settle()
    loads = [call for call in house.calls.made if call.name == "load" and call.args[0] == "tank-b"]
    assert [call.args[-1] for call in loads] == [True]


# The check of a pool's metadata, before it comes up


META = "/srv/tank.meta"


def down(house: House) -> None:
    house.outside.dm.remove("tank-a")
    house.outside.dm.remove(POOL)


def test_of_metadata_that_is_whole_nothing_is_told(house: House) -> None:
    down(house)
    assert run_step(house.kernel, CheckMetadata(META)).note == ""


def test_of_what_is_harmless_it_is_told_what_mends_it(house: House) -> None:
    down(house)
    house.host.files[META].leaks = "some metadata blocks have leaked"
    note = run_step(house.kernel, CheckMetadata(META)).note
    assert "leaked" in note
    assert f"thin_check --auto-repair {META}" in note


def test_of_damage_it_is_told_what_makes_a_repaired_copy(house: House) -> None:
    down(house)
    house.host.files[META].damage = "bad checksum in superblock"
    with pytest.raises(HostError, match=f"bad checksum in superblock; `thin_repair -i {META} -o NEW`") as raised:
        run_step(house.kernel, CheckMetadata(META))
    assert raised.value.errno == errno.EUCLEAN
