"""What HTTP is told: revisions that change when what is told does, and how the reconciler itself is doing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler import __version__
from reconciler.controller.fact_gatherer import Settings
from reconciler.daemon.app import App
from reconciler.daemon.oneshot import host_for, simulated_client
from reconciler.daemon.run import Daemon, Options
from reconciler.kernel.simulated import SimulatedHost, simulated_kernel
from reconciler.model.conditions import EventType, Reason
from reconciler.model.names import Key
from reconciler.model.recordset import Problem, RecordSet
from reconciler.model.units import Bytes
from reconciler.store.store import Store
from tests.simulation.simulated_daemon import device_record, pool_record
from tests.unit.telemetry.page.environments import Environment, device_status


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    environment = Environment(tmp_path)
    yield environment
    environment.close()


def test_a_revision_is_another_one_once_something_else_is_told(environment: Environment) -> None:
    status_api, record = environment.status_api, device_record("a")
    seen = [status_api.items_revision()]

    def has_changed() -> bool:
        seen.append(status_api.items_revision())
        return seen[-1] not in seen[:-1]

    assert not has_changed()
    environment.declare(pool_record(), record)
    assert has_changed()
    status = device_status(record.key)
    environment.found(record, status)
    assert has_changed()
    environment.found(record, status)
    assert not has_changed()
    environment.found(record, device_status(record.key, mapped=Bytes(65536)))
    assert has_changed()
    environment.found(record, device_status(record.key, Reason.BUSY, "held"))
    assert has_changed()
    environment.recorder.forget([record.key])
    assert has_changed()


def test_so_is_that_of_the_events(environment: Environment) -> None:
    first = environment.status_api.events_revision()
    assert environment.status_api.events_revision() == first
    found = {first}
    for _ in range(2):  # the second is a repeat, which counts up
        environment.recorder.event(Key("tank"), EventType.INFO, "Noted", "x")
        found.add(environment.status_api.events_revision())
    assert len(found) == 3


def test_another_daemon_calls_nothing_by_the_same_revision(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    other = Environment(tmp_path / "other")
    assert environment.status_api.items_revision() != other.status_api.items_revision()
    assert environment.status_api.events_revision() != other.status_api.events_revision()
    other.close()


def test_the_daemon_says_what_keeps_it_from_its_work(environment: Environment) -> None:
    (item,) = environment.status_api.daemon()
    assert (item["kind"], item["metadata"]["name"]) == ("Daemon", "web-1")
    assert (item["status"]["healthy"], item["status"]["ready"], item["status"]["message"]) == (True, True, "")
    environment.status_api.obstacle = lambda: "no valid manifests were ever loaded: see the log"
    (item,) = environment.status_api.daemon()
    assert (item["status"]["ready"], item["status"]["message"]) == (False, environment.status_api.obstacle())


@pytest.mark.parametrize("only", [False, True])
def test_whether_it_only_observes_is_told_as_fields_and_as_a_metric(tmp_path: Path, only: bool) -> None:
    settings = Settings(observe_only=only)
    options = Options(tmp_path, tmp_path / "state", ("127.0.0.1", 0), "web-1", settings=settings)
    with Store.open(options.state_dir, wall_clock=time.time) as store:
        daemon = Daemon(options, store)  # wired, not started
        (item,) = daemon._status_api.daemon()
        metric = daemon._app.registry.get_sample_value("dm_reconciler_observe_only")
        daemon._end()
    assert item["status"]["observeOnly"] is only
    assert metric == only


def test_its_build_names_the_kernel_by_its_release_not_by_the_drivers_version(tmp_path: Path) -> None:
    dm = simulated_kernel(SimulatedHost()).dm
    library, driver = dm.versions()
    assert driver != os.uname().release
    with Store.open(tmp_path, wall_clock=time.time) as store:
        app = App(store, Settings(), simulated_client(host_for(RecordSet.of([])), tmp_path))
        app.tell_build(dm)
        (family,) = (one for one in app.registry.collect() if one.name == "dm_reconciler_build_info")
    (sample,) = family.samples
    assert sample.labels == {"version": __version__, "kernel": os.uname().release, "libdevmapper": library}


def test_of_very_many_problems_the_first_are_told(environment: Environment) -> None:
    environment.status_api.problems = lambda: [Problem("a.yaml", number, 1, "", "wrong") for number in range(1, 31)]
    told = environment.status_api.daemon()[0]["status"]["manifestProblems"]
    assert (len(told), told[0]) == (21, "a.yaml:1:1: wrong")
    assert told[-1] == "and 10 more: see `dm-reconciler validate`"


def test_good_is_told_of_what_is_left_alone_on_purpose(environment: Environment) -> None:
    environment.found(None, device_status(Key("tank", "a"), Reason.ORPHANED, "kept", good=True), retained=True)
    (item,) = environment.status_api.items("ThinDevice")
    assert (item["spec"], item["status"]["ready"], item["status"]["good"]) == (None, False, True)
