"""The store has never seen a pool that is not empty: it was lost or damaged, or the state directory is new.

Which thin is a device's is taken from what shows it: a live device under its name, or the store that was set aside as
damaged where the pool's own metadata agrees with it in every point that both have. All else a person must say.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

from reconciler.doctor.checks import PoolView, Repair
from reconciler.doctor.doctor_leaks import leaked, listed
from reconciler.doctor.take_over import Withheld, found_again, held_back, unexplained, unreadable
from reconciler.model.condition import FINAL, Reason
from reconciler.model.dm_tables import PoolTable, read_table
from reconciler.model.live import LiveDevice, Superblock, ThinIds
from reconciler.model.names import UUID_PREFIX, Key
from reconciler.model.records import DeviceState, ThinDevice, ThinPool
from reconciler.model.status import PoolMode, PoolStatus
from reconciler.model.steps import KnowDevice, KnowPool
from reconciler.model.stored import KnownDevice, KnownPool
from reconciler.model.units import sectors
from reconciler.planner.facts import PoolCase
from reconciler.planner.ownership import lies_on_record
from reconciler.planner.pool import plan_pool
from reconciler.planner.pool_words import known_from

_COULD: Final = "it could be taken over"


def take_over(view: PoolView) -> Repair | Withheld | None:
    record = view.case.record
    if record is None or not _is_strange(view, record):
        return None
    if view.ids is None:
        return unreadable(view, _COULD)
    known = _pool_again(view, record)
    if plan_pool(replace(view.case, known=known)).reason in FINAL:
        return None
    found = {**_remembered(view, view.ids), **found_again(view, view.ids)}
    withheld = held_back(view, found, _COULD)
    return withheld or _take_over(view, known, found, listed(unexplained(view, found), view.block))


def _is_strange(view: PoolView, record: ThinPool) -> bool:
    """On the very devices of the record, with something in it, and not known; made by this program, or by hand."""
    known = view.case.known
    if known is not None and (known.created or known.transaction_id) and not known.external:
        return False
    if view.case.live.device is None:
        return known is None and _is_at_rest(view.case)
    return _is_live(view.case, record, view.case.live.device)


def _is_at_rest(case: PoolCase) -> bool:
    """Whole where the record says, and used by nobody: all that is wrong is that the store does not know it."""
    metadata = case.live.metadata
    if metadata.superblock is not Superblock.POOL or metadata.transaction_id is None:
        return False
    return plan_pool(case).reason is Reason.METADATA_MISMATCH


def _is_live(case: PoolCase, record: ThinPool, device: LiveDevice) -> bool:
    status = case.live.status
    if not isinstance(status, PoolStatus) or status.mode is not PoolMode.RW or device.info.suspended:
        return False
    if device.info.uuid and not device.info.uuid.startswith(UUID_PREFIX):
        return False
    table = read_table(device.table)
    if not isinstance(table, PoolTable) or not lies_on_record(case.live, table):
        return False
    return table.block == sectors(record.spec.block_size) and plan_pool(case).reason in FINAL


def _transaction(case: PoolCase) -> int:
    status = case.live.status
    return status.transaction_id if isinstance(status, PoolStatus) else case.live.metadata.transaction_id or 0


def _pool_again(view: PoolView, record: ThinPool) -> KnownPool:
    """Of one at rest, only the damaged store can tell the UUID. Its files are nobody's to delete any more."""
    said = view.remembered.pool if view.remembered is not None else None
    known = replace(known_from(view.case, record), made_files=(), transaction_id=_transaction(view.case))
    if view.case.live.device is not None:
        return known
    return replace(known, uuid=said.uuid if said is not None else "")


def _remembered(view: PoolView, ids: ThinIds) -> dict[Key, KnownDevice]:
    """Records whose device is not live, where the damaged store and the pool agree: in the pool's UUID and transaction,
    so that neither knows of something that the other does not, in the thin id, and in the transaction that made it.
    """
    said = view.remembered
    if said is None or said.pool is None or not said.pool.created or said.pool.external:
        return {}
    live = view.case.live.device
    if said.pool.transaction_id != _transaction(view.case):
        return {}
    if live is not None and live.info.uuid != said.pool.uuid:
        return {}
    candidates = {record.key: device for record in view.records if (device := _agreed(view, record, ids)) is not None}
    numbers = Counter(device.thin_id for device in candidates.values())
    return {key: device for key, device in candidates.items() if numbers[device.thin_id] == 1}


def _agreed(view: PoolView, record: ThinDevice, ids: ThinIds) -> KnownDevice | None:
    device = view.remembered.devices.get(record.key.device) if view.remembered is not None else None
    if device is None or device.adopted or record.spec.adopt is not None or record.spec.state is DeviceState.ABSENT:
        return None
    if device.dm_name != record.dm_name or record.dm_name in view.devices or view.shown_by(device.thin_id):
        return None
    if device.thin_id not in leaked(view) or ids[device.thin_id].created_at != device.created_at:
        return None
    return replace(device, active=False, frozen=False, gone_since=None)


def _take_over(view: PoolView, known: KnownPool, found: dict[Key, KnownDevice], others: str) -> Repair:
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
        steps=(KnowPool(key, known), *(KnowDevice(device.key, device) for device in found.values())),
    )


def _as_proven(device: KnownDevice) -> str:
    return "" if device.active else ", as the damaged store says and the pool confirms"
