"""What is told of each record: statuses, episodes of drift, events and metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from reconciler.controller.recorder import Recorder
from reconciler.model.conditions import Condition, DeviceStatus, PoolStatusReport, Reason, Status
from reconciler.model.errors import HostError
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.steps import CreateThin, Remove, Resume
from reconciler.store.errors import StoreUnusable
from reconciler.store.store import Store
from reconciler.telemetry.metrics import Metrics
from tests.unit.controller.still import StillClock

APP = Key("tank", "app")
TANK = Key("tank")


class House:
    """A recorder with a real store and real metrics."""

    def __init__(self, store: Store, clock: StillClock) -> None:
        self.registry = CollectorRegistry()
        self.store = store
        self.clock = clock
        self.recorder = Recorder(store, Metrics(self.registry), clock)

    def found(self, reason: Reason, live: LiveState = LiveState.ACTIVE, beneath: Reason | None = None) -> None:
        condition = Condition(reason, f"it is {reason}", live, beneath=beneath)
        status = DeviceStatus(APP, live, reason, condition.message, self.clock.wall(), condition.good, beneath=beneath)
        self.recorder.record(status, condition, "Active")

    def events(self) -> list[tuple[str, str]]:
        return [(event.type.value, event.reason) for _, event in self.store.events()]

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    clock = StillClock()
    with Store.open(tmp_path / "state", wall_clock=clock.wall) as store:
        yield House(store, clock)


def test_an_episode_of_drift_is_counted_once_however_often_it_is_seen(house: House) -> None:
    for _ in range(3):
        house.found(Reason.SUSPENDED, LiveState.SUSPENDED)
    assert house.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="Suspended") == 1
    assert house.events() == [("Found", "Suspended")]


def test_a_heal_is_counted_with_its_time_from_detection(house: House) -> None:
    house.found(Reason.SUSPENDED, LiveState.SUSPENDED)
    house.clock.time += 6
    house.found(Reason.CONVERGED)
    labels = {"kind": "ThinDevice", "reason": "Suspended", "result": "success"}
    assert house.metric("dm_reconciler_heals_total", **labels) == 1
    assert house.metric("dm_reconciler_heal_duration_seconds_sum", reason="Suspended") == 6
    assert house.events() == [("Found", "Suspended"), ("Healed", "Suspended")]


def test_drift_beneath_a_busy_device_is_one_episode_with_it(house: House) -> None:
    house.found(Reason.COMMITTED_BUT_ACTIVE)
    house.found(Reason.BUSY, beneath=Reason.COMMITTED_BUT_ACTIVE)
    house.found(Reason.CONVERGED, LiveState.INACTIVE)
    assert house.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="CommittedButActive") == 1
    assert ("Blocked", "Busy") in house.events()
    assert house.events()[-1] == ("Healed", "CommittedButActive")


def _heals(house: House, reason: Reason) -> float:
    labels = {"kind": "ThinDevice", "reason": str(reason), "result": "success"}
    return house.metric("dm_reconciler_heals_total", **labels)


def test_drift_that_other_drift_hides_is_not_healed_by_that(house: House) -> None:
    house.found(Reason.WRONG_TABLE)
    house.clock.time += 5
    house.found(Reason.SUSPENDED, LiveState.SUSPENDED)
    assert _heals(house, Reason.WRONG_TABLE) == 0
    house.recorder.ended(APP, Resume("tank-app"), 0.1, None)
    house.clock.time += 1
    house.found(Reason.WRONG_TABLE)
    assert [_heals(house, one) for one in (Reason.SUSPENDED, Reason.WRONG_TABLE)] == [1, 0]
    house.recorder.ended(APP, Remove("tank-app", ""), 0.1, None)
    house.clock.time += 1
    house.found(Reason.CONVERGED)
    assert house.events() == [
        ("Found", "WrongTable"),
        ("Found", "Suspended"),
        ("Healed", "Suspended"),
        ("Healed", "WrongTable"),
    ]
    assert house.metric("dm_reconciler_heal_duration_seconds_sum", reason="WrongTable") == 7
    assert house.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="WrongTable") == 1


def test_drift_that_was_mended_is_healed_though_other_drift_follows(house: House) -> None:
    house.found(Reason.NOT_CREATED, LiveState.ABSENT)
    house.recorder.ended(APP, CreateThin("tank", 7), 0.1, None)
    house.found(Reason.INACTIVE_BUT_DESIRED_ACTIVE, LiveState.INACTIVE)
    assert house.events()[1:] == [("Healed", "NotCreated"), ("Found", "InactiveButDesiredActive")]


def test_a_paused_device_still_reports_its_drift(house: House) -> None:
    house.found(Reason.PAUSED, beneath=Reason.WRONG_TABLE)
    assert house.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="WrongTable") == 1


def test_since_is_when_state_and_reason_became_these(house: House) -> None:
    house.found(Reason.CONVERGED)
    first = house.recorder.statuses()[APP].since
    house.clock.time += 50
    house.found(Reason.CONVERGED)
    assert house.recorder.statuses()[APP].since == first
    house.found(Reason.SUSPENDED, LiveState.SUSPENDED)
    assert house.recorder.statuses()[APP].since == first + 50


def test_a_step_that_fails_is_told_and_counted(house: House) -> None:
    house.found(Reason.COMMITTED_BUT_ACTIVE)
    fault = HostError("remove", "tank-app", 16)
    house.recorder.ended(APP, Remove("tank-app", ""), 0.5, fault)
    assert house.metric("dm_reconciler_actions_total", action="remove", result="error") == 1
    labels = {"kind": "ThinDevice", "reason": "CommittedButActive", "result": "error"}
    assert house.metric("dm_reconciler_heals_total", **labels) == 1
    assert ("Failed", "EBUSY") in house.events()


def test_what_is_recorded_is_in_the_store_after_a_flush(house: House) -> None:
    house.found(Reason.CONVERGED)
    assert house.store.statuses() == {}
    house.recorder.flush()
    assert house.store.statuses()[APP].reason is Reason.CONVERGED


def test_two_flushes_at_once_write_the_older_first(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by another pool's lane, which takes all that waits: it may be slow on its way to the store."""
    begun, may_go_on, put = threading.Event(), threading.Event(), house.store.put_statuses

    def slow(new: Iterable[Status]) -> None:
        taken = list(new)
        if threading.current_thread() is other:
            begun.set()
            may_go_on.wait(1.0)
        put(taken)

    monkeypatch.setattr(house.store, "put_statuses", slow)
    house.found(Reason.SUSPENDED)
    other = threading.Thread(target=house.recorder.flush)
    other.start()
    begun.wait()
    house.found(Reason.CONVERGED)
    own = threading.Thread(target=house.recorder.flush)
    own.start()
    own.join(0.5)
    may_go_on.set()
    other.join()
    own.join()
    assert house.store.statuses()[APP].reason is Reason.CONVERGED


def test_what_could_not_be_written_is_written_later_and_what_is_newer_wins(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.found(Reason.CONVERGED)
    house.recorder.flush()
    house.recorder.forget([APP])
    house.found(Reason.NOT_CREATED)

    def full(_: object) -> None:
        house.found(Reason.SUSPENDED)  # by another pool's thread
        raise StoreUnusable("no room")

    with monkeypatch.context() as patch:
        patch.setattr(house.store, "put_statuses", full)
        house.recorder.flush()
    house.recorder.flush()
    assert house.store.statuses()[APP].reason is Reason.SUSPENDED


def test_a_status_whose_drop_could_not_be_written_goes_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.found(Reason.CONVERGED)
    house.recorder.flush()

    def full(_: object) -> None:
        raise StoreUnusable("no room")

    with monkeypatch.context() as patch:
        patch.setattr(house.store, "drop_statuses", full)
        house.recorder.forget([APP])
    assert APP in house.store.statuses()
    house.recorder.flush()
    assert house.store.statuses() == {}


def test_a_forgotten_record_leaves_no_status_and_no_series(house: House) -> None:
    house.found(Reason.CONVERGED)
    house.recorder.flush()
    house.recorder.forget([APP])
    assert house.recorder.statuses() == {}
    assert house.store.statuses() == {}
    assert house.registry.get_sample_value("dm_reconciler_device_ready", {"pool": "tank", "device": "app"}) is None


def test_an_older_runs_status_is_not_taken_for_a_look(house: House) -> None:
    house.found(Reason.CONVERGED)
    house.recorder.flush()
    after_restart = Recorder(house.store, Metrics(CollectorRegistry()), house.clock)
    assert after_restart.known_keys() == {APP}
    assert after_restart.statuses() == {}


def test_a_leak_is_told_once_and_again_when_it_grows(house: House) -> None:
    for ids in ((7,), (7,), None, (7,), (7, 8)):
        condition = Condition(Reason.CONVERGED, "as desired", LiveState.ACTIVE)
        status = PoolStatusReport(
            TANK, LiveState.ACTIVE, Reason.CONVERGED, "as desired", house.clock.wall(), good=True, leaked_ids=ids
        )
        house.recorder.record(status, condition, "Active")
    assert house.events() == [("Found", "LeakedThinId"), ("Found", "LeakedThinId")]
    assert house.metric("dm_reconciler_drift_detected_total", kind="ThinPool", reason="LeakedThinId") == 2
