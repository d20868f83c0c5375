"""Every way in which a store may know less than a pool holds is noted, so that nothing empty replaces data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reconciler.model.live import ThinEntry
from reconciler.model.names import Key
from reconciler.model.steps import BeginIntent, CompleteIntent, ForgetRecord, SaveDevice, SavePool
from reconciler.model.stored import Intent, IntentKind, StoredDevice, StoredPool
from reconciler.model.units import Sectors
from reconciler.planner.making import suspects_of
from reconciler.store.store import Store

TANK, A = Key("tank"), Key("tank", "a")
POOL = StoredPool("tank", "DMR-1", True, "/d", "/m", Sectors(128), "passdown")
BEGUN = replace(POOL, created=False)
CREATE = Intent(A, IntentKind.CREATE, 0, 0, "DMR-2", "tank-a", Sectors(2048))
DEVICE = StoredDevice(A, "DMR-2", "tank-a", 0, Sectors(2048), created_at=0)
IN_THE_POOL = {0: ThinEntry(9, 0)}
"""The data of tank/a."""


def made(store: Store) -> None:
    """Makes the whole pool by this store."""
    for step in (SavePool(TANK, BEGUN), SavePool(TANK, POOL), BeginIntent(A, CREATE), CompleteIntent(A, DEVICE)):
        store.apply(step)


def taken_over(store: Store) -> None:
    store.apply(SavePool(TANK, replace(POOL, transaction_id=1)))


def forgotten_and_taken_over(store: Store) -> None:
    made(store)
    store.apply(ForgetRecord(TANK))
    taken_over(store)


def put_right_after_an_older_copy(store: Store) -> None:
    store.apply(SavePool(TANK, BEGUN))
    store.apply(SavePool(TANK, POOL))
    taken_over(store)


def external_before(store: Store) -> None:
    store.apply(SavePool(TANK, replace(POOL, external=True)))
    taken_over(store)


def device_forgotten(store: Store) -> None:
    made(store)
    store.apply(ForgetRecord(A))


def adopted_device_forgotten(store: Store) -> None:
    store.apply(SavePool(TANK, POOL, empty=True))
    store.apply(SaveDevice(A, replace(DEVICE, adopted=True, created_at=None)))
    store.apply(ForgetRecord(A))


def noted_twice(store: Store) -> None:
    taken_over(store)
    taken_over(store)


def noted_again_later(store: Store) -> None:
    """Saves the pool again; that does not remove the note."""
    taken_over(store)
    store.apply(SavePool(TANK, replace(POOL, transaction_id=1, data_size=POOL.data_size)))


def suspects(store: Store) -> set[int]:
    named = {device.thin_id for device in store.known_devices("tank").values()}
    return set(suspects_of(store.known_pool("tank"), IN_THE_POOL, named=named, left=store.left_by("tank", "a")))


@pytest.mark.parametrize(
    "way",
    [
        taken_over,
        forgotten_and_taken_over,
        put_right_after_an_older_copy,
        external_before,
        device_forgotten,
        adopted_device_forgotten,
        noted_twice,
        noted_again_later,
    ],
)
def test_a_store_that_may_know_less_than_the_pool_suspects_what_nobody_names(
    store: Store, way: Callable[[Store], None]
) -> None:
    way(store)
    assert suspects(store) == {0}


def test_a_store_that_made_all_of_the_pool_suspects_nobody(store: Store) -> None:
    made(store)
    strangers = {**IN_THE_POOL, 5: ThinEntry(3, 1)}
    assert suspects_of(store.known_pool("tank"), strangers, named={0}, left={}) == {}


def test_what_is_made_after_a_pool_was_taken_over_is_no_suspect(store: Store) -> None:
    taken_over(store)
    pool = store.known_pool("tank")
    assert set(suspects_of(pool, {0: ThinEntry(9, 0), 5: ThinEntry(3, 2)}, named=(), left={})) == {0}


def test_another_thin_under_the_id_of_a_forgotten_one_is_no_suspect(store: Store) -> None:
    device_forgotten(store)
    pool, left = store.known_pool("tank"), store.left_by("tank", "a")
    assert suspects_of(pool, {0: ThinEntry(1, 7)}, named=(), left=left) == {}
    assert store.left_by("tank", "b") == {}
