"""What other programs do to devices that stay ours: rename them, change their thin, add an external origin."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import Devno, ThinTable
from reconciler.model.live import LiveDevice
from reconciler.model.steps import Activate, Load, Remove, SaveDevice
from reconciler.model.units import Sectors
from tests.unit.planner import builders as a
from tests.unit.planner.builders import ID, KEY, NAME, POOL_DEVNO, SIZE, UUID, facts, known, plan, row, steps

ORIGIN = Devno(7, 2)
ADOPTED = known(adopted=True, uuid="LVM-x", created_at=None)
MOVED = {"adopt": {"deviceId": 9, "dmName": NAME}, "size": None}


def on_origin(size: int = SIZE, thin_id: int = ID, **changes: object) -> LiveDevice:
    table = ThinTable(Sectors(size), POOL_DEVNO, thin_id, ORIGIN).target()
    return a.thin(table=(table,), **changes)  # type: ignore[arg-type]


@row("D04")
@pytest.mark.parametrize("state", ["Active", "Inactive", "Absent"])
def test_a_renamed_device_is_ours_and_the_command_is_told(state: str) -> None:
    found = plan(facts(state, live=None, elsewhere=("tank-x",), renamed="tank-x"))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())
    assert f"`dmsetup rename tank-x {NAME}` puts it right" in found.condition.message
    beside = plan(facts(state, live=a.thin(uuid="LVM-x"), elsewhere=("tank-x",), renamed="tank-x"))
    assert (beside.reason, beside.steps) == (Reason.CONFLICT, ())
    assert f"`dmsetup rename {NAME} {NAME}.other`, then `dmsetup rename tank-x {NAME}`" in beside.condition.message


@row("D45")
@pytest.mark.parametrize("opened", [0, 1])
@pytest.mark.parametrize("state", ["Active", "Inactive"])
def test_an_adopted_device_that_its_owner_moved_is_left_so(state: str, opened: int) -> None:
    found = plan(facts(state, knowing=ADOPTED, live=a.thin(9, uuid="LVM-x", opened=opened), ids=a.ids(9)))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())
    assert f"shows thin id 9 now, and not {ID}" in found.condition.message
    assert "adopt: {deviceId: 9" in found.condition.message


@row("D45")
def test_a_record_that_names_the_new_thin_is_followed() -> None:
    this = facts(knowing=ADOPTED, live=a.thin(9, uuid="LVM-x"), spec=MOVED)
    assert steps(this) == (SaveDevice(KEY, replace(ADOPTED, thin_id=9)),)
    assert steps(replace(this, adopted_by="tank/b")) == ()


@row("D45")
def test_an_adopted_thin_that_is_gone_is_not_called_lost() -> None:
    found = plan(facts(knowing=ADOPTED, live=None, ids=a.ids(9)))
    assert found.reason is Reason.METADATA_MISMATCH
    assert "lost" not in found.condition.message


@row("D46")
def test_a_thin_on_an_external_origin_is_ours_and_that_is_noted() -> None:
    assert steps(facts(live=on_origin())) == (SaveDevice(KEY, known(external="7:2")),)
    assert plan(facts(live=on_origin(), knowing=known(external="7:2"))).reason is Reason.CONVERGED


@row("D46")
def test_what_is_loaded_while_it_is_live_keeps_its_origin() -> None:
    loads = [step for step in steps(facts(live=on_origin(), spec={"size": f"{2 * SIZE}s"})) if isinstance(step, Load)]
    assert [load.table.params for load in loads] == [f"{POOL_DEVNO} {ID} {ORIGIN}"]


@row("D46")
@pytest.mark.parametrize("live", [None, a.thin(), a.thin(table=a.error_table()), a.thin(9), a.shell()])
def test_it_is_never_loaded_without_its_origin(live: LiveDevice | None) -> None:
    found = plan(facts(live=live, knowing=known(external="7:2")))
    assert (found.reason, found.steps) == (Reason.CONFLICT, ())
    assert (
        f"dmsetup create {NAME} --uuid {UUID} --table '0 {SIZE} thin {POOL_DEVNO} {ID} ORIGIN'"
        in found.condition.message
    )


@row("D46")
def test_its_origin_is_noted_before_it_is_taken_down() -> None:
    assert steps(facts("Inactive", live=on_origin())) == (SaveDevice(KEY, known(external="7:2")), Remove(NAME, UUID))


@row("D46")
def test_a_snapshot_of_it_has_its_origin_too() -> None:
    golden = a.golden(table=(ThinTable(Sectors(SIZE), POOL_DEVNO, 3, ORIGIN).target(),))
    spec = {"snapshotOf": "golden", "size": None}
    made = steps(facts(knowing=None, origin=a.origin(golden), spec=spec, ids=a.ids(3)))
    assert [step.table.params.split()[2:] for step in made if isinstance(step, Activate)] == [[str(ORIGIN)]]
    of_one_at_rest = a.origin(None, a.known_golden(external="7:2"))
    rests = steps(facts(knowing=None, origin=of_one_at_rest, spec=spec, ids=a.ids(3)))
    assert not [step for step in rests if isinstance(step, Activate)]
