"""After a crash between any two steps of any plan, the next start reaches the same goal."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.live import ThinEntry
from reconciler.model.steps import CreateSnapshot, DiscardThin, MakeFilesystem, MarkThinIdTaken
from reconciler.planner.facts import PruneVerdict
from tests.unit.planner import builders as a
from tests.unit.planner.small_world import GOLDEN, SmallWorld, world

SNAPSHOT: dict[str, Any] = {"snapshotOf": "golden", "size": None}
FILESYSTEM: dict[str, Any] = {"filesystem": {"type": "ext4"}}


def making(**spec: Any) -> SmallWorld:
    return world(a.record(**spec), known=False)


def snapshot_of_live() -> SmallWorld:
    here = making(**SNAPSHOT)
    here.devices["tank-golden"] = a.golden(opened=1)
    return here


def pruned() -> SmallWorld:
    here = world(None, live=a.thin())
    here.prune = PruneVerdict.DELETE
    return here


STARTS: dict[str, Callable[[], SmallWorld]] = {
    "make": making,
    "make with a filesystem": lambda: making(**FILESYSTEM),
    "make inactive": lambda: world(a.record("Inactive"), known=False),
    "make committed": lambda: world(a.record("Committed", **FILESYSTEM), known=False),
    "snapshot": lambda: making(**SNAPSHOT),
    "snapshot of a live origin": snapshot_of_live,
    "larger snapshot": lambda: making(snapshotOf="golden", size=f"{2 * a.SIZE}s", **FILESYSTEM),
    "activate": lambda: world(a.record()),
    "grow": lambda: world(a.record(size=f"{2 * a.SIZE}s", **FILESYSTEM), live=a.thin(opened=1)),
    "deactivate": lambda: world(a.record("Inactive"), live=a.thin(suspended=True, waiting=a.error_table())),
    "commit": lambda: world(a.record("Committed"), live=a.thin()),
    "delete": lambda: world(a.record("Absent"), live=a.thin(suspended=True)),
    "delete with discard": lambda: world(a.record("Absent", discardOnDelete=True)),
    "prune": pruned,
}


def ways(start: SmallWorld) -> list[SmallWorld]:
    """The model after each step on the way to the end, and in the middle of those steps that have one."""
    found, here = [copy.deepcopy(start)], copy.deepcopy(start)
    for _ in range(10):
        for step in here.plan().steps:
            before = copy.deepcopy(here)
            here.do(step)
            found.append(copy.deepcopy(here))
            if isinstance(step, CreateSnapshot) and step.suspend:
                found += [suspended(before), suspended(here)]
            if isinstance(step, MakeFilesystem | DiscardThin):
                found.append(with_private(here, step))
    return found


def suspended(here: SmallWorld) -> SmallWorld:
    other = copy.deepcopy(here)
    other.devices["tank-golden"] = a.golden(opened=1, suspended=True)
    other.seen = 0.0  # within the grace, which does not apply to what an intent has suspended
    return other


def with_private(here: SmallWorld, step: MakeFilesystem | DiscardThin) -> SmallWorld:
    other = copy.deepcopy(here)
    other.devices[step.subject] = a.thin(name=step.subject, uuid=step.uuid, table=(step.table,))
    intent = other.knowledge.intent
    assert intent is not None
    if isinstance(step, MakeFilesystem):
        other.ids[intent.thin_id] = ThinEntry(300, intent.transaction_id)
    return other


@pytest.mark.parametrize("start", STARTS)
def test_killed_anywhere_it_ends_as_its_record_asks(start: str) -> None:
    for here in ways(STARTS[start]()):
        end = here.settle()
        assert end.reason is Reason.CONVERGED
        assert here.knowledge.intent is None
        assert here.knowledge.pool is not None
        assert here.knowledge.pool.transaction_id == here.transaction
        named = {device.thin_id for device in here.knowledge.devices.values()}
        assert here.ids.keys() == named, "a leaked thin"
        assert a.PRIVATE not in here.devices
        assert not any(device.info.suspended for device in here.devices.values())


@pytest.mark.parametrize("start", [name for name in STARTS if name != "prune"])
@pytest.mark.parametrize("then", ["Active", "Inactive", "Committed", "Absent"])
def test_killed_anywhere_and_its_record_changed_it_ends_as_that_asks(start: str, then: str) -> None:
    for here in ways(STARTS[start]()):
        assert here.record is not None
        spec = here.record.spec.model_copy(update={"state": a.record(then).spec.state})
        here.record = here.record.model_copy(update={"spec": spec})
        end = here.settle()
        known = here.knowledge.devices.get("a")
        committed = known is not None and known.committed and then in {"Active", "Inactive"}
        opened = start == "grow" and then != "Active"
        assert end.reason is (Reason.INVALID_CHANGE if committed else Reason.BUSY if opened else Reason.CONVERGED)
        assert here.knowledge.intent is None


@pytest.mark.parametrize("start", STARTS)
def test_killed_anywhere_and_its_record_gone_no_operation_stays_open(start: str) -> None:
    for here in ways(STARTS[start]()):
        here.record = None
        assert here.settle().reason in {Reason.CONVERGED, Reason.ORPHANED}
        assert here.knowledge.intent is None
        assert a.PRIVATE not in here.devices


def test_a_strangers_thin_on_the_id_of_an_intent_survives() -> None:
    here = making()
    here.do(here.plan().steps[0])
    intent = here.knowledge.intent
    assert intent is not None
    here.ids[intent.thin_id] = ThinEntry(0, here.transaction)
    here.do(MarkThinIdTaken(a.KEY, intent.thin_id))  # what the executor does on EEXIST
    assert here.settle().reason is Reason.CONVERGED
    assert intent.thin_id in here.ids
    assert here.knowledge.devices["a"].thin_id != intent.thin_id


def test_the_origin_is_not_changed_by_its_snapshot() -> None:
    here = snapshot_of_live()
    before = here.knowledge.devices[GOLDEN.device]
    here.settle()
    assert here.knowledge.devices[GOLDEN.device] == before
