"""The store has never seen a pool that is live and not empty: its state directory was lost, or is a new one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reconciler.model.condition import FINAL
from reconciler.model.knowledge import KnownDevice, KnownPool
from reconciler.model.live import LiveDevice, ThinIds
from reconciler.model.names import UUID_PREFIX, Key, is_private
from reconciler.model.records import DeviceState, ThinDevice, ThinPool
from reconciler.model.status import PoolMode, PoolStatus
from reconciler.model.steps import KnowDevice, KnowPool
from reconciler.model.table import PoolTable, ThinTable, read_table
from reconciler.model.units import sectors
from reconciler.planner.doctor import PoolView, Repair, leaked, listed
from reconciler.planner.identity import lies_on_record
from reconciler.planner.pool import plan_pool
from reconciler.planner.pool_words import known_from


@dataclass(frozen=True, slots=True)
class Withheld:
    """A repair that would help, and must wait for a person."""

    message: str
    todo: str


def take_over(view: PoolView) -> Repair | Withheld | None:
    record = view.case.record
    if record is None or view.ids is None or not _is_strange(view, record):
        return None
    known = replace(known_from(view.case, record), made_files=())
    if plan_pool(replace(view.case, known=known)).reason in FINAL:
        return None
    found = _found_again(view, view.ids)
    unexplained = {
        number: entry
        for number, entry in leaked(view).items()
        if number not in {device.thin_id for device in found.values()}
    }
    missing = [each for each in view.records if each.key not in found and _would_be_made(each)]
    if missing and unexplained:
        return _withheld([str(each.key) for each in missing], listed(unexplained, view.block))
    return _take_over(view, known, found, listed(unexplained, view.block))


def _is_strange(view: PoolView, record: ThinPool) -> bool:
    """Live on the very devices of the record, with something in it, and not known; made by this program, or by hand."""
    case, known, device = view.case, view.case.known, view.case.live.device
    status = case.live.status
    if known is not None and (known.created or known.transaction_id) and not known.external:
        return False
    if device is None or not isinstance(status, PoolStatus) or status.mode is not PoolMode.RW or device.info.suspended:
        return False
    if device.info.uuid and not device.info.uuid.startswith(UUID_PREFIX):
        return False
    table = read_table(device.table)
    if not isinstance(table, PoolTable) or not lies_on_record(case.live, table):
        return False
    return table.block == sectors(record.spec.block_size) and plan_pool(case).reason in FINAL


def _found_again(view: PoolView, ids: ThinIds) -> dict[Key, KnownDevice]:
    """Records whose device is live, under their name, on a thin of this pool that no other device shows."""
    found = {}
    for record in view.records:
        live = view.devices.get(record.dm_name)
        if live is None or record.spec.adopt is not None or record.spec.state is DeviceState.ABSENT:
            continue
        table = read_table(live.table)
        if not isinstance(table, ThinTable) or view.shown_by(table.thin_id) != (record.dm_name,):
            continue
        if table.thin_id in ids and _may_be_ours(live):
            found[record.key] = _known_again(record, live, table, ids)
    return found


def _may_be_ours(live: LiveDevice) -> bool:
    uuid = live.info.uuid
    return not uuid or (uuid.startswith(UUID_PREFIX) and not is_private(uuid))


def _known_again(record: ThinDevice, live: LiveDevice, table: ThinTable, ids: ThinIds) -> KnownDevice:
    """One without the UUID that this program gives counts as adopted: nobody can tell who made it."""
    adopted = not live.info.uuid
    return KnownDevice(
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
    )


def _would_be_made(record: ThinDevice) -> bool:
    """Whether the daemon would make it, empty, once it may work on the pool."""
    return record.spec.state is not DeviceState.ABSENT and record.spec.adopt is None and not record.spec.paused


def _withheld(missing: list[str], unexplained: str) -> Withheld:
    names = ", ".join(missing)
    return Withheld(
        f"it could be taken over, but {names} would then be made anew, empty, though their data may be in the thin ids "
        f"that nobody names: {unexplained}",
        f"for each of {names}: add `adopt: {{deviceId: ..., dmName: ...}}` or `paused: true` to its record, or take the "
        f"record away, or activate it by hand; then run this again",
    )


def _take_over(view: PoolView, known: KnownPool, found: dict[Key, KnownDevice], unexplained: str) -> Repair:
    key = Key(view.name)
    again = [f"{device.key} is thin id {device.thin_id} again" for device in found.values()]
    left = [f"left as they are, counted as leaked: thin ids {unexplained}"] if unexplained else []
    return Repair(
        key=key,
        what=f"take over pool {view.name}",
        why=f"the pool holds {len(view.ids or {})} thin ids at transaction {known.transaction_id}, and this store has "
        "never seen it: the state directory was lost, or is a new one",
        effect=(
            f"the store knows the pool, at transaction {known.transaction_id}; nothing in it is changed",
            *again,
            *left,
        ),
        steps=(KnowPool(key, known), *(KnowDevice(device.key, device) for device in found.values())),
    )
