"""What is recorded of each record: statuses, drift, events and metrics."""

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
from tests.testing.fake_clock import FakeClock

APP = Key("tank", "app")
TANK = Key("tank")


class SimulatedDaemon:
    """A recorder with a real store and real metrics."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
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
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    clock = FakeClock()
    with Store.open(tmp_path / "state", wall_clock=clock.wall) as store:
        yield SimulatedDaemon(store, clock)


def test_an_episode_of_drift_is_counted_once_however_often_it_is_seen(daemon: SimulatedDaemon) -> None:
    for _ in range(3):
        daemon.found(Reason.SUSPENDED, LiveState.SUSPENDED)
    assert daemon.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="Suspended") == 1
    assert daemon.events() == [("Found", "Suspended")]


def test_a_heal_is_counted_with_its_time_from_detection(daemon: SimulatedDaemon) -> None:
    daemon.found(Reason.SUSPENDED, LiveState.SUSPENDED)
    daemon.clock.time += 6
    daemon.found(Reason.CONVERGED)
    labels = {"kind": "ThinDevice", "reason": "Suspended", "result": "success"}
    assert daemon.metric("dm_reconciler_heals_total", **labels) == 1
    assert daemon.metric("dm_reconciler_heal_duration_seconds_sum", reason="Suspended") == 6
    assert daemon.events() == [("Found", "Suspended"), ("Healed", "Suspended")]


def test_drift_beneath_a_busy_device_is_one_episode_with_it(daemon: SimulatedDaemon) -> None:
    daemon.found(Reason.COMMITTED_BUT_ACTIVE)
    daemon.found(Reason.BUSY, beneath=Reason.COMMITTED_BUT_ACTIVE)
    daemon.found(Reason.CONVERGED, LiveState.INACTIVE)
    assert daemon.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="CommittedButActive") == 1
    assert ("Blocked", "Busy") in daemon.events()
    assert daemon.events()[-1] == ("Healed", "CommittedButActive")


def _heals(daemon: SimulatedDaemon, reason: Reason) -> float:
    labels = {"kind": "ThinDevice", "reason": str(reason), "result": "success"}
    return daemon.metric("dm_reconciler_heals_total", **labels)


def test_drift_that_other_drift_hides_is_not_healed_by_that(daemon: SimulatedDaemon) -> None:
    daemon.found(Reason.WRONG_TABLE)
    daemon.clock.time += 5
    daemon.found(Reason.SUSPENDED, LiveState.SUSPENDED)
    assert _heals(daemon, Reason.WRONG_TABLE) == 0
    daemon.recorder.ended(APP, Resume("tank-app"), 0.1, None)
    daemon.clock.time += 1
    daemon.found(Reason.WRONG_TABLE)
    assert [_heals(daemon, one) for one in (Reason.SUSPENDED, Reason.WRONG_TABLE)] == [1, 0]
    daemon.recorder.ended(APP, Remove("tank-app", ""), 0.1, None)
    daemon.clock.time += 1
    daemon.found(Reason.CONVERGED)
    assert daemon.events() == [
        ("Found", "WrongTable"),
        ("Found", "Suspended"),
        ("Healed", "Suspended"),
        ("Healed", "WrongTable"),
    ]
    assert daemon.metric("dm_reconciler_heal_duration_seconds_sum", reason="WrongTable") == 7
    assert daemon.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="WrongTable") == 1


def test_drift_that_was_mended_is_healed_though_other_drift_follows(daemon: SimulatedDaemon) -> None:
    daemon.found(Reason.NOT_CREATED, LiveState.ABSENT)
    daemon.recorder.ended(APP, CreateThin("tank", 7), 0.1, None)
    daemon.found(Reason.INACTIVE_BUT_DESIRED_ACTIVE, LiveState.INACTIVE)
    assert daemon.events()[1:] == [("Healed", "NotCreated"), ("Found", "InactiveButDesiredActive")]


def test_a_paused_device_still_reports_its_drift(daemon: SimulatedDaemon) -> None:
    daemon.found(Reason.PAUSED, beneath=Reason.WRONG_TABLE)
    assert daemon.metric("dm_reconciler_drift_detected_total", kind="ThinDevice", reason="WrongTable") == 1


def test_since_is_when_state_and_reason_became_these(daemon: SimulatedDaemon) -> None:
    daemon.found(Reason.CONVERGED)
    first = daemon.recorder.statuses()[APP].since
    daemon.clock.time += 50
    daemon.found(Reason.CONVERGED)
    assert daemon.recorder.statuses()[APP].since == first
    daemon.found(Reason.SUSPENDED, LiveState.SUSPENDED)
    assert daemon.recorder.statuses()[APP].since == first + 50


def test_a_step_that_fails_is_told_and_counted(daemon: SimulatedDaemon) -> None:
    daemon.found(Reason.COMMITTED_BUT_ACTIVE)
    fault = HostError("remove", "tank-app", 16)
    daemon.recorder.ended(APP, Remove("tank-app", ""), 0.5, fault)
    assert daemon.metric("dm_reconciler_actions_total", action="remove", result="error") == 1
    labels = {"kind": "ThinDevice", "reason": "CommittedButActive", "result": "error"}
    assert daemon.metric("dm_reconciler_heals_total", **labels) == 1
    assert ("Failed", "EBUSY") in daemon.events()


def test_what_is_recorded_is_in_the_store_after_a_flush(daemon: SimulatedDaemon) -> None:
    daemon.found(Reason.CONVERGED)
    assert daemon.store.statuses() == {}
    daemon.recorder.flush()
    assert daemon.store.statuses()[APP].reason is Reason.CONVERGED


def test_two_flushes_at_once_write_the_older_first(daemon: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flush is by another pool's controller, which takes all pending events and may be slow to write them."""
    begun, may_go_on, put = threading.Event(), threading.Event(), daemon.store.put_statuses

    def slow(new: Iterable[Status]) -> None:
        taken = list(new)
        if threading.current_thread() is other:
            begun.set()
            may_go_on.wait(1.0)
        put(taken)

    monkeypatch.setattr(daemon.store, "put_statuses", slow)
    daemon.found(Reason.SUSPENDED)
    other = threading.Thread(target=daemon.recorder.flush)
    other.start()
    begun.wait()
    daemon.found(Reason.CONVERGED)
    own = threading.Thread(target=daemon.recorder.flush)
    own.start()
    own.join(0.5)
    may_go_on.set()
    other.join()
    own.join()
    assert daemon.store.statuses()[APP].reason is Reason.CONVERGED


def test_what_could_not_be_written_is_written_later_and_what_is_newer_wins(
    daemon: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.found(Reason.CONVERGED)
    daemon.recorder.flush()
    daemon.recorder.forget([APP])
    daemon.found(Reason.NOT_CREATED)

    def full(_: object) -> None:
        daemon.found(Reason.SUSPENDED)  # found by another pool's thread
        raise StoreUnusable("no room")

    with monkeypatch.context() as patch:
        patch.setattr(daemon.store, "put_statuses", full)
        daemon.recorder.flush()
    daemon.recorder.flush()
    assert daemon.store.statuses()[APP].reason is Reason.SUSPENDED


def test_a_status_whose_drop_could_not_be_written_goes_later(
    daemon: SimulatedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.found(Reason.CONVERGED)
    daemon.recorder.flush()

    def full(_: object) -> None:
        raise StoreUnusable("no room")

    with monkeypatch.context() as patch:
        patch.setattr(daemon.store, "drop_statuses", full)
        daemon.recorder.forget([APP])
    assert APP in daemon.store.statuses()
    daemon.recorder.flush()
    assert daemon.store.statuses() == {}


def test_a_forgotten_record_leaves_no_status_and_no_series(daemon: SimulatedDaemon) -> None:
    daemon.found(Reason.CONVERGED)
    daemon.recorder.flush()
    daemon.recorder.forget([APP])
    assert daemon.recorder.statuses() == {}
    assert daemon.store.statuses() == {}
    assert daemon.registry.get_sample_value("dm_reconciler_device_ready", {"pool": "tank", "device": "app"}) is None


def test_an_older_runs_status_is_not_taken_for_a_look(daemon: SimulatedDaemon) -> None:
    daemon.found(Reason.CONVERGED)
    daemon.recorder.flush()
    after_restart = Recorder(daemon.store, Metrics(CollectorRegistry()), daemon.clock)
    assert after_restart.known_keys() == {APP}
    assert after_restart.statuses() == {}


def test_a_leak_is_told_once_and_again_when_it_grows(daemon: SimulatedDaemon) -> None:
    for ids in ((7,), (7,), None, (7,), (7, 8)):
        condition = Condition(Reason.CONVERGED, "as desired", LiveState.ACTIVE)
        status = PoolStatusReport(
            TANK, LiveState.ACTIVE, Reason.CONVERGED, "as desired", daemon.clock.wall(), good=True, leaked_ids=ids
        )
        daemon.recorder.record(status, condition, "Active")
    assert daemon.events() == [("Found", "LeakedThinId"), ("Found", "LeakedThinId")]
    assert daemon.metric("dm_reconciler_drift_detected_total", kind="ThinPool", reason="LeakedThinId") == 2
