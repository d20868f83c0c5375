"""The first thread: an active device that vanishes, is suspended, or gets an error table comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.conftest import run
from tests.kernel.harness import House, a_house, eventually


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with a_house() as house:
        house.declare(house.pool(), house.device("a"))
        house.start("--suspend-grace", "2s")
        house.wait("a")
        yield house


def test_a_removed_active_device_is_activated_again(house: House) -> None:
    run("dmsetup", "remove", house.dm_name("a"))
    eventually(lambda: house.dm.info(house.dm_name("a")), "it is back")
    house.wait("a")
    assert "is recorded as Active but is not active, activating it" in house.tail()
