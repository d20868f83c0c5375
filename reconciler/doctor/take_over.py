"""Repairs that let the daemon work on a pool that the store does not know, or of which it knows too little.

The store may be new, or a copy from before a device was made. The data of a record may then be in a thin id that nobody
names, and the record would be made anew, empty. Which thin belongs to a device is concluded from evidence: a live
device under the record's name, or a quarantined store that agrees with the pool's metadata in all that both have.
Everything else a person must decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from reconciler.doctor.checks import PoolView, Repair, leaked, listed
from reconciler.model.conditions import FINAL, Reason
from reconciler.model.dm_tables import PoolMode, PoolStatus, PoolTable, ThinTable, read_table
from reconciler.model.live import LiveDevice, PathKind, Superblock, ThinIds
from reconciler.model.names import UUID_PREFIX, Key, is_private
from reconciler.model.records import DeviceState, ThinDevice, ThinPool
from reconciler.model.steps import SaveDevice, SavePool
from reconciler.model.stored import StoredDevice, StoredPool
from reconciler.model.units import SECTOR, Sectors, sectors
from reconciler.planner.facts import PoolFacts
from reconciler.planner.making import told
from reconciler.planner.ownership import lies_on_record
from reconciler.planner.pool import plan_pool
from reconciler.planner.pool_shape import known_from


@dataclass(frozen=True, slots=True)
class Withheld:
    """A repair that would help, and has to wait for a person."""

    message: str
    todo: str


def withheld(view: PoolView, found: Mapping[Key, StoredDevice], could: str) -> Withheld | None:
    """Withholds the repair if it needs a person. `found` are devices that it makes known, `could`
    is what it would do.
    """
    missing = [record for record in view.records if record.key not in found and _would_be_made(view, record)]
    nobodys = unexplained(view, found)
    if not missing or not nobodys:
        return None
    names = ", ".join(str(record.key) for record in missing)
    hints = [hint for record in missing if (hint := _hint(view, record, nobodys))]
    return Withheld(
        f"{could}, but {names} would then be made anew, empty, though their data may be in the thin ids "
        f"that nobody names: {told(nobodys, Sectors(view.block // SECTOR))}{'; '.join(['', *hints])}",
        f"for each of {names}: add `adopt: {{deviceId: ..., dmName: ...}}` or `paused: true` to its record, or take the "
        f"record away, or activate it by hand; what is no record's data belongs into `foreignThins` of the pool's record; "
        f"then run this again",
    )


def unexplained(view: PoolView, found: Mapping[Key, StoredDevice]) -> ThinIds:
    """The thin ids that nobody names and that belong to no device that was found."""
    taken = {device.thin_id for device in found.values()}
    taken |= set(view.facts.record.spec.foreign_thins) if view.facts.record is not None else set()
    return {number: entry for number, entry in leaked(view).items() if number not in taken}


def unreadable(view: PoolView, could: str) -> Withheld | None:
    """Withholds the repair of a pool at rest whose ids cannot be read. The condition of a live pool says so itself."""
    if view.facts.live.device is not None or not view.ids_trouble:
        return None
    file = _metadata_file(view)
    attach = f"if it has no loop, `losetup --find --show --nooverlap {file}`; then " if file else ""
    return Withheld(
        f"{could}, but its thin ids cannot be read: {view.ids_trouble}",
        f"see to it that thin_ls can read the metadata of pool {view.name}: {attach}run this again",
    )


def _metadata_file(view: PoolView) -> str | None:
    """The file of the metadata; None or empty if it is a block device."""
    record, known = view.facts.record, view.facts.known
    if record is not None and record.spec.metadata is not None:
        return record.spec.metadata.file or ""
    return known.metadata if known is not None and view.facts.live.metadata.kind is PathKind.FILE else None


def found_again(view: PoolView, ids: ThinIds) -> dict[Key, StoredDevice]:
    """Devices that the store lacks, and that are live under their record's name, on a thin of this pool that no other
    device shows or is known to have.
    """
    found, nobodys = {}, leaked(view)
    busy = {intent.key for intent in view.facts.intents}
    for record in view.records:
        live = view.devices.get(record.dm_name)
        if record.key in busy or record.key.device in view.known:
            continue
        if live is None or record.spec.adopt is not None or record.spec.state is DeviceState.ABSENT:
            continue
        table = read_table(live.table)
        if not isinstance(table, ThinTable) or view.shown_by(table.thin_id) != (record.dm_name,):
            continue
        if table.thin_id in nobodys and _may_be_ours(live):
            found[record.key] = _known_again(view, record, live, table, ids)
    return found


def _may_be_ours(live: LiveDevice) -> bool:
    uuid = live.info.uuid
    return not uuid or (uuid.startswith(UUID_PREFIX) and not is_private(uuid))


def _known_again(view: PoolView, record: ThinDevice, live: LiveDevice, table: ThinTable, ids: ThinIds) -> StoredDevice:
    """The device to store. It counts as adopted without a UUID that this program gives, as its maker is unknown."""
    said = view.remembered.devices.get(record.key.device) if view.remembered is not None else None
    if said is not None and (said.uuid, said.thin_id, said.dm_name) == (live.info.uuid, table.thin_id, record.dm_name):
        return replace(said, size=live.length, active=True, frozen=False, gone_since=None)
    adopted = not live.info.uuid
    return StoredDevice(
        key=record.key,
        uuid=live.info.uuid,
        dm_name=record.dm_name,
        thin_id=table.thin_id,
        size=live.length,
        created_at=None if adopted else ids[table.thin_id].created_at,
        active=True,
        read_only=live.info.read_only,
        filesystem=record.spec.filesystem.type if record.spec.filesystem is not None else "",
        filesystem_size=live.length,
        adopted=adopted,
        # Only the record still names it; it was read when the device was made.
        origin=record.spec.snapshot_of or "",
        external="" if table.external is None else str(table.external),
    )


def _would_be_made(view: PoolView, record: ThinDevice) -> bool:
    """Whether the daemon would make the device, empty, once it may work on the pool."""
    if record.key.device in view.known:
        return False
    return record.spec.state is not DeviceState.ABSENT and record.spec.adopt is None and not record.spec.paused


def _hint(view: PoolView, record: ThinDevice, unexplained: ThinIds) -> str:
    """What the damaged store says of the record, if the pool does not fully agree but does not contradict it."""
    said = view.remembered
    device = said.devices.get(record.key.device) if said is not None else None
    if said is None or device is None or device.thin_id not in unexplained:
        return ""
    made = f", made at transaction {device.created_at}" if device.created_at is not None else ""
    return f"{said.file} says that {record.key} was thin id {device.thin_id}{made}, which nothing proves"


_COULD: Final = "it could be taken over"


def take_over(view: PoolView) -> Repair | Withheld | None:
    record = view.facts.record
    if record is None or not _is_strange(view, record):
        return None
    if view.ids is None:
        return unreadable(view, _COULD)
    known = _pool_again(view, record)
    if plan_pool(replace(view.facts, known=known)).reason in FINAL:
        return None
    found = {**_remembered(view, view.ids), **found_again(view, view.ids)}
    return withheld(view, found, _COULD) or _take_over(view, known, found, listed(unexplained(view, found), view.block))


def _is_strange(view: PoolView, record: ThinPool) -> bool:
    """Whether an unknown pool with content, made by this program or by hand, is on the very devices of the record."""
    known = view.facts.known
    if known is not None and (known.created or known.transaction_id) and not known.external:
        return False
    if view.facts.live.device is None:
        return known is None and _is_at_rest(view.facts)
    return _is_live(view.facts, record, view.facts.live.device)


def _is_at_rest(facts: PoolFacts) -> bool:
    """Whether the pool is sound, in place and unused, so that all that is wrong is that the store does not know it."""
    metadata = facts.live.metadata
    if metadata.superblock is not Superblock.POOL or metadata.transaction_id is None:
        return False
    return plan_pool(facts).reason is Reason.METADATA_MISMATCH


def _is_live(facts: PoolFacts, record: ThinPool, device: LiveDevice) -> bool:
    status = facts.live.status
    if not isinstance(status, PoolStatus) or status.mode is not PoolMode.RW or device.info.suspended:
        return False
    if device.info.uuid and not device.info.uuid.startswith(UUID_PREFIX):
        return False
    table = read_table(device.table)
    if not isinstance(table, PoolTable) or not lies_on_record(facts.live, table):
        return False
    return table.block == sectors(record.spec.block_size) and plan_pool(facts).reason in FINAL


def _transaction(facts: PoolFacts) -> int:
    status = facts.live.status
    return status.transaction_id if isinstance(status, PoolStatus) else facts.live.metadata.transaction_id or 0


def _pool_again(view: PoolView, record: ThinPool) -> StoredPool:
    """The pool to store. At rest, only the damaged store can tell its UUID. Its files are never deleted later."""
    said = view.remembered.pool if view.remembered is not None else None
    known = replace(known_from(view.facts, record), made_files=(), transaction_id=_transaction(view.facts))
    if view.facts.live.device is not None:
        return known
    return replace(known, uuid=said.uuid if said is not None else "")


def _remembered(view: PoolView, ids: ThinIds) -> dict[Key, StoredDevice]:
    """Devices that are not live, and on which the damaged store and the pool agree.

    They must agree in the pool's UUID and transaction id, so that neither knows of a change that the other missed, and
    in the thin id and the transaction that created it.
    """
    said = view.remembered
    if said is None or said.pool is None or not said.pool.created or said.pool.external:
        return {}
    live = view.facts.live.device
    if said.pool.transaction_id != _transaction(view.facts):
        return {}
    if live is not None and live.info.uuid != said.pool.uuid:
        return {}
    candidates = {record.key: device for record in view.records if (device := _agreed(view, record, ids)) is not None}
    numbers = Counter(device.thin_id for device in candidates.values())
    return {key: device for key, device in candidates.items() if numbers[device.thin_id] == 1}


def _agreed(view: PoolView, record: ThinDevice, ids: ThinIds) -> StoredDevice | None:
    device = view.remembered.devices.get(record.key.device) if view.remembered is not None else None
    if device is None or device.adopted or record.spec.adopt is not None or record.spec.state is DeviceState.ABSENT:
        return None
    if device.dm_name != record.dm_name or record.dm_name in view.devices or view.shown_by(device.thin_id):
        return None
    if device.thin_id not in leaked(view) or ids[device.thin_id].created_at != device.created_at:
        return None
    return replace(device, active=False, frozen=False, gone_since=None)


def _take_over(view: PoolView, known: StoredPool, found: dict[Key, StoredDevice], others: str) -> Repair:
    key = Key(view.name)
    again = [f"{device.key} is thin id {device.thin_id} again{_as_proven(device)}" for device in found.values()]
    left = [f"left as they are, counted as leaked: thin ids {others}"] if others else []
    return Repair(
        key=key,
        what=f"take over pool {view.name}",
        why=f"the pool holds {len(view.ids or {})} thin ids at transaction {known.transaction_id}, and this store has "
        "never seen it: it was damaged or lost, or the state directory is a new one",
        effect=(
            f"the store knows the pool, at transaction {known.transaction_id}; nothing in it is changed",
            *again,
            *left,
        ),
        steps=(SavePool(key, known), *(SaveDevice(device.key, device) for device in found.values())),
    )


def _as_proven(device: StoredDevice) -> str:
    return "" if device.active else ", as the damaged store says and the pool confirms"
