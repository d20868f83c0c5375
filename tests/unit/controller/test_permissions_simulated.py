"""What the source of a record does not permit is not done, and the reason is reported; once permitted, it is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.names import Key
from reconciler.model.recordset import Permissions
from tests.simulation.simulated_daemon import POOL, SimulatedDaemon, device_record, pool_record

APP = Key(POOL, "app")
WHY = "its owner is at work"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    daemon = SimulatedDaemon(tmp_path)
    daemon.declare(pool_record(), device_record("app"))
    daemon.settle()
    yield daemon
    daemon.kill()


def permit(daemon: SimulatedDaemon, permissions: Permissions) -> None:
    records = replace(daemon._desired.of_pool(POOL), permissions={APP: permissions})
    daemon._desired = replace(daemon._desired, pools={POOL: records})
    daemon.resync()


def is_live(daemon: SimulatedDaemon) -> bool:
    return f"{POOL}-app" in daemon.host.devices.by_name


def test_a_device_that_may_not_be_activated_stays_away_and_its_status_says_why(daemon: SimulatedDaemon) -> None:
    permit(daemon, Permissions(may_activate=False, why=WHY))
    daemon.outside.dm.remove(f"{POOL}-app")
    daemon.run(30)
    assert not is_live(daemon)
    status = daemon.recorder.statuses()[APP]
    assert status.reason is Reason.INACTIVE_BUT_DESIRED_ACTIVE
    assert WHY in status.message
    permit(daemon, Permissions())
    daemon.settle()
    assert is_live(daemon)


def test_a_source_that_gives_no_reason_forbids_as_well(daemon: SimulatedDaemon) -> None:
    permit(daemon, Permissions(may_activate=False))
    daemon.outside.dm.remove(f"{POOL}-app")
    daemon.run(30)
    assert not is_live(daemon)
    assert "does not permit" in daemon.recorder.statuses()[APP].message


def test_a_device_that_may_not_be_removed_stays(daemon: SimulatedDaemon) -> None:
    daemon.declare(pool_record(), device_record("app", state="Inactive"))
    permit(daemon, Permissions(may_remove=False, why=WHY))
    daemon.run(30)
    assert is_live(daemon)
    assert WHY in daemon.recorder.statuses()[APP].message
    permit(daemon, Permissions())
    daemon.settle()
    assert not is_live(daemon)


def test_what_is_permitted_later_is_done_then_without_anything_else_happening(daemon: SimulatedDaemon) -> None:
    permit(daemon, Permissions(not_before=daemon.clock.now() + 100.0, why=WHY))
    daemon.outside.dm.remove(f"{POOL}-app")
    daemon.run(90)
    assert not is_live(daemon)
    assert WHY in daemon.recorder.statuses()[APP].message
    daemon.run(20)
    assert is_live(daemon)


def test_a_device_that_is_as_desired_is_not_bothered_with_permissions(daemon: SimulatedDaemon) -> None:
    permit(daemon, Permissions(may_activate=False, may_remove=False, why=WHY))
    daemon.run(30)
    assert daemon.recorder.statuses()[APP].reason is Reason.CONVERGED


def test_no_device_is_pruned_while_its_source_cannot_tell(daemon: SimulatedDaemon) -> None:
    daemon.declare(pool_record(prune="Delete"), device_record("app"), device_record("web"), device_record("log"))
    daemon.settle()
    records = daemon._desired.of_pool(POOL)
    devices = {key: each for key, each in records.devices.items() if key != APP}
    daemon._desired = replace(daemon._desired, pools={POOL: replace(records, devices=devices, unknown="torn")})
    daemon.run(1200)
    assert is_live(daemon)
    daemon._desired = replace(daemon._desired, pools={POOL: replace(records, devices=devices)})
    daemon.resync()
    daemon.settle()
    assert not is_live(daemon)
