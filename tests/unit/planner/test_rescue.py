"""What a second worker may resume while the first one hangs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.live import Below
from reconciler.model.steps import Clear, HostStep, Resume
from reconciler.model.stored import IntentKind
from reconciler.model.units import Bytes
from reconciler.planner.facts import Access, DeviceFacts, PoolFacts, PruneVerdict
from reconciler.planner.plan import Sign
from reconciler.planner.rescue import rescue_of_device, rescue_of_pool
from tests.unit.planner.builders import (
    FOREIGN_UUID,
    GRACE,
    LONG_AGO,
    NAME,
    PRIVATE,
    UUID,
    error_table,
    facts,
    golden,
    grace_of,
    intent,
    kinds,
    known,
    known_pool,
    live_pool,
    origin,
    other_table,
    pool_device,
    pool_facts,
    pool_record,
    private,
    row,
    thin,
)

BEYOND = {Sign.SUSPENDED: LONG_AGO}
WITHIN = {Sign.SUSPENDED: GRACE - 0.1}
CLEAR_AND_RESUME = (Clear("tank"), Resume("tank"))


def suspended_pool(**rest: Any) -> PoolFacts:
    about = {"live": live_pool(pool_device(suspended=True)), "seen": BEYOND}
    return pool_facts(**{**about, **rest})


def suspended_device(desired: str | None = "Active", **rest: Any) -> DeviceFacts:
    return facts(desired, **{"live": thin(suspended=True), "seen": BEYOND, **rest})


def of_device(
    this: DeviceFacts, private_seen: dict[Sign, float] | None = None, origins: Collection[str] = ()
) -> tuple[HostStep, ...]:
    return rescue_of_device(this, grace_of(private_seen or {}), origins)


# The pool


@row("W01")
def test_a_pool_that_somebody_left_suspended_is_resumed() -> None:
    assert rescue_of_pool(suspended_pool()) == (Resume("tank"),)


@row("W01")
def test_a_table_that_waits_is_cleared_first() -> None:
    live = live_pool(pool_device(suspended=True, waiting=error_table()))
    assert rescue_of_pool(suspended_pool(live=live)) == CLEAR_AND_RESUME


@row("W05")
@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"seen": WITHIN}, id="within the grace"),
        pytest.param({"seen": {}}, id="never seen before"),
        pytest.param({"recorded": pool_record(paused=True)}, id="paused"),
        pytest.param({"recorded": None}, id="no record"),
        pytest.param({"recorded": pool_record(external=True), "knowing": None}, id="external"),
        pytest.param({"live": live_pool(pool_device(suspended=True, uuid=FOREIGN_UUID))}, id="foreign"),
        pytest.param(
            {"live": live_pool(pool_device(suspended=True), suspended_below=(Below("disk", ""),))}, id="also below it"
        ),
        pytest.param({"live": live_pool(pool_device(suspended=True, live_table=False))}, id="a shell"),
        pytest.param({"live": live_pool()}, id="not suspended"),
    ],
)
def test_a_pool_is_left_as_it_is(changed: dict[str, Any]) -> None:
    assert rescue_of_pool(suspended_pool(**changed)) == ()


@row("W05")
def test_a_table_is_never_loaded() -> None:
    """With a table that is too short, the resume would fail; and the worker may be loading a table itself."""
    too_short = suspended_pool(knowing=known_pool(data_size=Bytes(2 * 1024**3)))
    assert kinds(too_short) == ["LoadPool"]
    assert rescue_of_pool(too_short) == ()


@row("W05")
def test_a_table_that_waits_in_a_pool_that_runs_is_not_cleared() -> None:
    waiting = pool_facts(live=live_pool(pool_device(waiting=error_table())), seen={Sign.INACTIVE_TABLE: LONG_AGO})
    assert kinds(waiting) == ["Clear"]
    assert rescue_of_pool(waiting) == ()


# Its devices


@row("W02")
@pytest.mark.parametrize("desired", ["Active", "Inactive", "Committed", "Absent"])
def test_a_device_that_somebody_left_suspended_is_resumed_and_no_more(desired: str) -> None:
    assert of_device(suspended_device(desired)) == (Resume(NAME),)


@row("W02")
def test_an_orphan_is_resumed_too() -> None:
    assert of_device(suspended_device(None, prune=PruneVerdict.RETAIN)) == (Resume(NAME),)
    assert of_device(suspended_device(None, prune=PruneVerdict.DELETE)) == (Resume(NAME),)


@row("W02")
def test_an_adopted_device_of_an_external_pool_is_resumed() -> None:
    pool = pool_facts(recorded=pool_record(external=True), knowing=known_pool(external=True))
    device = suspended_device(pool=pool, spec={"adopt": {"deviceId": 7, "dmName": NAME}}, knowing=known(adopted=True))
    assert of_device(device) == (Resume(NAME),)


@row("W02")
def test_an_unwanted_table_is_cleared_before_the_device_is_resumed() -> None:
    live = thin(suspended=True, waiting=other_table())
    assert of_device(suspended_device(live=live)) == (Clear(NAME), Resume(NAME))


@row("W05")
@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"seen": WITHIN}, id="within the grace"),
        pytest.param({"seen": WITHIN, "knowing": known(frozen=True)}, id="within the grace, by the reconciler"),
        pytest.param({"spec": {"paused": True}}, id="paused"),
        pytest.param({"pool": pool_facts(recorded=pool_record(paused=True))}, id="its pool is paused"),
        pytest.param({"pool_record": None}, id="its pool has no record"),
        pytest.param({"live": thin(suspended=True, uuid=FOREIGN_UUID)}, id="foreign"),
        pytest.param({"elsewhere": ("other",)}, id="its thin is live twice"),
        pytest.param({"pool": suspended_pool()}, id="its pool is suspended"),
        pytest.param({"pool": suspended_pool(seen=WITHIN)}, id="its pool is suspended, within the grace"),
        pytest.param({"pool": pool_facts(live=live_pool(suspended_below=(Below("disk", ""),)))}, id="also below it"),
        pytest.param({"live": thin()}, id="not suspended"),
    ],
)
def test_a_device_is_left_as_it_is(changed: dict[str, Any]) -> None:
    assert of_device(suspended_device(**changed)) == ()


@row("W05")
def test_an_orphan_of_a_paused_pool_is_left_as_it_is() -> None:
    assert of_device(suspended_device(None, pool=pool_facts(recorded=pool_record(paused=True)))) == ()


@row("W05")
def test_nothing_else_is_begun() -> None:
    for live in (thin(suspended=False), thin(waiting=other_table())):
        wrong = facts("Inactive", live=live, seen={Sign.INACTIVE_TABLE: LONG_AGO, **BEYOND})
        assert kinds(wrong)
        assert of_device(wrong) == ()


@row("W04")
def test_an_origin_is_left_to_the_snapshot_that_is_under_way() -> None:
    assert of_device(suspended_device(), origins={"a"}) == ()
    assert of_device(suspended_device(), origins={"b"}) == (Resume(NAME),)


@row("W04")
def test_what_an_intent_says_to_be_suspended_is_not_resumed_with_it() -> None:
    """The origin's own row would resume it, if the step were not in progress."""
    begun = intent(IntentKind.SNAPSHOT, origin="golden", suspended=True)
    under_way = facts(
        "Active", knowing=None, intent=begun, origin=origin(golden(suspended=True)), ids={}, seen=BEYOND, live=None
    )
    assert "Resume" in kinds(under_way)
    assert of_device(under_way) == ()


@row("W04")
def test_a_device_with_an_operation_under_way_is_left_to_it() -> None:
    deleting = suspended_device("Absent", intent=intent(IntentKind.DELETE, thin_id=7))
    assert kinds(deleting)[0] == "Resume"
    assert of_device(deleting) == ()


# Private devices


@row("W03")
def test_a_private_device_is_resumed_and_not_removed() -> None:
    making = facts(knowing=None, intent=intent(), private=private(suspended=True, opened=1))
    assert of_device(making, BEYOND) == (Resume(PRIVATE),)
    waiting = replace(making, private=private(suspended=True, waiting=other_table()))
    assert of_device(waiting, BEYOND) == (Clear(PRIVATE), Resume(PRIVATE))


@row("W03")
@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        pytest.param({}, WITHIN, id="within the grace"),
        pytest.param({"private": private()}, BEYOND, id="not suspended"),
        pytest.param({"private": private(suspended=True, uuid=f"{FOREIGN_UUID}-private")}, BEYOND, id="foreign"),
        pytest.param({"private": private(suspended=True, uuid=UUID)}, BEYOND, id="no private one"),
        pytest.param({"spec": {"paused": True}}, BEYOND, id="paused"),
        pytest.param({"pool": suspended_pool()}, BEYOND, id="its pool is suspended"),
    ],
)
def test_a_private_device_is_left_as_it_is(changed: dict[str, Any], seen: dict[Sign, float]) -> None:
    making = facts(**{"knowing": None, "intent": intent(), "private": private(suspended=True), **changed})
    assert of_device(making, seen) == ()


@row("W02")
def test_what_may_be_maintained_may_be_let_go() -> None:
    unknown = pool_facts(live=live_pool(pool_device()), knowing=known_pool(transaction_id=9))
    device = suspended_device(pool=unknown)
    assert device.access.access is Access.MAINTAIN
    assert of_device(device) == (Resume(NAME),)
