"""The repairs that `doctor --fix` offers for one pool. None is forced, and none touches what is not this store's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from reconciler.model.condition import FINAL, Reason
from reconciler.model.knowledge import Intent, IntentKind, KnownDevice, KnownPool
from reconciler.model.live import LiveDevice, ThinIds
from reconciler.model.names import UUID_PREFIX, Key, is_private
from reconciler.model.records import DeviceState, PoolState, ThinDevice, ThinPool
from reconciler.model.status import PoolMode, PoolStatus
from reconciler.model.steps import (
    Begin,
    DeleteThin,
    DetachLoop,
    Finish,
    Forget,
    KnowDevice,
    KnowPool,
    SetTransactionId,
    Step,
)
from reconciler.model.table import PoolTable, ThinTable, read_table
from reconciler.model.units import Sectors, format_size, sectors
from reconciler.planner.access import access_to, expected_transactions
from reconciler.planner.cases import Access
from reconciler.planner.doctor import PoolView, Repair, is_ours, leaked, listed
from reconciler.planner.identity import lies_on_record
from reconciler.planner.pool import plan_pool
from reconciler.planner.pool_words import known_from


@dataclass(frozen=True, slots=True)
class Withheld:
    """A repair that would help, and must wait for a person."""

    message: str
    todo: str


def repairs_of(view: PoolView) -> list[Repair]:
    """In the order in which they are to be done: the later ones need the earlier ones."""
    if view.is_left_alone or view.case.stuck:
        return []
    first = mend_transaction(view) or take_over(view)
    if isinstance(first, Repair):
        return [first]
    return [*forget_lost(view), *delete_leaked(view), *detach_loops(view)]


# The pool's transaction id is another than the store's


def mend_transaction(view: PoolView) -> Repair | None:
    case, known = view.case, view.case.known
    found = _transaction(view)
    if known is None or not known.created or view.ids is None or found is None or found in expected_transactions(case):
        return None
    reason = plan_pool(case).reason if case.live.device is None else access_to(case).reason
    if reason is not Reason.METADATA_MISMATCH:
        return None
    mended = replace(known, transaction_id=found)
    if plan_pool(replace(case, known=mended)).reason in FINAL:
        return None  # something else is wrong, and this would not help
    return Repair(
        key=Key(case.name),
        what=f"record transaction {found} for pool {case.name}",
        why=f"the pool is at transaction {found}, the store expects {known.transaction_id}: somebody else changed the "
        "pool, or one of the two is an old copy",
        effect=(*_differences(view, view.ids), "nothing in the pool is changed; the store takes its word from then on"),
        steps=(KnowPool(Key(case.name), mended),),
    )


def _transaction(view: PoolView) -> int | None:
    """The pool's own: of the live pool, or of the metadata of one that is not."""
    live = view.case.live
    if live.device is None:
        return live.metadata.transaction_id
    return live.status.transaction_id if isinstance(live.status, PoolStatus) else None


def _differences(view: PoolView, ids: ThinIds) -> Iterator[str]:
    known = {device.thin_id: device for device in view.known.values()}
    strangers = leaked(view)
    if strangers:
        yield f"in the pool, and not known to the store: thin ids {listed(strangers, view.block)}"
    lost = [f"{device.key} (thin id {number})" for number, device in sorted(known.items()) if number not in ids]
    if lost:
        yield f"known to the store, and not in the pool: {', '.join(lost)}"
    yield from (f"{device.key}: {words}" for device, words in changed_thins(view))
    same = sum(1 for number in known if number in ids)
    yield f"known to both: {same} thin ids" if same != 1 else "known to both: 1 thin id"


def changed_thins(view: PoolView) -> list[tuple[KnownDevice, str]]:
    """Devices whose id is that of another thin by now."""
    found = []
    for device in view.known.values():
        entry = (view.ids or {}).get(device.thin_id)
        if entry is not None and device.created_at is not None and entry.created_at != device.created_at:
            words = (
                f"thin id {device.thin_id} was made at transaction {entry.created_at}, the device at "
                f"{device.created_at}: it is another thin"
            )
            found.append((device, words))
    return found


# The store has never seen the pool


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


# A thin that the store knows is not in the pool


def forget_lost(view: PoolView) -> list[Repair]:
    if view.ids is None or access_to(view.case).access is not Access.FULL:
        return []
    records = {record.key: record for record in view.records}
    busy = {intent.key for intent in view.case.intents}
    return [
        _forget_lost(device, records.get(device.key))
        for device in view.known.values()
        if device.thin_id not in view.ids
        and device.dm_name not in view.devices
        and device.key not in busy
        and not _is_let_be(records.get(device.key))
    ]


def _is_let_be(record: ThinDevice | None) -> bool:
    """Paused; or Absent, which is what it is."""
    return record is not None and (record.spec.paused or record.spec.state is DeviceState.ABSENT)


def _forget_lost(device: KnownDevice, record: ThinDevice | None) -> Repair:
    return Repair(
        key=device.key,
        what=f"forget device {device.key}",
        why=f"thin id {device.thin_id}, which it had, is not in the pool any more",
        effect=("its data is lost already: nothing brings it back but a copy of yours", _made_anew(device.key, record)),
        steps=(Forget(device.key),),
    )


def _made_anew(key: Key, record: ThinDevice | None) -> str:
    if record is None:
        return f"no record names {key}: nothing is made in its place"
    if record.spec.adopt is not None:
        return f"its record adopts thin id {record.spec.adopt.device_id}: change that, or take the record away"
    if record.spec.snapshot_of is not None:
        return f"the daemon makes it anew, as a snapshot of {record.spec.snapshot_of} as that is then"
    return "the daemon makes it anew, empty, as its record says"


# Thins that this store made and nobody names


def delete_leaked(view: PoolView) -> list[Repair]:
    """Only in a healthy pool, at the transaction that the store expects, with no operation under way."""
    status = view.case.live.status
    if access_to(view.case).access is not Access.FULL or view.case.intents or not isinstance(status, PoolStatus):
        return []
    return [
        _delete(view, number, status.transaction_id)
        for number, entry in leaked(view).items()
        if is_ours(view, number, entry) and not view.shown_by(number)
    ]


def _delete(view: PoolView, thin_id: int, transaction_id: int) -> Repair:
    former = view.former[thin_id]
    # No record can carry this name, so that the deletion, were it interrupted, is nobody else's.
    key = Key(view.name, f".leaked-{thin_id}")
    intent = Intent(key, IntentKind.DELETE, thin_id, transaction_id, uuid="", dm_name="", size=Sectors(0))
    entry = (view.ids or {})[thin_id]
    steps: tuple[Step, ...] = (
        Begin(key, intent),
        DeleteThin(view.name, thin_id, transaction_id),
        SetTransactionId(view.name, transaction_id),
        Finish(key, None),
    )
    size = format_size(entry.mapped_blocks * view.block)
    was = "" if former.device.startswith(".") else f", as {view.name}/{former.device}"
    return Repair(
        key=Key(view.name),
        what=f"delete thin id {thin_id} of pool {view.name}",
        why=f"this store made it{was}, at transaction {former.created_at} as the pool itself says, and has forgotten it "
        "since; no record names it, and no device shows it",
        effect=(f"the {size} of data in it are gone for good, and are free again in the pool",),
        steps=steps,
    )


# Loops on the files of a pool that is down


def detach_loops(view: PoolView) -> list[Repair]:
    case, record, known = view.case, view.case.record, view.case.known
    if known is None or case.live.device is not None:
        return []
    if record is not None and record.spec.state is PoolState.ACTIVE:
        return []  # the daemon activates it on them
    why = "no record names the pool" if record is None else f"its record says {record.spec.state}"
    return [
        Repair(
            key=Key(case.name),
            what=f"detach {backing.loops[0].path} from {path}",
            why=f"pool {case.name} is not live, {why}, and nothing uses the loop",
            effect=("the file stays as it is; the loop is free for others",),
            steps=(DetachLoop(path),),
        )
        for path, backing in ((known.data, case.live.data), (known.metadata, case.live.metadata))
        if len(backing.loops) == 1 and not backing.used_by
    ]
