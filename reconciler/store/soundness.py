"""What is known, held against itself: rows that can be read and still cannot be true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from reconciler.model.names import DM_NAME_PATTERN, NAME_PATTERN, Key
from reconciler.model.stored import Intent, KnownDevice, KnownPool
from reconciler.store.transitions import THIN_IDS, HeldAs, Holder, PoolKnowledge

_NAME: Final = re.compile(NAME_PATTERN[1:-1])
_DM_NAME: Final = re.compile(DM_NAME_PATTERN[1:-1])
_LONGEST_UUID: Final = 128


def problem_of(name: str, known: PoolKnowledge) -> str:
    """Why this cannot be what a pool of that name is; empty if it can."""
    return next(_problems(name, known), "")


def pool_problem(name: str, pool: KnownPool) -> str:
    if pool.name != name or not _NAME.fullmatch(name):
        return f"what is known of pool {name!r} is of {pool.name!r}"
    if min(pool.transaction_id, pool.block, pool.data_size, pool.metadata_size, pool.taken_over_at or 0) < 0:
        return f"pool {name} has a number below 0"
    if not set(pool.made_files) <= {pool.data, pool.metadata}:
        return f"pool {name} has made files that it does not lie on"
    return ""


def device_problem(key: Key, device: KnownDevice) -> str:
    if device.key != key or not _NAME.fullmatch(key.pool) or not _NAME.fullmatch(key.device):
        return f"what is known of device {str(key)!r} is of {str(device.key)!r}"
    if not _DM_NAME.fullmatch(device.dm_name) or len(device.uuid) > _LONGEST_UUID:
        return f"device {key} has a name that no device can have"
    if not 0 <= device.thin_id < THIN_IDS:
        return f"device {key} has thin id {device.thin_id}, which is none"
    if min(device.size, device.filesystem_size, device.created_at or 0) < 0:
        return f"device {key} has a number below 0"
    return ""


def _problems(name: str, known: PoolKnowledge) -> Iterator[str]:
    if known.pool is not None and (problem := pool_problem(name, known.pool)):
        yield problem
    if not -1 <= known.last_thin_id < THIN_IDS:
        yield f"pool {name} has handed out thin id {known.last_thin_id}, which is none"
    for device_name, device in known.devices.items():
        if problem := device_problem(Key(name, device_name), device):
            yield problem
        if known.ids.get(device.thin_id) != Holder(HeldAs.DEVICE, device_name):
            yield f"thin id {device.thin_id} of device {name}/{device_name} is not held for it"
    for thin_id, holder in known.ids.items():
        if problem := _holder_problem(known, thin_id, holder):
            yield f"pool {name}: {problem}"
    if known.intent is not None and (problem := _intent_problem(name, known, known.intent)):
        yield problem


def _holder_problem(known: PoolKnowledge, thin_id: int, holder: Holder) -> str:
    if not 0 <= thin_id < THIN_IDS:
        return f"{thin_id} is no thin id"
    if holder.created_at is not None and holder.created_at < 0:
        return f"thin id {thin_id} was made at {holder.created_at}"
    device = known.devices.get(holder.device)
    if holder.held_as is HeldAs.DEVICE and (device is None or device.thin_id != thin_id):
        return f"thin id {thin_id} is held for device {holder.device!r}, which has another or is not known"
    if holder.held_as is HeldAs.INTENT and (known.intent is None or known.intent.thin_id != thin_id):
        return f"thin id {thin_id} is held for an operation that is not under way"
    return ""


def _intent_problem(name: str, known: PoolKnowledge, intent: Intent) -> str:
    if intent.key.pool != name:
        return f"an operation in pool {name} is of {str(intent.key)!r}"
    if intent.thin_id not in known.ids:
        return f"the {intent.kind} of {intent.key} is of thin id {intent.thin_id}, which is not held for it"
    if intent.dm_name and not _DM_NAME.fullmatch(intent.dm_name):
        return f"the {intent.kind} of {intent.key} has a name that no device can have"
    if min(intent.transaction_id, intent.size) < 0:
        return f"the {intent.kind} of {intent.key} has a number below 0"
    return ""
