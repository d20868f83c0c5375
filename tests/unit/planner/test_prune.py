"""A vanished record is not a request to delete data."""

from __future__ import annotations

import pytest

from reconciler.model.records import ThinPool
from reconciler.planner.facts import PruneVerdict
from reconciler.planner.orphans import PoolOrphans, PruneRules, prune_verdict

NOW = 10_000.0
LONG_AGO = NOW - 3600


def a_pool(prune: str) -> ThinPool:
    places = {"data": {"file": "/srv/d", "size": "1GiB"}, "metadata": {"file": "/srv/m", "size": "4MiB"}}
    return ThinPool.model_validate(
        {
            "apiVersion": "dm-reconciler/v1",
            "kind": "ThinPool",
            "metadata": {"name": "tank"},
            "spec": {**places, "prune": prune},
        }
    )


def verdict(  # a table of cases reads best in columns
    prune: str = "Delete",
    gone: float | None = LONG_AGO,
    others: tuple[float, ...] = (),
    recorded: int = 5,
    settled: float = 3600,
    rules: PruneRules | None = None,
) -> PruneVerdict:
    all_gone = [*others, *([gone] if gone is not None else [])]
    orphans = PoolOrphans(a_pool(prune), all_gone, recorded, settled)
    return prune_verdict(gone, orphans, now=NOW, rules=rules or PruneRules())


def test_retain_leaves_it_for_ever() -> None:
    assert verdict("Retain") is PruneVerdict.RETAIN


def test_without_its_pools_record_it_is_left() -> None:
    found = prune_verdict(LONG_AGO, PoolOrphans(None, [], 5, 3600), now=NOW, rules=PruneRules())
    assert found is PruneVerdict.RETAIN


@pytest.mark.parametrize(("prune", "expected"), [("Deactivate", "deactivate"), ("Delete", "delete")])
def test_it_is_pruned_as_the_pool_says_once_everything_has_settled(prune: str, expected: str) -> None:
    assert verdict(prune) == expected


def test_it_waits_while_the_record_has_not_been_gone_for_long() -> None:
    assert verdict(gone=NOW - 59) is PruneVerdict.WAIT
    assert verdict(gone=NOW - 60) is PruneVerdict.DELETE


def test_it_waits_while_the_directory_changes() -> None:
    assert verdict(settled=59) is PruneVerdict.WAIT


def test_one_of_two_records_may_go() -> None:
    assert verdict(recorded=1) is PruneVerdict.DELETE


def test_more_than_half_at_once_holds_everything_back() -> None:
    assert verdict(recorded=1, others=(LONG_AGO,)) is PruneVerdict.HELD_BACK


def test_half_at_once_does_not() -> None:
    assert verdict(recorded=2, others=(LONG_AGO,)) is PruneVerdict.DELETE


@pytest.mark.parametrize(("apart", "expected"), [(600, PruneVerdict.HELD_BACK), (601, PruneVerdict.DELETE)])
def test_what_vanished_within_ten_minutes_has_vanished_together(apart: float, expected: PruneVerdict) -> None:
    assert verdict(recorded=1, others=(LONG_AGO - apart,)) is expected


def test_many_that_went_one_after_the_other_are_no_accident() -> None:
    assert verdict(recorded=1, others=(LONG_AGO - 601, LONG_AGO - 1202)) is PruneVerdict.DELETE


def test_all_records_gone_holds_back_even_a_single_one() -> None:
    assert verdict(recorded=0) is PruneVerdict.HELD_BACK


def test_the_operator_can_mean_it() -> None:
    assert verdict(recorded=0, rules=PruneRules(allow_mass=True)) is PruneVerdict.DELETE
