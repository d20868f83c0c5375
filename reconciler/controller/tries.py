"""What did not work is not tried again before its time, however often events have it looked at meanwhile."""

from __future__ import annotations

from reconciler.controller.queue import WorkQueue
from reconciler.model.condition import Condition
from reconciler.model.names import Key
from reconciler.model.status import PoolStatus
from reconciler.planner.cases import DeviceCase
from reconciler.planner.plan import Plan


class Tries:
    """Of one pool's keys. Other circumstances are another matter: then it is tried at once."""

    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue
        self._failed: dict[Key, tuple[object, Condition]] = {}

    def failed(self, key: Key, circumstances: object, condition: Condition) -> None:
        """With what is said of it."""
        self._failed[key] = circumstances, condition

    def forget(self) -> None:
        """New records: all of it may work now."""
        self._failed.clear()

    def standing(self, key: Key, circumstances: object) -> Condition | None:
        """What was said when the same failed the last time. It stands until a try works, also while one is made."""
        before, condition = self._failed.get(key, (None, None))
        return condition if before == circumstances else None

    def is_too_early(self, key: Key) -> bool:
        """Whether its next try is still to come: the queue has it then."""
        return self._queue.hold(key)


def circumstances_of(case: DeviceCase, plan: Plan) -> object:
    """What bears on whether the plan's steps work. Not the ids in them, which are others each time, nor what is written
    to a device meanwhile.
    """
    pool: object = case.pool.status
    if isinstance(pool, PoolStatus):
        pool = pool.mode, pool.data_total, pool.metadata_total
    live = None if case.live is None else (case.live.info, case.live.table)
    return case.record, pool, live, plan.reason, [type(step) for step in plan.steps]
