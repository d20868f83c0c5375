"""A live pool that is unwell: each cause is told apart, and what is safe without a person is done.

The kernel says `ro` of several things. A pool whose metadata is full is whole, and goes on once that has room: its mode
changes as the longer metadata device is taken into use (observed on 6.1). So what grows a pool comes here too, and is
not kept back by what it mends. A pool with needs_check does not grow: the kernel refuses that until it is repaired.
"""

from __future__ import annotations

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import PoolStatus
from reconciler.model.records import ThinPool
from reconciler.model.steps import LoadPool, PoolShape
from reconciler.planner.access import expected_transactions
from reconciler.planner.facts import PoolCase
from reconciler.planner.plan import Plan
from reconciler.planner.pool_cause import Cause, cause_of, words_of
from reconciler.planner.pool_shape import plan_size, pool_low
from reconciler.planner.pool_words import find


def plan_health(case: PoolCase, record: ThinPool, shape: PoolShape) -> Plan | None:
    """The rows of what is unwell, with what mends it where that is safe without a person."""
    status = case.live.status
    if status is None:
        return find(case, Reason.POOL_UNHEALTHY, f"pool {case.name} did not tell its status")
    cause = cause_of(case)
    if cause is Cause.READ_ONLY_TABLE:
        message = f"the table of pool {case.name} says read_only, and its record does not: nothing is wrong with it"
        return find(case, Reason.POOL_TABLE_WRONG, f"{message}, so it is loaded without").but(
            LoadPool(record.dm_name, shape)
        )
    if cause is Cause.METADATA_FULL:
        return more_metadata(case, record, shape)
    if cause is not None:
        return find(case, Reason.POOL_UNHEALTHY, words_of(case, cause))
    if isinstance(status, PoolStatus) and status.transaction_id not in expected_transactions(case):
        return _at_another_transaction(case, record, shape, status)
    return None


def more_metadata(case: PoolCase, record: ThinPool, shape: PoolShape) -> Plan:
    """Nothing is damaged: what its record, its device or `extend` gives it more is taken into use while it is up."""
    found = plan_size(case, record, shape, whole=True) or pool_low(case, record, shape)
    return found or find(case, Reason.POOL_UNHEALTHY, words_of(case, Cause.METADATA_FULL))


def _at_another_transaction(case: PoolCase, record: ThinPool, shape: PoolShape, status: PoolStatus) -> Plan:
    """Nothing is created or deleted. Room for what is written harms nobody, whoever has changed the pool."""
    expected = " or ".join(str(number) for number in sorted(expected_transactions(case)))
    message = (
        f"pool {case.name} is at transaction {status.transaction_id}, the store expects {expected}: somebody else "
        f"changed it, or the store is an old copy. Nothing is created or deleted until `dm-reconciler doctor --fix`"
    )
    growing = plan_size(case, record, shape) or pool_low(case, record, shape)
    if growing is None:
        return find(case, Reason.METADATA_MISMATCH, message)
    return find(case, Reason.METADATA_MISMATCH, f"{message}. Besides, {growing.condition.message}").but(*growing.steps)


def plan_damage(case: PoolCase) -> Plan | None:
    """A pool that only a person can bring back, with the words how; of one that the store does not know."""
    cause = cause_of(case)
    return None if cause is None else find(case, Reason.POOL_UNHEALTHY, words_of(case, cause))
