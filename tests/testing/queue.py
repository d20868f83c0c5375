"""What a test asks of the controller's queue."""

from __future__ import annotations

from reconciler.controller.queue import WorkQueue


def next_due(queue: WorkQueue, pool: str) -> float | None:
    """When the pool's next key is due, in seconds of the queue's clock; None if it has none."""
    return min(queue._due.get(pool, {}).values(), default=None)
