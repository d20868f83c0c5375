"""The repairs that `doctor --fix` offers for one pool. None uses force, and none touches what is not this store's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reconciler.doctor.checks import PoolView, Repair, is_ours, leaked, listed
from reconciler.doctor.take_over import Withheld, found_again, take_over, unreadable, withheld
from reconciler.model.conditions import FINAL, Reason
from reconciler.model.dm_tables import PoolStatus
from reconciler.model.live import ThinIds
from reconciler.model.names import Key
from reconciler.model.records import DeviceState, PoolState, ThinDevice
from reconciler.model.steps import (
    BeginIntent,
    CompleteIntent,
    DeleteThin,
    DetachLoop,
    ForgetRecord,
    SaveDevice,
    SavePool,
    SetTransactionId,
    Step,
)
from reconciler.model.stored import Intent, IntentKind, StoredDevice
from reconciler.model.units import Sectors, format_size
from reconciler.planner.facts import Access
from reconciler.planner.ownership import access_to, expected_transactions
from reconciler.planner.pool import plan_pool
from reconciler.planner.pool_identity import another_disk, other_content
from reconciler.planner.pool_shape import backings


def repairs_of(view: PoolView) -> list[Repair]:
    """The repairs in the order in which they are to be made: later ones depend on earlier ones."""
    if view.is_left_alone or view.facts.stuck:
        return []
    first = first_of(view)
    if isinstance(first, Repair):
        return [first]
    if first is not None:
        return []
    return [*forget_lost(view), *delete_leaked(view), *detach_loops(view)]


def first_of(view: PoolView) -> Repair | Withheld | None:
    """What makes store and pool agree again. While it waits for a person, all other repairs wait too."""
    return mend_transaction(view) or take_what_is_there(view) or take_over(view)


# A pool that is down is on another disk or file than before, or their content has changed


def take_what_is_there(view: PoolView) -> Repair | None:
    facts, record, known = view.facts, view.facts.record, view.facts.known
    if known is None or record is None or not known.created or known.noted is None or facts.live.device is not None:
        return None
    why = another_disk(facts, record, known) or other_content(facts, known)
    taken = replace(known, noted=None)
    if not why or plan_pool(replace(facts, known=taken)).reason in FINAL:
        return None  # nothing is wrong, or something else is, which this repair does not mend
    data, metadata = backings(record)
    return Repair(
        key=Key(facts.name),
        what=f"take {data.path} and {metadata.path} for what pool {facts.name} lies on",
        why=why.partition(". ")[0],
        effect=(
            "nothing is written now; the pool is brought up on them next, and its devices write to them",
            f"if {data.path} is not the pool's data, what is on it is lost then, and the pool's devices show that",
        ),
        steps=(SavePool(Key(facts.name), taken),),
    )


# The pool's transaction id differs from the one in the store


def mend_transaction(view: PoolView) -> Repair | Withheld | None:
    facts, known = view.facts, view.facts.known
    found = _transaction(view)
    if known is None or not known.created or found is None or found in expected_transactions(facts):
        return None
    if Reason.METADATA_MISMATCH not in {plan_pool(facts).reason, access_to(facts).reason}:
        return None
    # At another transaction the metadata has changed too, so the disks stay noted and their content does not.
    noted = None if known.noted is None else replace(known.noted, superblock="", start=None)
    mended = replace(known, transaction_id=found, noted=noted)
    if plan_pool(replace(facts, known=mended)).reason in FINAL:
        return None  # something else is wrong, which this repair does not mend
    apart = f"the pool is at transaction {found}, the store expects {known.transaction_id}"
    could = f"{apart}: that could be recorded"
    if view.ids is None:
        return unreadable(view, could)
    again = found_again(view, view.ids)
    return withheld(view, again, could) or Repair(
        key=Key(facts.name),
        what=f"record transaction {found} for pool {facts.name}",
        why=f"{apart}: somebody else changed the pool, or one of the two is an old copy",
        effect=(
            *_differences(view, view.ids),
            *(f"{device.key} is thin id {device.thin_id} again, which it shows" for device in again.values()),
            "nothing in the pool is changed; the store takes its word from then on",
        ),
        steps=(SavePool(Key(facts.name), mended), *(SaveDevice(device.key, device) for device in again.values())),
    )


def _transaction(view: PoolView) -> int | None:
    """The transaction id from the live pool, or from the metadata of a pool that is not live."""
    live = view.facts.live
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


def changed_thins(view: PoolView) -> list[tuple[StoredDevice, str]]:
    """Devices whose thin id belongs to another thin by now."""
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


# A thin that the store knows is not in the pool


def forget_lost(view: PoolView) -> list[Repair]:
    if view.ids is None or access_to(view.facts).access is not Access.FULL:
        return []
    records = {record.key: record for record in view.records}
    busy = {intent.key for intent in view.facts.intents}
    return [
        _forget_lost(device, records.get(device.key))
        for device in view.known.values()
        if device.thin_id not in view.ids
        and device.dm_name not in view.devices
        and device.key not in busy
        and not _is_let_be(records.get(device.key))
    ]


def _is_let_be(record: ThinDevice | None) -> bool:
    """Whether the record is paused, or Absent and therefore as desired."""
    return record is not None and (record.spec.paused or record.spec.state is DeviceState.ABSENT)


def _forget_lost(device: StoredDevice, record: ThinDevice | None) -> Repair:
    return Repair(
        key=device.key,
        what=f"forget device {device.key}",
        why=f"thin id {device.thin_id}, which it had, is not in the pool any more",
        effect=("its data is lost already: nothing brings it back but a copy of yours", _made_anew(device.key, record)),
        steps=(ForgetRecord(device.key),),
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
    """Offers to delete leaked thins, in a healthy pool at the expected transaction and without an open intent."""
    status = view.facts.live.status
    if not access_to(view.facts).may_delete or view.facts.intents or not isinstance(status, PoolStatus):
        return []
    return [
        _delete(view, number, status.transaction_id)
        for number, entry in leaked(view).items()
        if is_ours(view, number, entry) and not view.shown_by(number) and not _is_missed(view, number)
    ]


def _is_missed(view: PoolView, thin_id: int) -> bool:
    """Whether a record of the thin's former name waits for its data, or for the operator's word that it is not."""
    record = view.facts.record
    if record is not None and thin_id in record.spec.foreign_thins:
        return False
    waiting = {each.key.device for each in view.records if each.spec.state is not DeviceState.ABSENT} - set(view.known)
    return view.former[thin_id].device in waiting


def _delete(view: PoolView, thin_id: int, transaction_id: int) -> Repair:
    former = view.former[thin_id]
    # No record can have this name, so an interrupted deletion cannot be taken for another device's.
    key = Key(view.name, f".leaked-{thin_id}")
    intent = Intent(key, IntentKind.DELETE, thin_id, transaction_id, uuid="", dm_name="", size=Sectors(0))
    entry = (view.ids or {})[thin_id]
    steps: tuple[Step, ...] = (
        BeginIntent(key, intent),
        DeleteThin(view.name, thin_id, transaction_id),
        SetTransactionId(view.name, transaction_id),
        CompleteIntent(key, None),
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
    facts, record, known = view.facts, view.facts.record, view.facts.known
    if known is None or facts.live.device is not None:
        return []
    if record is not None and record.spec.state is PoolState.ACTIVE:
        return []  # the daemon will use these loops when it activates the pool
    why = "no record names the pool" if record is None else f"its record says {record.spec.state}"
    return [
        Repair(
            key=Key(facts.name),
            what=f"detach {backing.loops[0].path} from {path}",
            why=f"pool {facts.name} is not live, {why}, and nothing uses the loop",
            effect=("the file stays as it is; the loop is free for others",),
            steps=(DetachLoop(path),),
        )
        for path, backing in ((known.data, facts.live.data), (known.metadata, facts.live.metadata))
        if len(backing.loops) == 1 and not backing.used_by
    ]
