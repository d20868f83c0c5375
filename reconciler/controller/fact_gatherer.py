"""Gathers the facts about one record: what the records say, what is stored, and what the last scan saw of its pool.

`ObservedPool` holds the result of the scan, and how long each sign of drift has been seen without a break.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf

from reconciler.controller.clock import Clock
from reconciler.model.conditions import PoolStatusReport
from reconciler.model.dm_tables import Devno, ThinTable, read_table
from reconciler.model.identity import Marks, Noted
from reconciler.model.live import BackingPath, LiveDevice, LivePool, PoolScan, ScanScope, ThinEntry, ThinIds
from reconciler.model.names import Key, device_dm_name, is_private, make_uuid, of_store, private_dm_name
from reconciler.model.records import Backing, DeviceState, PoolState, ThinDevice
from reconciler.model.recordset import PoolRecords
from reconciler.model.stored import Intent, IntentKind, StoredDevice
from reconciler.model.units import Bytes, Sectors, in_bytes
from reconciler.planner.facts import DeviceFacts, Grace, Origin, PoolFacts, PruneVerdict
from reconciler.planner.making import suspects_of
from reconciler.planner.orphans import PoolOrphans, PruneRules, prune_verdict
from reconciler.planner.ownership import access_to
from reconciler.planner.plan import Sign, signs
from reconciler.store.store import Store


class ObservedPool:
    def __init__(self) -> None:
        self.pool = LivePool()
        self.devices: dict[str, LiveDevice] = {}
        self.ids: dict[int, ThinEntry] | None = None
        self.ids_at = 0.0
        self.ids_are_told = False
        """Whether the ids come from the pool itself, and not from the store."""
        self.protected: frozenset[Devno] = frozenset()
        self._since: dict[str, dict[Sign, float]] = {}
        self._touched: dict[str, set[int]] = {}
        self._shows: dict[str, tuple[Devno, int]] = {}
        self._shown_by: dict[tuple[Devno, int], set[str]] = {}

    def absorb(self, look: PoolScan, now: float) -> set[str]:
        """Takes in a scan. Returns the dm names of which the state has changed, the pool's own among them."""
        gone = set(look.gone) | ({name for name in self.devices if name not in look.devices} if look.first else set())
        for name in gone:
            self.devices.pop(name, None)
            self._since.pop(name, None)
            self._index(name, None)
        for name, device in look.devices.items():
            self.devices[name] = device
            self._sight(name, device, now)
            self._index(name, device)
        if look.ids is not None:
            self.ids, self.ids_at, self.ids_are_told = dict(look.ids), now, True
        if look.pool.device is None:
            self.ids = None  # the pool may be active elsewhere meanwhile, where its thin ids can change
        self.protected = look.protected
        changed = gone | set(look.devices)
        if look.pool != self.pool and look.pool.device is not None:
            changed.add(look.pool.device.info.name)
        self.pool = look.pool
        self._sight("", look.pool.device, now)
        return changed

    def grace(self, name: str, now: float, length: float) -> Grace:
        """How long each sign of a device has lasted; the empty name stands for the pool itself."""
        return Grace(now, length, self._since.get(name, {}))

    def live_on_pool(self) -> tuple[str, ...]:
        """The dm names of all thin devices on the pool, whoever owns them."""
        pool = self.pool.device
        if pool is None:
            return ()
        return tuple(sorted(name for name, (devno, _) in self._shows.items() if devno == pool.info.devno))

    def elsewhere(self, thin_id: int, own: str, *, private: bool = False) -> tuple[str, ...]:
        """The dm names of other devices than `own` that show this thin; private ones of this store
        only if `private`.
        """
        pool = self.pool.device
        if pool is None:
            return ()
        names = self._shown_by.get((pool.info.devno, thin_id), set()) - {own}
        return tuple(sorted(name for name in names if private or not is_private(self.devices[name].info.uuid)))

    def signs_of(self, name: str) -> Mapping[Sign, float]:
        return self._since.get(name, {})

    def _sight(self, name: str, device: LiveDevice | None, now: float) -> None:
        before = self._since.get(name, {})
        shown = signs(device)
        if shown:
            self._since[name] = {sign: before.get(sign, now) for sign in shown}
        else:
            self._since.pop(name, None)

    def take_shown(self) -> dict[str, set[int]]:
        """Returns, for each device that changed since the last call, the thin ids that it shows or showed."""
        shown, self._touched = self._touched, {}
        return shown

    def _index(self, name: str, device: LiveDevice | None) -> None:
        before = self._shows.pop(name, None)
        if before is not None:
            self._shown_by[before].discard(name)
            self._touched.setdefault(name, set()).add(before[1])
        table = read_table(device.table) if device is not None else None
        if isinstance(table, ThinTable):
            thin = (table.pool, table.thin_id)
            self._shows[name] = thin
            self._shown_by.setdefault(thin, set()).add(name)
            self._touched.setdefault(name, set()).add(table.thin_id)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the operator."""

    grace: float = 5.0
    """How many seconds a suspension is tolerated as somebody else's work."""
    prune: PruneRules = field(default_factory=PruneRules)
    observe_only: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """The keys and names in a pool, by the records and the store. They change only when one of the two does."""

    watched: ScanScope
    keys: frozenset[Key]
    """The keys of all devices that are recorded, stored, or have an intent."""
    names: Mapping[Key, tuple[str, str]]
    """The dm name and the private name of each device."""
    by_name: Mapping[str, Key]


class FactGatherer:
    """Gathers the facts of one pool, from the records that `use` was last given."""

    def __init__(self, name: str, store: Store, clock: Clock, rng: random.Random, settings: Settings) -> None:
        self.name = self._name = name
        self.store = self._store = store
        self.clock = self._clock = clock
        self.settings = self._settings = settings
        self.records = PoolRecords(name)
        self._loaded_at = -inf
        self._rng = rng
        self._scope: Scope | None = None
        self._scope_of: tuple[object, object] = (None, None)
        self._recorded: dict[Key, str] = {}
        self._mark: object = None

    def use(self, records: PoolRecords, loaded_at: float) -> None:
        """Sets the records in force. `loaded_at` has the meaning of `Desired.loaded_at`."""
        self.records, self._loaded_at = records, loaded_at

    def another(self) -> FactGatherer:
        """A second gatherer for the same pool, which may use other records."""
        return FactGatherer(self._name, self._store, self._clock, self._rng, self._settings)

    def scope(self) -> Scope:
        """The pool's scope, cached until it changes: steps change what is stored, but rarely which
        devices there are.
        """
        records, knowledge = self.records, self._store.knowledge(self._name)
        if self._scope is not None and self._scope_of[0] is records and self._scope_of[1] is knowledge:
            return self._scope
        if self._scope_of[0] is not records:
            self._recorded = {key: record.dm_name for key, record in records.devices.items()}
            self._scope = None
        strays, pool = self._strays(), self._store.known_pool(self._name)
        noted = pool.noted if pool is not None else None
        mark = (strays, pool and (pool.created, pool.data, pool.metadata, noted and (noted.data, noted.metadata)))
        if self._scope is None or mark != self._mark:
            self._scope = self._make_scope({**self._recorded, **strays})
        self._scope_of, self._mark = (records, knowledge), mark
        return self._scope

    def _strays(self) -> dict[Key, str]:
        """Devices that are stored or have an intent, and have no record or another dm name than their record says."""
        recorded = self._recorded
        known = self._store.known_devices(self._name).values()
        intents = self._store.intents(self._name)
        strays = {device.key: device.dm_name for device in known if recorded.get(device.key) != device.dm_name}
        return strays | {i.key: i.dm_name for i in intents if i.key not in recorded and i.key not in strays}

    def _make_scope(self, dm_names: Mapping[Key, str]) -> Scope:
        names = {key: (dm_name, private_dm_name(key.pool, key.device)) for key, dm_name in dm_names.items()}
        return Scope(
            watched=self._watched(frozenset(name for pair in names.values() for name in pair)),
            keys=frozenset(names),
            names=names,
            by_name={name: key for key, pair in names.items() for name in pair},
        )

    def named_ids(self) -> frozenset[int]:
        """The thin ids of recorded, adopted and orphaned devices and of intents."""
        known = self._store.known_devices(self._name).values()
        intents = self._store.intents(self._name)
        return frozenset({device.thin_id for device in known} | {intent.thin_id for intent in intents})

    def keys_of(self, thin_ids: frozenset[int]) -> set[Key]:
        """The keys of the stored devices that have these thin ids."""
        return {device.key for device in self._store.known_devices(self._name).values() if device.thin_id in thin_ids}

    def _watched(self, names: frozenset[str]) -> ScanScope:
        record, known = self.records.pool, self._store.known_pool(self._name)
        if record is not None and not record.spec.external:
            fresh = known is None or not known.created
            noted = known.noted if known is not None and known.noted is not None else Noted()
            data = _place(record.spec.data, known.data if known is not None else "", noted.data)
            metadata = _place(record.spec.metadata, known.metadata if known is not None else "", noted.metadata)
            uuid = known.uuid if known is not None and not known.external else ""
            return ScanScope(self._name, data, metadata, names, fresh=fresh, uuid=uuid)
        if record is None and known is not None and known.data:
            return ScanScope(self._name, _known_place(known.data), _known_place(known.metadata), names)
        return ScanScope(self._name, None, None, names)

    def pool_facts(self, observed: ObservedPool, stuck: str | None = None) -> PoolFacts:
        intents, record = self._store.intents(self._name), self.records.pool
        goes_down = record is None or record.spec.state is not PoolState.ACTIVE
        return PoolFacts(
            name=self._name,
            record=record,
            known=self._store.known_pool(self._name),
            live=observed.pool,
            grace=observed.grace("", self._clock.now(), self._settings.grace),
            new_uuid=self._new_uuid(),
            intents=intents,
            ids=observed.ids,
            # Only a pool that is to be taken down needs these two, and the facts are gathered after every step.
            devices_live=observed.live_on_pool() if goes_down else (),
            known_devices=tuple(sorted(self._store.known_devices(self._name))) if goes_down else (),
            needed=goes_down and self._needed(intents),
            largest=Bytes(0) if observed.pool.device is not None else self._largest(intents),
            stuck=stuck,
        )

    def _largest(self, intents: tuple[Intent, ...]) -> Bytes:
        """The size of the pool's largest device, which matters while the pool is down: a filesystem at the start of its
        data may belong to that device.
        """
        sizes = [device.size for device in self._store.known_devices(self._name).values()]
        return in_bytes(max((*sizes, *(intent.size for intent in intents)), default=Sectors(0)))

    def _needed(self, intents: tuple[Intent, ...]) -> bool:
        known = self._store.known_devices(self._name)
        deleting = any(intent.kind is IntentKind.DELETE for intent in intents)
        absent = (record for record in self.records.devices.values() if record.spec.state is DeviceState.ABSENT)
        return deleting or any(record.key.device in known for record in absent)

    def device_facts(self, key: Key, observed: ObservedPool, pool: PoolFacts) -> DeviceFacts:
        record = self.records.devices.get(key)
        known = self._store.known_devices(self._name).get(key.device)
        intents = self._store.intents(self._name)
        name = _dm_name(key, record, known)
        now = self._clock.now()
        intent = next((intent for intent in intents if intent.key == key), None)
        thin_id = _thin_id(record, known)
        elsewhere = observed.elsewhere(thin_id, name) if thin_id is not None else ()
        # A later scan than the pool's own, for example for the thin ids, may have found the pool changed, or have
        # failed.
        pool = pool if pool.live is observed.pool else replace(pool, live=observed.pool)
        return DeviceFacts(
            key=key,
            record=record,
            pool_record=pool.record,
            pool=observed.pool,
            pool_known=pool.known,
            access=access_to(pool),
            known=known,
            live=observed.devices.get(name),
            grace=observed.grace(name, now, self._settings.grace)
            if self._settings.grace
            else _no_grace(observed, name, now),
            new_id=self._store.free_thin_id(self._name, observed.ids or ()),
            new_uuid=self._new_uuid(),
            private=self._private(key, observed),
            elsewhere=elsewhere,
            renamed=_renamed(elsewhere, known, observed),
            intent=intent,
            id_taken=intent is not None and intent.thin_id in self._store.taken(self._name),
            other_intent=next((str(intent.key) for intent in intents if intent.key != key), None),
            adopted_by=self._adopted_by(key, _thin_id(record, None)),
            origin=self._origin(key, record, intents, observed),
            ids=observed.ids,
            suspects=self._suspects(key, observed, pool) if record is not None and known is None else {},
            prune=PruneVerdict.RETAIN if record is not None else self._prune(known),
        )

    def _suspects(self, key: Key, observed: ObservedPool, pool: PoolFacts) -> ThinIds | None:
        """Thin ids that may be the data of this device, which the store does not know. None if the ids are unknown."""
        left = self._store.left_by(self._name, key.device)
        if pool.known is None or (pool.known.taken_over_at is None and not left):
            return {}
        # Without reading the pool, the ids that the daemon last reported are all there is.
        ids = observed.ids if observed.ids_are_told else self._told()
        if ids is None:
            return None
        records = self.records.devices.values()
        adopted = {record.spec.adopt.device_id for record in records if record.spec.adopt is not None}
        foreign = pool.record.spec.foreign_thins if pool.record is not None else ()
        return suspects_of(pool.known, ids, named=self.named_ids() | adopted, left=left, foreign=foreign)

    def _told(self) -> ThinIds | None:
        """The thin ids that the daemon last reported as leaked; None if it has reported none."""
        status = self._store.statuses().get(Key(self._name))
        told = status.leaked_ids if isinstance(status, PoolStatusReport) else None
        if told is None:
            return None
        left = self._store.former(self._name)
        return {number: ThinEntry(0, left[number].created_at if number in left else 0) for number in told}

    def _private(self, key: Key, observed: ObservedPool) -> LiveDevice | None:
        """The device under the private name. It is foreign without a UUID that this store gave."""
        device = observed.devices.get(private_dm_name(key.pool, key.device))
        if device is None or not device.info.uuid.endswith("-private"):
            return device
        return device if of_store(device.info.uuid, self._store.store_id) else None

    def _origin(
        self, key: Key, record: ThinDevice | None, intents: tuple[Intent, ...], observed: ObservedPool
    ) -> Origin | None:
        intended = next((intent.origin for intent in intents if intent.key == key), "")
        name = intended or (record.spec.snapshot_of if record is not None else None) or ""
        if not name:
            return None
        origin_key = Key(key.pool, name)
        known, own_record = self._store.known_devices(self._name).get(name), self.records.devices.get(origin_key)
        dm_name = _dm_name(origin_key, own_record, known)
        live = observed.devices.get(dm_name)
        return Origin(
            name=name,
            dm_name=dm_name,
            known=known,
            live=live,
            # Private devices count too: a crash, or a removal that did not happen, may have left one, and suspending
            # the device would not suspend that one.
            elsewhere=observed.elsewhere(known.thin_id, dm_name, private=True) if known is not None else (),
            protected=live is not None and live.info.devno in observed.protected,
            paused=own_record is not None and own_record.spec.paused,
        )

    def _adopted_by(self, key: Key, thin_id: int | None) -> str | None:
        """Another device of this store that has this thin id; None if there is none."""
        devices = self._store.known_devices(self._name).values()
        return next((str(device.key) for device in devices if device.thin_id == thin_id and device.key != key), None)

    def _prune(self, known: StoredDevice | None) -> PruneVerdict:
        if self.records.unknown:
            return PruneVerdict.WAIT
        gone = [device.gone_since for device in self._store.known_devices(self._name).values()]
        orphans = PoolOrphans(
            pool=self.records.pool,
            all_gone=[since for since in gone if since is not None],
            recorded=len(self.records.devices),
            settled_for=self._clock.now() - self._loaded_at,
        )
        gone_since = known.gone_since if known is not None else None
        return prune_verdict(gone_since, orphans, now=self._clock.wall(), rules=self._settings.prune)

    def _new_uuid(self) -> str:
        return make_uuid(self._store.store_id, f"{self._rng.getrandbits(128):032x}")


def _dm_name(key: Key, record: ThinDevice | None, known: StoredDevice | None) -> str:
    if known is not None:
        return known.dm_name
    return record.dm_name if record is not None else device_dm_name(key.pool, key.device)


def _thin_id(record: ThinDevice | None, known: StoredDevice | None) -> int | None:
    """The thin id of the device, or the one that its record is to adopt."""
    if known is not None:
        return known.thin_id
    return record.spec.adopt.device_id if record is not None and record.spec.adopt is not None else None


def _renamed(elsewhere: tuple[str, ...], known: StoredDevice | None, observed: ObservedPool) -> str | None:
    if known is None or not known.uuid:
        return None
    return next((name for name in elsewhere if observed.devices[name].info.uuid == known.uuid), None)


def _known_place(path: str) -> BackingPath:
    """The path of a pool without a record, which is only scanned."""
    return BackingPath(path, is_file=not path.startswith("/dev/"))


def _place(backing: Backing | None, known: str, noted: Marks) -> BackingPath | None:
    if backing is None:
        return None
    former = known if known != backing.path else None
    return BackingPath(backing.path, backing.file is not None, former, noted)


def _no_grace(observed: ObservedPool, name: str, now: float) -> Grace:
    """Without any grace, for a plan that is only shown: it says what would be done if the signs lasted."""
    return Grace(now, 0.0, dict.fromkeys(observed.signs_of(name), 0.0))
