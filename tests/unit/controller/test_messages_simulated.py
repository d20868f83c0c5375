"""What a daemon on the simulated kernel reports of a fault: what was found and why, what was done, and how long it
took.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.controller.fact_gatherer import Settings
from reconciler.controller.manager import PoolController
from reconciler.controller.reconciler import PoolReconciler
from reconciler.kernel.protocol import Mkfs
from reconciler.kernel.simulated import Call, Calls
from reconciler.kernel.simulated.kernel import SimulatedTools
from reconciler.model.conditions import Event, EventType, PoolStatusReport, Reason
from reconciler.model.errors import HostError
from reconciler.model.names import Key
from reconciler.telemetry.logs import JsonFormatter
from tests.simulation.calls import changes
from tests.simulation.simulated_daemon import SimulatedDaemon, a_simulated_daemon, device_record, pool_record
from tests.unit.telemetry.page.environments import Environment

EBUSY, EIO = 16, 5
Line = dict[str, Any]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    with a_simulated_daemon(tmp_path / "state") as daemon:
        daemon.declare(pool_record(), device_record("a"))
        daemon.settle()
        yield daemon


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The daemon's log lines as JSON, from here on."""
    stream, logger = io.StringIO(), logging.getLogger("reconciler")
    handler, level = logging.StreamHandler(stream), logger.level
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


def lines(log: io.StringIO) -> list[Line]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def events(daemon: SimulatedDaemon, name: str = "a") -> list[Event]:
    return [event for _, event in daemon.store.events(key=Key("tank", name))]


def suspend(daemon: SimulatedDaemon) -> None:
    daemon.outside.dm.suspend("tank-a")


def test_a_fault_is_logged_when_found_when_mended_and_when_it_is_over(
    daemon: SimulatedDaemon, log: io.StringIO
) -> None:
    suspend(daemon)
    daemon.settle()
    found, done, healed = lines(log)
    assert all((line["pool"], line["device"], line["reason"]) == ("tank", "a", "Suspended") for line in lines(log))
    assert (found["level"], "whoever opens it hangs" in found["message"]) == ("warning", True)
    assert (done["level"], done["message"], done["action"]) == ("info", "resume tank-a", "resume")
    assert done["seconds"] >= 0
    assert (healed["level"], healed["message"]) == ("info", "healed: resume tank-a")
    assert 5.0 <= healed["seconds"] < 7.0, "the grace, and a resync"


def test_its_events_say_the_same(daemon: SimulatedDaemon) -> None:
    suspend(daemon)
    daemon.settle()
    found, healed = events(daemon)[-2:]
    assert (found.type, found.reason) == (EventType.FOUND, "Suspended")
    assert found.message.startswith("tank-a is suspended: whoever opens it hangs")
    assert (healed.type, healed.message) == (EventType.HEALED, "tank/a is no longer Suspended: resume tank-a")
    assert healed.seconds is not None
    assert 5.0 <= healed.seconds < 7.0


def test_what_somebody_else_put_right_is_told_as_that(daemon: SimulatedDaemon, log: io.StringIO) -> None:
    suspend(daemon)
    daemon.run(2.0)
    daemon.outside.dm.resume("tank-a")
    daemon.settle()
    assert lines(log)[-1]["message"] == "healed: by itself"
    assert events(daemon)[-1].message == "tank/a is no longer Suspended: by itself"


def test_the_same_fault_again_and_again_is_counted_also_over_a_restart(daemon: SimulatedDaemon) -> None:
    def times() -> list[tuple[str, int]]:
        return [(event.type.value, event.count) for event in events(daemon) if event.reason == "Suspended"]

    for _ in range(3):
        suspend(daemon)
        daemon.settle()
    assert times() == [("Found", 3), ("Healed", 3)]
    first = events(daemon)[-1].first
    daemon.restart()
    suspend(daemon)
    daemon.settle()
    assert times() == [("Found", 4), ("Healed", 4)]
    assert events(daemon)[-1].first == first


def failing(daemon: SimulatedDaemon, number: int) -> Calls:
    """Makes every resume fail from now on."""

    def before(call: Call) -> None:
        if call.name == "resume":
            raise HostError("resume", "tank-a", number)

    daemon.kill()
    calls = Calls(before=before)
    daemon.start(calls)
    return calls


def test_a_fault_that_lasts_is_logged_at_growing_intervals_with_its_count(
    daemon: SimulatedDaemon, log: io.StringIO
) -> None:
    calls = failing(daemon, EIO)
    suspend(daemon)
    daemon.run(3600.0)
    failed = [line for line in lines(log) if "resume tank-a failed (EIO)" in line["message"] and "action" in line]
    blocked = [line for line in lines(log) if line.get("reason") == "KernelError"]
    attempts = len([call for call in calls.made if call.name == "resume"])
    assert attempts > 15
    assert len(failed) <= attempts.bit_length()
    assert len(blocked) <= attempts.bit_length() + 1
    assert failed[0]["message"].endswith("failed (EIO)")
    assert failed[-1]["message"].endswith(" times by now)")
    assert {line["level"] for line in failed} == {"error"}
    assert all((line["pool"], line["device"], line["reason"]) == ("tank", "a", "Suspended") for line in failed)
    (event,) = [event for event in events(daemon) if event.type is EventType.FAILED][-1:]
    assert event.count > 1


def test_so_are_the_steps_that_work_before_it_fails_again(
    daemon: SimulatedDaemon, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tools: SimulatedTools, node: str, wanted: Mkfs) -> None:
        del tools
        raise HostError(f"mkfs.{wanted.type}", node, EIO)

    monkeypatch.setattr(SimulatedTools, "mkfs", fail)
    daemon.also(device_record("more", filesystem={"type": "xfs"}))
    daemon.run(3600.0)
    made = [line["message"] for line in lines(log) if line.get("action") == "create_thin"]
    assert made[:2] == ["create_thin tank", "create_thin tank (2 times by now)"]
    assert len(made) < 6


def test_what_is_only_in_use_is_no_error(daemon: SimulatedDaemon, log: io.StringIO) -> None:
    failing(daemon, EBUSY)
    suspend(daemon)
    daemon.run(60.0)
    assert {line["level"] for line in lines(log) if "EBUSY" in line["message"]} == {"warning"}


def test_a_bug_is_told_with_its_trace_and_not_every_second(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("the\nbug")

    monkeypatch.setattr(PoolReconciler, "reconcile", fail)
    environment = Environment(tmp_path / "environment")
    controller = environment.simulated.controller
    with a_simulated_daemon(tmp_path / "state") as daemon:
        pool_controller = PoolController(daemon.client_of("tank"), daemon._controller_of("tank"))
    for _ in range(9):
        controller._pass("tank", pool_controller, {Key("tank")})
    environment.close()
    told = [line for line in lines(log) if line["level"] == "error"]
    assert [line["message"].partition("; ")[2] for line in told] == [
        "this is a bug",
        *(f"this is a bug ({count} times by now)" for count in (2, 4, 8)),
    ]
    assert all(line["pool"] == "tank" and "LookupError: the\nbug" in line["trace"] for line in told)


def test_who_only_observes_says_what_it_would_do_and_does_nothing(daemon: SimulatedDaemon, log: io.StringIO) -> None:
    daemon.kill()
    observing = SimulatedDaemon(daemon.state_dir, daemon.host, Settings(observe_only=True))
    observing.declare(pool_record(), device_record("a"), device_record("more"))
    suspend(daemon)
    observing.run(20.0)
    told = [event.type for event in events(observing) if event.reason == "Suspended"]
    assert told == [EventType.FOUND, EventType.BLOCKED]
    observing.store.close()
    assert not [call for call in observing.calls.made if changes(call)]
    assert observing.status("a").reason is Reason.SUSPENDED
    assert observing.status("a").message.endswith("(not done: --observe; it would: resume tank-a)")
    assert "(not done: --observe; it would: create_thin tank, " in observing.status("more").message
    first, then = [line["message"] for line in lines(log) if line["reason"] == "Suspended"]
    assert first.endswith("(not done: --observe; it would when that time is over)")
    assert then.endswith("(not done: --observe; it would: resume tank-a)")
    pool = observing.recorder.statuses()[Key("tank")]
    assert isinstance(pool, PoolStatusReport)
    assert pool.leaked_ids is None, "who did not read the ids cannot tell"


def test_who_has_read_the_thin_ids_knows_that_none_has_leaked(daemon: SimulatedDaemon) -> None:
    pool = daemon.recorder.statuses()[Key("tank")]
    assert isinstance(pool, PoolStatusReport)
    assert (pool.leaked_ids, pool.leaked) == ((), 0)


def test_the_id_of_what_is_being_made_has_not_leaked(daemon: SimulatedDaemon) -> None:
    def stuck_half_way(call: Call) -> None:
        if call.name == "message" and str(call.args[1]).startswith(("set_transaction_id", "delete")):
            raise HostError("message", "tank", EIO)

    daemon.calls.before = stuck_half_way
    daemon.also(device_record("b"))
    daemon.run(60.0)
    (intent,) = daemon.store.intents("tank")
    assert intent.thin_id in daemon.ids()
    pool = daemon.recorder.statuses()[Key("tank")]
    assert isinstance(pool, PoolStatusReport)
    assert (pool.leaked_ids, pool.leaked) == ((), 0)
