"""What the source of a record does not permit is not done, and it is said why; what it permits later is done then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.names import Key
from reconciler.model.recordset import Permissions
from tests.simulation.house import POOL, House, device_record, pool_record

APP = Key(POOL, "app")
WHY = "its owner is at work"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    house.declare(pool_record(), device_record("app"))
    house.settle()
    yield house
    house.kill()


def permit(house: House, permissions: Permissions) -> None:
    records = replace(house._desired.of_pool(POOL), permissions={APP: permissions})
    house._desired = replace(house._desired, pools={POOL: records})
    house.resync()


def is_live(house: House) -> bool:
    return f"{POOL}-app" in house.host.devices.by_name


def test_a_device_that_may_not_be_activated_stays_away_and_its_status_says_why(house: House) -> None:
    permit(house, Permissions(may_activate=False, why=WHY))
    house.outside.dm.remove(f"{POOL}-app")
    house.run(30)
    assert not is_live(house)
    status = house.recorder.statuses()[APP]
    assert status.reason is Reason.INACTIVE_BUT_DESIRED_ACTIVE
    assert WHY in status.message
    permit(house, Permissions())
    house.settle()
    assert is_live(house)


def test_a_device_that_may_not_be_removed_stays(house: House) -> None:
    house.declare(pool_record(), device_record("app", state="Inactive"))
    permit(house, Permissions(may_remove=False, why=WHY))
    house.run(30)
    assert is_live(house)
    assert WHY in house.recorder.statuses()[APP].message
    permit(house, Permissions())
    house.settle()
    assert not is_live(house)


def test_what_is_permitted_later_is_done_then_without_anything_else_happening(house: House) -> None:
    permit(house, Permissions(not_before=house.clock.now() + 100.0, why=WHY))
    house.outside.dm.remove(f"{POOL}-app")
    house.run(90)
    assert not is_live(house)
    assert WHY in house.recorder.statuses()[APP].message
    house.run(20)
    assert is_live(house)


def test_a_device_that_is_as_desired_is_not_bothered_with_permissions(house: House) -> None:
    permit(house, Permissions(may_activate=False, may_remove=False, why=WHY))
    house.run(30)
    assert house.recorder.statuses()[APP].reason is Reason.CONVERGED


def test_no_device_is_pruned_while_its_source_cannot_tell(house: House) -> None:
    house.declare(pool_record(prune="Delete"), device_record("app"), device_record("web"), device_record("log"))
    house.settle()
    records = house._desired.of_pool(POOL)
    devices = {key: each for key, each in records.devices.items() if key != APP}
    house._desired = replace(house._desired, pools={POOL: replace(records, devices=devices, unknown="torn")})
    house.run(1200)
    assert is_live(house)
    house._desired = replace(house._desired, pools={POOL: replace(records, devices=devices)})
    house.resync()
    house.settle()
    assert not is_live(house)
