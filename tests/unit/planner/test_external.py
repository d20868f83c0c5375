"""docs/reference/healing.md, "External pools"."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolMode, PoolStatus
from reconciler.model.live import LiveBacking, LiveDevice, LivePool
from reconciler.model.steps import SavePool
from reconciler.model.stored import StoredPool
from reconciler.model.units import Sectors
from reconciler.planner.facts import Access
from reconciler.planner.ownership import access_to
from reconciler.planner.plan import Sign
from tests.unit.planner import builders as a
from tests.unit.planner.builders import known_pool, plan, pool_device, pool_facts, pool_record, row, steps

RECORD = pool_record(external=True)
KNOWN = StoredPool("tank", "LVM-x", created=True, data="", metadata="", block=Sectors(0), discards="", external=True)


def world(device: LiveDevice | None, found: PoolStatus | None = None) -> LivePool:
    return LivePool(device, found, LiveBacking(), LiveBacking())


THERE = world(pool_device(uuid="LVM-x"), a.status(transaction=77))


@row("X01")
def test_an_external_pool_is_noted_and_left_alone_whatever_its_transaction() -> None:
    new = pool_facts(recorded=RECORD, knowing=None, live=THERE)
    assert (plan(new).reason, steps(new)) == (Reason.CONVERGED, (SavePool(RECORD.key, KNOWN),))
    noted = replace(new, known=KNOWN)
    assert (plan(noted).reason, steps(noted)) == (Reason.CONVERGED, ())
    assert access_to(noted).access is Access.FULL


@row("X02")
@pytest.mark.parametrize(
    ("live", "reason"),
    [
        (world(None), Reason.POOL_MISSING),
        (world(pool_device(uuid="LVM-x", live_table=False)), Reason.POOL_MISSING),
        (world(pool_device(uuid="LVM-x", suspended=True), a.status()), Reason.POOL_SUSPENDED),
        (world(pool_device(uuid="LVM-x"), a.status(PoolMode.RO)), Reason.POOL_UNHEALTHY),
        (world(pool_device(uuid="LVM-x")), Reason.POOL_UNHEALTHY),
    ],
)
def test_what_is_wrong_with_an_external_pool_is_left_to_its_owner(live: LivePool, reason: Reason) -> None:
    seen = {Sign.SUSPENDED: a.LONG_AGO, Sign.NO_TABLE: a.LONG_AGO}
    this = pool_facts(recorded=RECORD, knowing=KNOWN, live=live, seen=seen)
    assert (plan(this).reason, steps(this)) == (reason, ())
    assert access_to(this).access is not Access.FULL


@row("X03")
@pytest.mark.parametrize("state", ["Inactive", "Absent"])
def test_an_external_pool_is_never_taken_down(state: str) -> None:
    found = plan(pool_facts(recorded=pool_record(external=True, state=state), knowing=KNOWN, live=THERE))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("X04")
def test_a_pool_that_the_store_made_does_not_become_external() -> None:
    found = plan(pool_facts(recorded=RECORD, live=replace(THERE, device=pool_device())))
    assert (found.reason, found.steps) == (Reason.INVALID_CHANGE, ())


@row("X05")
def test_a_pool_that_is_no_longer_external_is_left_alone_until_it_is_taken_over() -> None:
    live = a.live_pool(pool_device(uuid="LVM-x"), of=a.status(transaction=77))
    plain = pool_facts(knowing=KNOWN, live=live)
    assert (plan(plain).reason, steps(plain)) == (Reason.CONFLICT, ())
    assert access_to(plain).access is not Access.FULL
    adopting = replace(plain, record=pool_record(adopt=True))
    expected = known_pool(uuid="LVM-x", transaction_id=77, made_files=())
    assert steps(adopting) == (SavePool(RECORD.key, expected),)
