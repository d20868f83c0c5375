"""What is stored of a pool, and how each step changes it, as pure functions. `tables` writes the difference.

Repeating a step right after itself changes nothing. A step that contradicts what is stored raises StoreError.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

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
from reconciler.model.stored import Intent, IntentKind, StoredDevice, StoredPool
from reconciler.store.errors import StoreError, contradiction

THIN_IDS: Final = 2**24
"""Thin ids are 24-bit numbers (kernel documentation of thin provisioning)."""


class IdUse(StrEnum):
    DEVICE = "device"
    INTENT = "intent"
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class IdOwner:
    """Why an id may not be handed out."""

    held_as: IdUse
    device: str = ""
    """The device that has the id. For a taken id: the device that had it before it was forgotten, or empty if the id is
    another program's.
    """
    created_at: int | None = None
    """The pool's transaction id when the thin was made; only for a thin that this store made and then forgot."""


_TAKEN: Final = IdOwner(IdUse.TAKEN)


@dataclass(frozen=True, slots=True)
class StoredPoolState:
    """All that is stored of one pool. Mappings are never changed in place, so that readers need no lock."""

    pool: StoredPool | None = None
    devices: Mapping[str, StoredDevice] = field(default_factory=dict)
    intent: Intent | None = None
    ids: Mapping[int, IdOwner] = field(default_factory=dict)
    last_thin_id: int = -1
    """The id that was handed out last."""


def free_thin_id(known: StoredPoolState, also_taken: Container[int]) -> int | None:
    """The next id after the last one, so that a freed id is reused only after all others."""
    for step in range(1, THIN_IDS + 1):
        thin_id = (known.last_thin_id + step) % THIN_IDS
        if thin_id not in known.ids and thin_id not in also_taken:
            return thin_id
    return None


def after(known: StoredPoolState, step: StoreStep) -> StoredPoolState:
    """The state after the step."""
    match step:
        case SavePool():
            return _know_pool(known, step)
        case ForgetRecord(key=key):
            return _forget(known, key)
        case _ if known.pool is None:
            raise contradiction(step.key, f"{type(step).__name__} in a pool that is not known")
        case BeginIntent(intent=intent):
            return _begin(known, known.pool, intent)
        case MarkCreated(key=key):
            return replace(known, intent=replace(_open_intent(known, key), made=True))
        case CompleteIntent(key=key, device=device):
            return _finish(known, known.pool, key, device)
        case AbortIntent(key=key, transaction_id=transaction_id):
            return _abandon(known, known.pool, key, transaction_id)
        case MarkThinIdTaken(key=key, thin_id=thin_id):
            return _note_taken(known, key, thin_id)
        case SaveDevice(device=device):
            return _know_device(known, device)
        case _:
            raise contradiction(step.key, f"a step of a kind that the store does not know, {type(step).__name__}")


def _begin(known: StoredPoolState, pool: StoredPool, intent: Intent) -> StoredPoolState:
    if known.intent is not None and replace(known.intent, made=intent.made) == intent:
        return known
    if known.intent is not None:
        raise contradiction(intent.key, f"cannot begin a {intent.kind} before that of {known.intent.key} has ended")
    if pool.external:
        raise contradiction(intent.key, f"cannot begin a {intent.kind} in a pool of somebody else's")
    if not 0 <= intent.thin_id < THIN_IDS:
        raise contradiction(intent.key, f"{intent.thin_id} is no thin id")
    holder = known.ids.get(intent.thin_id)
    if intent.kind is IntentKind.DELETE:
        return _begin_delete(known, intent, holder)
    if holder is not None:
        raise contradiction(intent.key, f"thin id {intent.thin_id} is not free, it is held as {holder.held_as}")
    if intent.key.device in known.devices:
        raise contradiction(intent.key, f"cannot begin a {intent.kind}, it is known already")
    reserved = {**known.ids, intent.thin_id: IdOwner(IdUse.INTENT, intent.key.device)}
    return replace(known, intent=intent, ids=reserved, last_thin_id=intent.thin_id)


def _begin_delete(known: StoredPoolState, intent: Intent, holder: IdOwner | None) -> StoredPoolState:
    """Begins a deletion. The id stays with its device until the thin is seen to be gone; a leaked id has no device."""
    if holder == IdOwner(IdUse.DEVICE, intent.key.device):
        return replace(known, intent=intent)
    if holder is not None and holder.held_as is IdUse.DEVICE:
        raise contradiction(intent.key, f"cannot delete thin id {intent.thin_id}, it is that of {holder.device}")
    created_at = None if holder is None else holder.created_at
    reserved = {**known.ids, intent.thin_id: IdOwner(IdUse.INTENT, intent.key.device, created_at)}
    return replace(known, intent=intent, ids=reserved)


def _finish(known: StoredPoolState, pool: StoredPool, key: Key, device: StoredDevice | None) -> StoredPoolState:
    if known.intent is None and known.devices.get(key.device) == device:
        return known
    intent = _open_intent(known, key)
    pool = _at_transaction(pool, intent.transaction_id + 1)
    if device is None:
        return replace(_without_device(known, intent), pool=pool, intent=None)
    if intent.kind is IntentKind.DELETE or (device.key, device.thin_id) != (key, intent.thin_id):
        raise contradiction(key, f"a {intent.kind} of thin id {intent.thin_id} cannot end with another device")
    if known.ids.get(intent.thin_id) != IdOwner(IdUse.INTENT, key.device):
        raise contradiction(key, f"thin id {intent.thin_id} was found to be somebody else's")
    return replace(
        known,
        pool=pool,
        intent=None,
        devices={**known.devices, key.device: device},
        ids={**known.ids, intent.thin_id: IdOwner(IdUse.DEVICE, key.device)},
    )


def _without_device(known: StoredPoolState, intent: Intent) -> StoredPoolState:
    holder = known.ids.get(intent.thin_id)
    if holder is None or holder.held_as is IdUse.TAKEN:
        return known
    ids = {thin_id: held for thin_id, held in known.ids.items() if thin_id != intent.thin_id}
    if holder.held_as is IdUse.INTENT:
        return replace(known, ids=ids)
    devices = {name: device for name, device in known.devices.items() if name != holder.device}
    return replace(known, ids=ids, devices=devices)


def _abandon(known: StoredPoolState, pool: StoredPool, key: Key, transaction_id: int) -> StoredPoolState:
    if known.intent is None:
        return known
    intent = _open_intent(known, key)
    ids = dict(known.ids)
    holder = ids.get(intent.thin_id)
    if holder is not None and holder.held_as is IdUse.INTENT:
        del ids[intent.thin_id]
        # A thin that was not seen to be deleted still exists.
        if intent.kind is IntentKind.DELETE:
            ids[intent.thin_id] = replace(holder, held_as=IdUse.TAKEN) if holder.created_at is not None else _TAKEN
    return replace(known, pool=_at_transaction(pool, transaction_id), intent=None, ids=ids)


def _note_taken(known: StoredPoolState, key: Key, thin_id: int) -> StoredPoolState:
    """Marks an id as somebody else's; also that of an open intent, whose create found a thin of another program."""
    holder = known.ids.get(thin_id)
    if not 0 <= thin_id < THIN_IDS:
        raise contradiction(key, f"{thin_id} is no thin id")
    if holder is not None and holder.held_as is IdUse.DEVICE:
        raise contradiction(key, f"thin id {thin_id} is that of {holder.device}, not somebody else's")
    return replace(known, ids={**known.ids, thin_id: _TAKEN})


def _know_device(known: StoredPoolState, device: StoredDevice) -> StoredPoolState:
    key = device.key
    if not 0 <= device.thin_id < THIN_IDS:
        raise contradiction(key, f"{device.thin_id} is no thin id")
    ours = IdOwner(IdUse.DEVICE, key.device)
    holder = known.ids.get(device.thin_id)
    adopts = device.adopted and holder is not None and holder.held_as is IdUse.TAKEN
    if holder not in {None, ours} and not adopts:
        raise contradiction(key, f"thin id {device.thin_id} is not its own")
    if adopts and known.intent is not None and known.intent.thin_id == device.thin_id:
        raise contradiction(key, f"thin id {device.thin_id} is still in the {known.intent.kind} of {known.intent.key}")
    ids = {**known.ids, device.thin_id: ours}
    before = known.devices.get(key.device)
    if before is not None and before.thin_id != device.thin_id:
        # The adoption was changed to another thin; the former thin is still in the pool.
        ids[before.thin_id] = _left_by(before)
    return replace(known, devices={**known.devices, key.device: device}, ids=ids)


def _know_pool(known: StoredPoolState, step: SavePool) -> StoredPoolState:
    pool = step.pool
    if pool.name != step.key.pool:
        raise contradiction(step.key, f"what is to be known is of another pool, {pool.name}")
    return replace(known, pool=replace(pool, taken_over_at=_taken_over_at(known.pool, step)))


def _taken_over_at(before: StoredPool | None, step: SavePool) -> int | None:
    """The transaction id at which the pool was taken over, or None.

    Every change by which a pool becomes known, or gets a transaction id that is not from this store's own operations,
    passes here: adoption, rebuilding, and a repair after an older copy of the store.
    """
    pool = step.pool
    if before is not None and before.external:
        before = None  # of an external pool, the store knows only what it adopted
    kept = before.taken_over_at if before is not None else None
    if not pool.created or pool.external or step.empty:
        return kept
    if before is not None and before.transaction_id == pool.transaction_id:
        return kept
    return max(pool.transaction_id, -1 if kept is None else kept)


def _forget(known: StoredPoolState, key: Key) -> StoredPoolState:
    """Forgets a pool with everything in it, or a device. The device's id is not free then: its thin may still exist."""
    if not key.device:
        return StoredPoolState()
    if known.intent is not None and known.intent.key == key:
        raise StoreError(
            f"{key}: its {known.intent.kind} is not finished: let `run` or `apply` finish it, then forget it"
        )
    device = known.devices.get(key.device)
    if device is None:
        return known
    devices = {name: other for name, other in known.devices.items() if name != key.device}
    return replace(known, devices=devices, ids={**known.ids, device.thin_id: _left_by(device)})


def _left_by(device: StoredDevice) -> IdOwner:
    """What is kept of a thin that no device has any more. When it was made is only known if it was not adopted."""
    return IdOwner(IdUse.TAKEN, device.key.device, None if device.adopted else device.created_at)


def _open_intent(known: StoredPoolState, key: Key) -> Intent:
    if known.intent is None or known.intent.key != key:
        raise contradiction(key, "no operation on it has begun")
    return known.intent


def _at_transaction(pool: StoredPool, transaction_id: int) -> StoredPool:
    return pool if pool.external else replace(pool, transaction_id=transaction_id)
