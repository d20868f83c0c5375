"""Each step, done once and twice, read back at once and after the store was opened again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.names import Key
from reconciler.model.steps import (
    AbortIntent,
    BeginIntent,
    CompleteIntent,
    ForgetRecord,
    MarkCreated,
    MarkThinIdTaken,
    SaveDevice,
    SavePool,
    StoreStep,
)
from reconciler.model.stored import ForgottenThin, Intent, IntentKind, StoredDevice, StoredPool
from reconciler.model.units import Sectors
from reconciler.store.errors import StoreError
from reconciler.store.store import Store

TANK = Key("tank")
A = Key("tank", "a")
B = Key("tank", "b")
POOL = StoredPool("tank", "DMR-1", True, "/d", "/m", Sectors(128), "passdown", transaction_id=5, taken_over_at=5)
CREATE = Intent(A, IntentKind.CREATE, 0, 5, "DMR-2", "tank-a", Sectors(2048))
DEVICE = StoredDevice(A, "DMR-2", "tank-a", 0, Sectors(2048), created_at=5)
ADOPTED = StoredDevice(B, "", "vg-b", 7, Sectors(8), adopted=True)
DELETE = replace(CREATE, kind=IntentKind.DELETE, transaction_id=6)


@contextmanager
def opened_again(directory: Path) -> Iterator[Store]:
    with Store.open(directory, wall_clock=lambda: 0.0) as store:
        yield store


def seen(store: Store) -> object:
    return (
        store.known_pools(),
        dict(store.known_devices("tank")),
        store.intents("tank"),
        store.taken("tank"),
        store.free_thin_id("tank"),
    )


def carry_out(store: Store, *steps: StoreStep) -> None:
    for step in steps:
        store.apply(step)


HISTORIES: dict[str, list[StoreStep]] = {
    "a pool": [SavePool(TANK, POOL)],
    "an intent": [SavePool(TANK, POOL), BeginIntent(A, CREATE)],
    "made": [SavePool(TANK, POOL), BeginIntent(A, CREATE), MarkCreated(A)],
    "finished": [SavePool(TANK, POOL), BeginIntent(A, CREATE), MarkCreated(A), CompleteIntent(A, DEVICE)],
    "abandoned": [SavePool(TANK, POOL), BeginIntent(A, CREATE), AbortIntent(A, 6)],
    "its id taken": [SavePool(TANK, POOL), BeginIntent(A, CREATE), MarkThinIdTaken(A, 0)],
    "abandoned, taken": [SavePool(TANK, POOL), BeginIntent(A, CREATE), MarkThinIdTaken(A, 0), AbortIntent(A, 5)],
    "deleting": [SavePool(TANK, POOL), BeginIntent(A, CREATE), CompleteIntent(A, DEVICE), BeginIntent(A, DELETE)],
    "deleted": [
        SavePool(TANK, POOL),
        BeginIntent(A, CREATE),
        CompleteIntent(A, DEVICE),
        BeginIntent(A, DELETE),
        CompleteIntent(A, None),
    ],
    "not deleted": [
        SavePool(TANK, POOL),
        BeginIntent(A, CREATE),
        CompleteIntent(A, DEVICE),
        BeginIntent(A, DELETE),
        AbortIntent(A, 6),
    ],
    "adopted": [SavePool(TANK, POOL), SaveDevice(B, ADOPTED)],
    "adopted after taken": [SavePool(TANK, POOL), MarkThinIdTaken(TANK, 7), SaveDevice(B, ADOPTED)],
    "adopted, then another id": [
        SavePool(TANK, POOL),
        SaveDevice(B, ADOPTED),
        SaveDevice(B, replace(ADOPTED, thin_id=8)),
    ],
    "device forgotten": [SavePool(TANK, POOL), SaveDevice(B, ADOPTED), ForgetRecord(B)],
    "pool forgotten": [SavePool(TANK, POOL), SaveDevice(B, ADOPTED), BeginIntent(A, CREATE), ForgetRecord(TANK)],
    "a leaked thin deleted": [
        SavePool(TANK, POOL),
        MarkThinIdTaken(TANK, 0),
        BeginIntent(A, DELETE),
        CompleteIntent(A, None),
    ],
    "a leaked thin stays": [SavePool(TANK, POOL), MarkThinIdTaken(TANK, 0), BeginIntent(A, DELETE), AbortIntent(A, 6)],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_each_step_can_be_done_twice_and_outlives_the_process(
    store: Store, directory: Path, history: list[StoreStep]
) -> None:
    for step in history:
        store.apply(step)
        once = seen(store)
        store.apply(step)
        assert seen(store) == once
    store.close()
    with opened_again(directory) as again:
        assert seen(again) == once


def test_a_finished_create_is_a_device_and_one_transaction_more(store: Store) -> None:
    carry_out(store, *HISTORIES["finished"])
    assert store.known_devices("tank") == {"a": DEVICE}
    assert store.intents("tank") == ()
    assert store.known_pool("tank") == replace(POOL, transaction_id=6)


def test_a_finished_delete_leaves_nothing_and_frees_the_id(store: Store) -> None:
    carry_out(store, *HISTORIES["deleted"])
    assert store.known_devices("tank") == {}
    assert store.taken("tank") == frozenset()
    assert store.known_pool("tank") == replace(POOL, transaction_id=7)
    store.apply(BeginIntent(A, replace(CREATE, transaction_id=7)))
    assert [intent.thin_id for intent in store.intents("tank")] == [0]


def test_a_delete_that_did_not_happen_leaves_the_device(store: Store) -> None:
    carry_out(store, *HISTORIES["not deleted"])
    assert store.known_devices("tank") == {"a": DEVICE}
    assert store.taken("tank") == frozenset()


def test_a_made_intent_stays_made_when_it_is_begun_again(store: Store) -> None:
    carry_out(store, SavePool(TANK, POOL), BeginIntent(A, CREATE), MarkCreated(A), BeginIntent(A, CREATE))
    assert store.intents("tank") == (replace(CREATE, made=True),)


def test_abandoning_frees_the_id_and_records_the_transaction(store: Store) -> None:
    carry_out(store, *HISTORIES["abandoned"])
    assert store.intents("tank") == ()
    assert store.known_pool("tank") == replace(POOL, transaction_id=6)
    assert store.taken("tank") == frozenset()


def test_an_id_that_is_somebody_elses_stays_taken_after_the_intent(store: Store) -> None:
    carry_out(store, *HISTORIES["abandoned, taken"])
    assert store.taken("tank") == {0}
    assert store.free_thin_id("tank") == 1


def test_a_leaked_thin_whose_delete_failed_stays_taken(store: Store) -> None:
    carry_out(store, *HISTORIES["a leaked thin stays"])
    assert store.taken("tank") == {0}


def test_the_thin_of_a_forgotten_device_may_still_be_there(store: Store) -> None:
    carry_out(store, *HISTORIES["device forgotten"])
    assert store.known_devices("tank") == {}
    assert store.taken("tank") == {7}


def test_the_thin_that_an_adoption_was_pointed_away_from_stays_taken(store: Store) -> None:
    carry_out(store, SavePool(TANK, POOL), SaveDevice(B, ADOPTED), SaveDevice(B, replace(ADOPTED, thin_id=8)))
    assert store.taken("tank") == {7}
    assert store.known_devices("tank")["b"].thin_id == 8


def test_a_pool_is_forgotten_with_all_that_was_in_it(store: Store) -> None:
    carry_out(store, *HISTORIES["pool forgotten"])
    assert store.known_pools() == {}
    assert store.known_devices("tank") == {}
    assert store.intents("tank") == ()


def test_a_pool_of_somebody_elses_keeps_its_transaction_id(store: Store) -> None:
    external = replace(POOL, external=True)
    carry_out(store, SavePool(TANK, POOL), BeginIntent(A, CREATE), SavePool(TANK, external), AbortIntent(A, 9))
    assert store.known_pool("tank") == external
    with pytest.raises(StoreError, match="somebody else's"):
        store.apply(BeginIntent(A, CREATE))


IMPOSSIBLE: dict[str, list[StoreStep]] = {
    "an intent in an unknown pool": [BeginIntent(A, CREATE)],
    "a device in an unknown pool": [SaveDevice(B, ADOPTED)],
    "two intents at a time": [
        SavePool(TANK, POOL),
        BeginIntent(A, CREATE),
        BeginIntent(B, replace(CREATE, key=B, thin_id=1)),
    ],
    "an id twice": [*HISTORIES["finished"], BeginIntent(B, replace(CREATE, key=B))],
    "a taken id": [SavePool(TANK, POOL), MarkThinIdTaken(TANK, 0), BeginIntent(A, CREATE)],
    "a device twice": [*HISTORIES["finished"], BeginIntent(A, replace(CREATE, thin_id=1))],
    "an id too large": [SavePool(TANK, POOL), BeginIntent(A, replace(CREATE, thin_id=2**24))],
    "an adopted id too large": [SavePool(TANK, POOL), SaveDevice(B, replace(ADOPTED, thin_id=2**24))],
    "a taken id too large": [SavePool(TANK, POOL), MarkThinIdTaken(TANK, -1)],
    "a device's id taken": [*HISTORIES["finished"], MarkThinIdTaken(TANK, 0)],
    "another's id deleted": [*HISTORIES["finished"], BeginIntent(B, replace(DELETE, key=B))],
    "an end without a beginning": [SavePool(TANK, POOL), CompleteIntent(A, DEVICE)],
    "made without a beginning": [SavePool(TANK, POOL), MarkCreated(A)],
    "an end of another's": [SavePool(TANK, POOL), BeginIntent(A, CREATE), CompleteIntent(B, None)],
    "an undo of another's": [SavePool(TANK, POOL), BeginIntent(A, CREATE), AbortIntent(B, 5)],
    "an end with another id": [
        SavePool(TANK, POOL),
        BeginIntent(A, CREATE),
        CompleteIntent(A, replace(DEVICE, thin_id=3)),
    ],
    "an end with a taken id": [*HISTORIES["its id taken"], CompleteIntent(A, DEVICE)],
    "a delete that ends with a device": [*HISTORIES["deleting"], CompleteIntent(A, DEVICE)],
    "a device with an intent's id": [SavePool(TANK, POOL), BeginIntent(A, CREATE), SaveDevice(A, DEVICE)],
    "a device with another's id": [*HISTORIES["finished"], SaveDevice(B, replace(ADOPTED, thin_id=0))],
    "a made device with a taken id": [SavePool(TANK, POOL), MarkThinIdTaken(TANK, 0), SaveDevice(A, DEVICE)],
    "another pool's knowledge": [SavePool(Key("other"), POOL)],
    "an unfinished device forgotten": [SavePool(TANK, POOL), BeginIntent(A, CREATE), ForgetRecord(A)],
    "no step at all": [SavePool(TANK, POOL), StoreStep(A)],
}


@pytest.mark.parametrize("history", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_contradicts_is_refused_and_changes_nothing(store: Store, history: list[StoreStep]) -> None:
    carry_out(store, *history[:-1])
    before = seen(store)
    with pytest.raises(StoreError) as refused:
        store.apply(history[-1])
    assert "\n" not in str(refused.value)
    assert seen(store) == before


def test_forgetting_what_is_not_known_is_done(store: Store) -> None:
    carry_out(store, ForgetRecord(TANK), SavePool(TANK, POOL), ForgetRecord(A))
    assert store.known_pools() == {"tank": POOL}


def test_since_when_a_device_has_no_record(store: Store, directory: Path) -> None:
    carry_out(store, *HISTORIES["finished"])
    store.set_gone(A, 12.5)
    store.set_gone(A, 12.5)
    store.set_gone(B, 12.5)
    store.close()
    with opened_again(directory) as again:
        assert again.known_devices("tank")["a"].gone_since == 12.5
        again.set_gone(A, None)
        assert again.known_devices("tank") == {"a": DEVICE}


def test_what_was_asked_for_does_not_change_later(store: Store) -> None:
    carry_out(store, *HISTORIES["finished"])
    devices = store.known_devices("tank")
    store.apply(SaveDevice(B, ADOPTED))
    assert set(devices) == {"a"}


FORMER = {0: ForgottenThin(0, "a", 5)}
LEAKED = Key("tank", ".leaked-0")
DELETE_LEAKED = replace(DELETE, key=LEAKED)


def test_of_a_forgotten_device_the_transaction_is_kept(store: Store, directory: Path) -> None:
    carry_out(store, *HISTORIES["finished"])
    assert store.former("tank") == {}
    store.apply(ForgetRecord(A))
    assert store.former("tank") == FORMER
    assert store.taken("tank") == {0}
    store.close()
    with opened_again(directory) as again:
        assert again.former("tank") == FORMER


def test_of_an_adopted_or_a_strangers_thin_no_transaction_is_known(store: Store) -> None:
    carry_out(store, SavePool(TANK, POOL), SaveDevice(B, ADOPTED), ForgetRecord(B), MarkThinIdTaken(TANK, 8))
    assert store.taken("tank") == {7, 8}
    assert store.former("tank") == {}


def test_a_former_thin_stays_one_until_its_delete_was_seen(store: Store, directory: Path) -> None:
    carry_out(store, *HISTORIES["finished"], ForgetRecord(A), BeginIntent(LEAKED, DELETE_LEAKED))
    assert store.former("tank") == {}
    store.close()
    with opened_again(directory) as again:
        again.apply(AbortIntent(LEAKED, 6))
        assert again.former("tank") == {0: ForgottenThin(0, ".leaked-0", 5)}
        carry_out(again, BeginIntent(LEAKED, DELETE_LEAKED), CompleteIntent(LEAKED, None))
        assert again.former("tank") == {}
        assert again.taken("tank") == frozenset()
