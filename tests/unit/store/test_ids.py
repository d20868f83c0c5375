"""No thin id is handed out twice, whatever the order of events, and whoever makes a mistake."""

from __future__ import annotations

import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
)
from reconciler.model.stored import Intent, IntentKind, StoredDevice, StoredPool
from reconciler.model.units import Sectors
from reconciler.store import transitions
from reconciler.store.errors import StoreError
from reconciler.store.store import Store
from reconciler.store.transitions import StoredPoolState, free_thin_id

TANK = Key("tank")
POOL = StoredPool("tank", "DMR-1", True, "/d", "/m", Sectors(128), "passdown")
NAMES = st.sampled_from("abcd")


def creating(name: str, thin_id: int, kind: IntentKind = IntentKind.CREATE) -> Intent:
    return Intent(Key("tank", name), kind, thin_id, 0, "DMR-2", f"tank-{name}", Sectors(8))


class IdsInUse(RuleBasedStateMachine):
    """Compares the store with a simple record of which device has which id."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = self.opened()
        self.store.apply(SavePool(TANK, POOL))
        self.owned: dict[int, str] = {}
        self.strangers: set[int] = set()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    def opened(self) -> Store:
        return Store.open(Path(self.folder.name) / "state", wall_clock=lambda: 0.0)

    def intent(self) -> Intent | None:
        return next(iter(self.store.intents("tank")), None)

    @precondition(lambda self: self.intent() is None)
    @rule(name=NAMES, seen=st.sets(st.integers(0, 9)))
    def reserve(self, name: str, seen: set[int]) -> None:
        if name in self.owned.values():
            return
        thin_id = self.store.free_thin_id("tank", seen)
        assert thin_id not in self.owned
        assert thin_id not in self.strangers | seen
        self.store.apply(BeginIntent(Key("tank", name), creating(name, thin_id)))
        self.owned[thin_id] = name

    @precondition(lambda self: self.intent() is None)
    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        device = self.store.known_devices("tank").get(name)
        if device is not None:
            self.store.apply(BeginIntent(device.key, creating(name, device.thin_id, IntentKind.DELETE)))

    @rule()
    def finish(self) -> None:
        intent = self.intent()
        if intent is None or intent.thin_id in self.strangers:
            return
        key = intent.key
        if intent.kind is IntentKind.DELETE:
            self.store.apply(CompleteIntent(key, None))
            del self.owned[intent.thin_id]
        else:
            self.store.apply(MarkCreated(key))
            self.store.apply(CompleteIntent(key, StoredDevice(key, "DMR-2", "d", intent.thin_id, Sectors(8))))

    @rule()
    def abandon(self) -> None:
        intent = self.intent()
        if intent is None:
            return
        self.store.apply(AbortIntent(intent.key, 0))
        if intent.kind is IntentKind.CREATE:
            self.owned.pop(intent.thin_id, None)

    @rule(thin_id=st.integers(0, 9))
    def stranger(self, thin_id: int) -> None:
        if thin_id in {device.thin_id for device in self.store.known_devices("tank").values()}:
            return
        self.store.apply(MarkThinIdTaken(TANK, thin_id))
        self.owned.pop(thin_id, None)
        self.strangers.add(thin_id)

    @rule(name=NAMES, thin_id=st.integers(0, 9))
    def adopt(self, name: str, thin_id: int) -> None:
        if name in self.owned.values() or thin_id in self.owned:
            return
        adopted = StoredDevice(Key("tank", name), "", "d", thin_id, Sectors(8), adopted=True)
        intent = self.intent()
        if intent is not None and intent.thin_id == thin_id:  # it has found a foreign thin, and has not ended yet
            with pytest.raises(StoreError):
                self.store.apply(SaveDevice(adopted.key, adopted))
            return
        self.store.apply(SaveDevice(adopted.key, adopted))
        self.strangers.discard(thin_id)
        self.owned[thin_id] = name

    @precondition(lambda self: self.intent() is None)
    @rule(name=NAMES)
    def forget(self, name: str) -> None:
        device = self.store.known_devices("tank").get(name)
        self.store.apply(ForgetRecord(Key("tank", name)))
        if device is not None:
            del self.owned[device.thin_id]
            self.strangers.add(device.thin_id)

    @rule()
    def start_again(self) -> None:
        self.store.close()
        self.store = self.opened()

    @invariant()
    def accounts_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        devices = self.store.known_devices("tank").values()
        held = [device.thin_id for device in devices]
        intent = self.intent()
        if intent is not None and intent.kind is IntentKind.CREATE and intent.thin_id not in self.strangers:
            held.append(intent.thin_id)
        assert sorted(held) == sorted(self.owned)
        assert self.store.taken("tank") == self.strangers


IdsInUse.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestIdsInUse = IdsInUse.TestCase


def test_a_freed_id_is_not_used_again_at_once_also_after_a_restart(store: Store, directory: Path) -> None:
    store.apply(SavePool(TANK, POOL))
    key = Key("tank", "a")
    store.apply(BeginIntent(key, creating("a", 0)))
    store.apply(AbortIntent(key, 0))
    assert store.free_thin_id("tank") == 1
    store.close()
    with Store.open(directory, wall_clock=lambda: 0.0) as again:
        assert again.free_thin_id("tank") == 1


def test_ids_begin_anew_after_the_last() -> None:
    assert free_thin_id(StoredPoolState(last_thin_id=2**24 - 2), ()) == 2**24 - 1
    assert free_thin_id(StoredPoolState(last_thin_id=2**24 - 1), ()) == 0
    assert free_thin_id(StoredPoolState(last_thin_id=2**24 - 2), {2**24 - 1, 0}) == 1


def test_a_pool_without_a_free_id_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "THIN_IDS", 16)
    assert store.free_thin_id("tank", range(15)) == 15
    with pytest.raises(StoreError, match="no thin id left"):
        store.free_thin_id("tank", range(16))


def test_the_schema_refuses_an_id_that_memory_takes_for_free(store: Store) -> None:
    store.apply(SavePool(TANK, POOL))
    forgetful = store._known
    store.apply(BeginIntent(Key("tank", "a"), creating("a", 0)))
    store._known = forgetful
    with pytest.raises(StoreError, match="contradicts itself"):
        store.apply(BeginIntent(Key("tank", "b"), creating("b", 0)))


def test_the_schema_refuses_two_devices_with_one_id(store: Store, directory: Path) -> None:
    store.apply(SavePool(TANK, POOL))
    device = StoredDevice(Key("tank", "a"), "", "a", 3, Sectors(8), adopted=True)
    store.apply(SaveDevice(device.key, device))
    store.apply(SaveDevice(device.key, replace(device, active=True)))
    store.close()
    connection = sqlite3.connect(directory / "state.db")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("INSERT INTO devices (pool, device, thin_id, body) VALUES ('tank', 'b', 3, '')")
    with pytest.raises(sqlite3.IntegrityError):
        connection.commit()
    connection.close()
