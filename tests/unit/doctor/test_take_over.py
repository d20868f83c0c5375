"""A pool that the store has lost: what a damaged store says counts only where the pool itself agrees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.doctor.checks import PoolView, Repair
from reconciler.doctor.take_over import Withheld, take_over
from reconciler.model.live import LivePool, ThinEntry, ThinIds
from reconciler.model.steps import SaveDevice, SavePool
from reconciler.model.stored import SalvagedPool, StoredDevice, StoredPool
from tests.unit.planner import builders as a

FILE = "state.db.damaged-20260102T030405Z"


def said(device: StoredDevice | None = None, pool: StoredPool | None = None) -> SalvagedPool:
    return SalvagedPool(
        FILE, pool or a.known_pool(), {"a": device or a.known(committed=True, active=True, gone_since=5.0)}
    )


def view(live: LivePool | None = None, ids: ThinIds | None = None, **rest: Any) -> PoolView:
    """A store that is new to a pool with tank/a in it, which is not live."""
    found = a.ids(a.ID) if ids is None else ids
    facts = replace(a.pool_facts(knowing=None, live=live or a.live_pool()), ids=found)
    usual: dict[str, Any] = {"records": (a.record("Committed"),), "block": 65536, "remembered": said()}
    return PoolView(facts=facts, ids=found, **{**usual, **rest})


@pytest.mark.parametrize("live", [a.live_pool(), a.down()], ids=["live", "at rest"])
def test_where_both_agree_in_everything_the_device_is_known_again(live: LivePool) -> None:
    repair = take_over(view(live))
    assert isinstance(repair, Repair)
    pool, device = repair.steps
    assert isinstance(pool, SavePool)
    assert pool.pool == a.known_pool(made_files=())
    assert device == SaveDevice(a.KEY, a.known(committed=True, active=False))
    assert "as the damaged store says and the pool confirms" in repair.effect[1]


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(view(remembered=None), id="nothing is remembered"),
        pytest.param(view(a.live_pool(of=a.status(transaction=9))), id="the pool went on without it"),
        pytest.param(view(a.live_pool(a.pool_device(uuid=f"DMR-{'6' * 32}-{'c' * 32}"))), id="it is another pool"),
        pytest.param(view(a.down(metadata=a.at_rest(9))), id="so did one at rest"),
        pytest.param(view(ids=a.ids(_7=ThinEntry(16, 2))), id="the id is another thin by now"),
        pytest.param(view(ids=a.ids(9)), id="the id is not in the pool"),
        pytest.param(view(devices={"twin": a.thin(uuid="", name="twin")}), id="another device shows the thin"),
        pytest.param(view(devices={a.NAME: a.shell()}), id="its name is taken"),
        pytest.param(view(remembered=said(a.known(dm_name="tank-b"))), id="it had another name"),
        pytest.param(view(remembered=said(a.known(adopted=True, created_at=None))), id="it was adopted"),
        pytest.param(view(remembered=said(pool=a.known_pool(created=False))), id="the pool was being made"),
        pytest.param(view(remembered=said(pool=a.known_pool(external=True))), id="the pool was somebody else's"),
        pytest.param(view(remembered=replace(said(), pool=None)), id="only the device can still be read"),
    ],
)  # fmt: skip
def test_where_they_do_not_a_person_must_say(seen: PoolView) -> None:
    found = take_over(seen)
    assert isinstance(found, Withheld)
    assert "tank/a would then be made anew" in found.message


def test_what_is_not_proven_is_shown_as_that() -> None:
    found = take_over(view(a.live_pool(of=a.status(transaction=9))))
    assert isinstance(found, Withheld)
    assert f"{FILE} says that tank/a was thin id 7, made at transaction 3, which nothing proves" in found.message


def test_two_records_are_never_given_one_thin() -> None:
    both = SalvagedPool(
        FILE, a.known_pool(), {"a": a.known(), "b": a.known(key=a.KEY._replace(device="b"), dm_name="tank-b")}
    )
    second = a.record().model_copy(update={"metadata": a.record().metadata.model_copy(update={"name": "b"})})
    found = take_over(view(records=(a.record(), second), remembered=both))
    assert isinstance(found, Withheld)


def test_a_live_device_wins_over_what_is_remembered() -> None:
    live = a.thin(9, uuid=a.UUID)
    repair = take_over(view(ids=a.ids(a.ID, 9), devices={a.NAME: live}, records=(a.record(),)))
    assert isinstance(repair, Repair)
    (device,) = [step.device for step in repair.steps if isinstance(step, SaveDevice)]
    assert device.thin_id == 9
    assert "counted as leaked: thin ids 7" in repair.effect[-1]


def test_what_is_remembered_of_a_live_device_is_kept() -> None:
    remembered = said(a.known(filesystem="ext4", origin="golden", created_at=3))
    repair = take_over(view(devices={a.NAME: a.thin()}, records=(a.record(),), remembered=remembered))
    assert isinstance(repair, Repair)
    (device,) = [step.device for step in repair.steps if isinstance(step, SaveDevice)]
    assert (device.filesystem, device.origin, device.active) == ("ext4", "golden", True)


def test_a_snapshot_is_known_again_as_one() -> None:
    record = a.record(snapshotOf="golden")
    repair = take_over(view(devices={a.NAME: a.thin()}, records=(record,), remembered=None))
    assert isinstance(repair, Repair)
    (device,) = [step.device for step in repair.steps if isinstance(step, SaveDevice)]
    assert device.origin == "golden"


@pytest.mark.parametrize(
    "live",
    [
        pytest.param(a.down(metadata=a.at_rest(used_by=("device x",))), id="somebody uses it"),
        pytest.param(a.down(metadata=a.metadata()), id="it holds no pool"),
        pytest.param(a.down(data=a.missing()), id="its data is missing"),
    ],
)
def test_a_pool_at_rest_that_is_not_whole_is_left(live: LivePool) -> None:
    assert not isinstance(take_over(view(live)), Repair)
