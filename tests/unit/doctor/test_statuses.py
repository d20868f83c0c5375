"""Which of the statuses in the store `doctor` believes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.controller.desired import Desired
from reconciler.doctor.checks import Check, Severity
from reconciler.doctor.state import check_statuses
from reconciler.model.conditions import Reason, Status
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.recordset import RecordSet
from reconciler.model.steps import SaveDevice, SavePool
from reconciler.store.store import Store
from reconciler.store.tables import LastGoodRecord
from tests.unit.planner import builders as a

TANK, GONE = Key("tank"), Key("tank", "gone")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state", wall_clock=lambda: 0.0) as store:
        yield store


def know(store: Store) -> None:
    store.apply(SavePool(TANK, a.known_pool()))
    store.apply(SaveDevice(a.KEY, a.known()))


def tell(store: Store, key: Key, reason: Reason) -> None:
    store.put_statuses([Status(key, LiveState.UNKNOWN, reason, "", 0.0, good=reason is Reason.CONVERGED)])


def check(store: Store, desired: Desired | None = None, *, daemon_runs: bool = True) -> Check:
    return check_statuses(desired or Desired(), store, daemon_runs=daemon_runs, state="")


def test_records_in_force_and_what_was_made_for_former_ones_count(store: Store) -> None:
    store.save_records([LastGoodRecord(TANK, "ThinPool", "{}", "", 0)], "digest")
    know(store)
    for key in (TANK, a.KEY, GONE):
        tell(store, key, Reason.KERNEL_ERROR)
    found = check(store)
    assert found.mark is Severity.WRONG
    assert found.message == f"2 are not as desired: {TANK} (KernelError), {a.KEY} (KernelError)"


def test_a_record_without_a_status_was_not_looked_at_yet(store: Store) -> None:
    found = check(store, Desired.of(RecordSet.of([a.pool_record(), a.record()])))
    assert (found.mark, found.message) == (Severity.LEFT, "0 are as desired; 2 are not looked at yet")


def test_without_a_daemon_what_was_told_counts_for_nothing(store: Store) -> None:
    know(store)
    tell(store, a.KEY, Reason.KERNEL_ERROR)
    found = check(store, daemon_runs=False)
    assert (found.mark, found.todo) == (Severity.LEFT, "")
    assert "no daemon" in found.message


def test_a_store_that_names_nothing(store: Store) -> None:
    assert check(store).message == "there are none yet"
