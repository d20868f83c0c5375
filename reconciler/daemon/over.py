"""When `apply` has nothing left to wait for: all is as desired, or only a person can go on.

What waits for something that only a person can put right waits for that person too, however long it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reconciler.controller.desired import Desired
from reconciler.model.condition import FINAL, Reason
from reconciler.model.conditions import PoolStatusReport, Status
from reconciler.model.names import Key
from reconciler.model.records import PoolState
from reconciler.model.status import PoolMode

_DAMAGED: Final = frozenset({PoolMode.NEEDS_CHECK, PoolMode.FAIL})
"""No pool leaves these by itself."""
_OF_ITS_POOL: Final = frozenset({Reason.WAITING_FOR_POOL, Reason.POOL_UNHEALTHY})
"""What a device says of the pool that it is in."""


def is_over(statuses: Mapping[Key, Status], desired: Desired) -> bool:
    return all(status.good or _is_final(status, statuses, desired) for status in statuses.values())


def _is_final(status: Status, statuses: Mapping[Key, Status], desired: Desired) -> bool:
    """Whether no time changes it."""
    if status.reason in FINAL:
        return True
    key = status.key
    if not key.device:
        return isinstance(status, PoolStatusReport) and _is_damaged(status)
    if status.reason in _OF_ITS_POOL:
        return _is_final_of_pool(Key(key.pool), statuses, desired)
    if status.reason is Reason.WAITING_FOR_ORIGIN:
        return _is_final_of_origin(key, statuses, desired)
    return False


def _is_damaged(status: PoolStatusReport) -> bool:
    return status.reason is Reason.POOL_UNHEALTHY and status.mode in _DAMAGED


def _is_final_of_pool(key: Key, statuses: Mapping[Key, Status], desired: Desired) -> bool:
    pool, record = statuses.get(key), desired.pool(key.pool)
    if pool is None:
        return False
    if not pool.good:
        return _is_final(pool, statuses, desired)
    # One that is down as its record says brings nothing up; in any other an operation goes on, or a repair.
    return record is not None and (record.spec.paused or record.spec.state is not PoolState.ACTIVE)


def _is_final_of_origin(key: Key, statuses: Mapping[Key, Status], desired: Desired) -> bool:
    """Origins are no circle: the records were checked together. One that is not recorded has to be by a person."""
    record = desired.device(key)
    if record is None or record.spec.snapshot_of is None:
        return False
    origin = Key(key.pool, record.spec.snapshot_of)
    status = statuses.get(origin)
    if status is None:
        return desired.device(origin) is None
    return not status.good and _is_final(status, statuses, desired)
