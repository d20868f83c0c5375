"""docs/reference/healing.md, "Making a device"."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.live import ThinEntry
from reconciler.model.steps import (
    Activate,
    BeginIntent,
    CompleteIntent,
    CreateSnapshot,
    CreateThin,
    MakeFilesystem,
    MarkCreated,
    SaveDevice,
    SetTransactionId,
)
from reconciler.model.stored import IntentKind, StoredDevice
from reconciler.model.units import Bytes, Sectors
from reconciler.planner.facts import DeviceFacts, Origin
from tests.unit.planner import builders as a
from tests.unit.planner.builders import (
    ID,
    KEY,
    NAME,
    NEW_ID,
    NEW_UUID,
    SIZE,
    TRANSACTION,
    facts,
    known,
    plan,
    row,
    steps,
)

MADE = known(uuid=NEW_UUID, thin_id=NEW_ID, created_at=TRANSACTION)
SNAPSHOT = {"snapshotOf": "golden", "size": None}
TWICE = Sectors(2 * SIZE)


def snapshot(of: Origin | None, **spec: object) -> DeviceFacts:
    return facts(knowing=None, origin=of, spec={**SNAPSHOT, **spec}, ids=a.ids(3))


@row("M01")
def test_an_empty_device_is_published_only_after_its_outcome_is_flushed() -> None:
    assert steps(facts(knowing=None, ids=a.ids(1))) == (
        BeginIntent(KEY, a.intent()),
        CreateThin("tank", NEW_ID),
        SetTransactionId("tank", TRANSACTION),
        CompleteIntent(KEY, MADE),
        Activate(NAME, NEW_UUID, a.table_of(NEW_ID)),
    )


@row("M02")
def test_a_filesystem_is_made_on_the_private_device_after_the_create_was_noted() -> None:
    spec = {"filesystem": {"type": "ext4", "label": "base", "blockSize": "4KiB", "discard": True}}
    private = (a.PRIVATE, f"{NEW_UUID}-private", a.table_of(NEW_ID))
    assert steps(facts("Inactive", knowing=None, ids={}, spec=spec))[2:] == (
        SetTransactionId("tank", TRANSACTION),
        MarkCreated(KEY),
        MakeFilesystem(*private, type="ext4", label="base", block_size=Bytes(4096), discard=True),
        CompleteIntent(KEY, replace(MADE, active=False, filesystem="ext4")),
    )


@row("M03")
def test_a_snapshot_of_a_resting_origin_needs_no_suspend_and_takes_its_size() -> None:
    origin = a.origin(known_as=a.known_golden(size=TWICE, filesystem_size=TWICE))
    begun = a.intent(IntentKind.SNAPSHOT, size=TWICE, origin="golden")
    done = replace(MADE, size=TWICE, filesystem_size=TWICE, origin="golden")
    assert steps(snapshot(origin)) == (
        BeginIntent(KEY, begun),
        CreateSnapshot("tank", NEW_ID, 3),
        SetTransactionId("tank", TRANSACTION),
        CompleteIntent(KEY, done),
        Activate(NAME, NEW_UUID, a.table_of(NEW_ID, TWICE)),
    )


@row("M03", "M13")
def test_a_snapshot_gets_no_filesystem_made() -> None:
    assert "MakeFilesystem" not in a.kinds(snapshot(a.origin(), filesystem={"type": "ext4"}))


@row("M04")
def test_a_live_origin_is_suspended_around_the_snapshot_and_the_intent_says_so() -> None:
    begin, create, note, *_ = steps(snapshot(a.origin(a.golden(opened=1))))
    assert begin == BeginIntent(KEY, a.intent(IntentKind.SNAPSHOT, origin="golden", suspended="tank-golden"))
    assert create == CreateSnapshot("tank", NEW_ID, 3, "tank-golden")
    assert note == MarkCreated(KEY), "it runs again: from now on who suspends it is somebody else"


@row("M04")
def test_an_origin_whose_device_shows_something_else_is_not_suspended() -> None:
    _, create, then, *_ = steps(snapshot(a.origin(a.golden(table=a.error_table()))))
    assert create == CreateSnapshot("tank", NEW_ID, 3)
    assert not isinstance(then, MarkCreated)


@row("M05")
def test_an_origin_that_somebody_suspended_is_waited_for() -> None:
    found = plan(snapshot(a.origin(a.golden(suspended=True))))
    assert (found.reason, found.steps) == (Reason.WAITING_FOR_ORIGIN, ())


@row("M06")
@pytest.mark.parametrize(
    "origin",
    [
        a.origin(a.golden(waiting=a.error_table())),
        a.origin(a.golden(), paused=True),
        a.origin(a.golden(), protected=True),
        a.origin(a.golden(), elsewhere=("copy",)),
        a.origin(elsewhere=("copy",)),
    ],
)
def test_an_origin_that_cannot_be_suspended_safely_is_waited_for(origin: Origin) -> None:
    found = plan(snapshot(origin))
    assert (found.reason, found.steps) == (Reason.WAITING_FOR_ORIGIN, ())


@row("M06")
def test_a_paused_origin_that_is_not_live_is_no_obstacle() -> None:
    assert plan(snapshot(a.origin(paused=True))).reason is Reason.NOT_CREATED


@row("M07")
@pytest.mark.parametrize("origin", [None, Origin("golden", "tank-golden", None)])
def test_an_origin_that_does_not_exist_is_waited_for(origin: Origin | None) -> None:
    found = plan(snapshot(origin))
    assert (found.reason, found.steps) == (Reason.WAITING_FOR_ORIGIN, ())


@row("M07")
def test_an_origin_whose_thin_is_lost_is_waited_for() -> None:
    assert plan(replace(snapshot(a.origin()), ids=a.ids(1))).reason is Reason.WAITING_FOR_ORIGIN


@row("M08")
def test_a_snapshot_smaller_than_its_origin_is_an_invalid_change() -> None:
    found = plan(snapshot(a.origin(), size=f"{SIZE - 8}s"))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("M09")
def test_one_operation_at_a_time() -> None:
    for this in (facts(knowing=None, ids={}), snapshot(a.origin())):
        found = plan(replace(this, other_intent="tank/other"))
        assert (found.reason, found.steps) == (Reason.WAITING_FOR_POOL, ())


@row("M10")
def test_without_the_pools_ids_none_is_handed_out() -> None:
    found = plan(facts(knowing=None))
    assert (found.needs_ids, found.steps) == (True, ())


ADOPT = {"adopt": {"deviceId": ID, "dmName": "vg-thin"}, "size": None}


def adopted(**changes: object) -> StoredDevice:
    return known(**{"uuid": "", "dm_name": "vg-thin", "created_at": None, "adopted": True, **changes})


@row("M11")
def test_a_live_thin_is_adopted_with_the_uuid_that_it_has_and_without_reading_ids() -> None:
    live = a.thin(name="vg-thin", uuid="LVM-x")
    assert steps(facts(knowing=None, live=live, spec=ADOPT)) == (SaveDevice(KEY, adopted(uuid="LVM-x")),)


@row("M11")
def test_a_thin_that_is_not_live_is_adopted_with_the_size_of_its_record() -> None:
    this = facts(knowing=None, spec={**ADOPT, "size": f"{SIZE}s"})
    assert plan(this).needs_ids
    assert steps(replace(this, ids=a.ids(ID))) == (SaveDevice(KEY, adopted(active=False)),)


@row("M11")
def test_a_live_device_that_shows_another_thin_is_not_adopted() -> None:
    found = plan(facts(knowing=None, live=a.thin(9, name="vg-thin", uuid="LVM-x"), spec=ADOPT))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())


@row("M12")
def test_a_thin_that_is_not_there_cannot_be_adopted() -> None:
    found = plan(facts(knowing=None, spec={**ADOPT, "size": f"{SIZE}s"}, ids=a.ids(1)))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())


@row("M12")
def test_a_thin_of_unknown_size_cannot_be_adopted() -> None:
    found = plan(facts(knowing=None, spec=ADOPT, ids=a.ids(ID)))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("M13")
@pytest.mark.parametrize(
    ("size", "on_origin", "expected"), [(SIZE, SIZE, SIZE), (TWICE, SIZE, SIZE), (SIZE, Sectors(8), Sectors(8))]
)
def test_the_filesystem_on_a_snapshot_is_as_large_as_its_origins(
    size: Sectors, on_origin: Sectors, expected: Sectors
) -> None:
    origin = a.origin(known_as=a.known_golden(filesystem="ext4", filesystem_size=on_origin))
    this = snapshot(origin, size=f"{size}s", filesystem={"type": "ext4"})
    finish = next(step for step in steps(this) if isinstance(step, CompleteIntent))
    assert finish.device is not None
    assert (finish.device.size, finish.device.filesystem_size) == (size, expected)


SUSPECTS = {3: ThinEntry(64, 2), 5: ThinEntry(0, 3)}


@row("M15")
@pytest.mark.parametrize("spec", [{}, {"filesystem": {"type": "ext4"}}, {**SNAPSHOT}])
@pytest.mark.parametrize("state", ["Active", "Inactive", "Committed"])
def test_nothing_is_made_while_its_data_may_be_in_a_thin_that_nobody_names(state: str, spec: dict[str, object]) -> None:
    found = plan(facts(state, knowing=None, spec=spec, ids=a.ids(3, 5), origin=a.origin(), suspects=SUSPECTS))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())
    message = found.condition.message
    assert "3 (4MiB, of transaction 2), 5 (0B, of transaction 3)" in message
    assert "`adopt: {deviceId: 3, dmName: tank-a}`" in message
    assert "`foreignThins: [3]`" in message


@row("M15")
def test_what_was_not_read_yet_may_be_its_data_too() -> None:
    found = plan(facts(knowing=None, ids=a.ids(3), suspects=None))
    assert (found.reason, found.steps) == (Reason.METADATA_MISMATCH, ())


@row("M15")
def test_an_adoption_is_held_up_by_nobody() -> None:
    assert a.kinds(facts(knowing=None, live=a.thin(), spec={"adopt": a.ADOPT}, suspects=SUSPECTS)) == ["SaveDevice"]
