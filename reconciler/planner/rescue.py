"""What may be done beside a worker that hangs: resume what somebody else suspended, and nothing more.

It may hang because of just that suspension, and nobody else would end it. The plans are those of the ordinary rows, so
that nothing is resumed here that would not be resumed there; of their steps, only the first are taken, up to a resume.
The worker may still be in the midst of its own step: what that step has suspended itself is left to it.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import takewhile

from reconciler.model.conditions import Reason
from reconciler.model.live import LiveDevice
from reconciler.model.steps import Clear, HostStep, Resume, Step
from reconciler.planner.device import plan_device
from reconciler.planner.device_findings import hangs
from reconciler.planner.facts import Access, DeviceFacts, Grace, PoolFacts
from reconciler.planner.ownership import is_private_of
from reconciler.planner.plan import Sign
from reconciler.planner.pool import plan_pool


def suspended_in(facts: PoolFacts) -> str | None:
    """What a worker that hangs may be waiting for: a suspended device below the pool, or the pool. None for neither."""
    below = facts.live.suspended_below
    if below:
        names = ", ".join(device.name for device in below)
        return f"{names}, which the pool lies on, is suspended: `dmsetup resume {below[0].name}`, if nobody is at work there"
    device = facts.live.device
    return (
        f"the pool itself, {device.info.name}, is suspended" if device is not None and device.info.suspended else None
    )


def rescue_of_pool(facts: PoolFacts) -> tuple[HostStep, ...]:
    """Before that of its devices: with the pool suspended, a resume of one of them would hang too."""
    return _resuming(plan_pool(facts).steps, facts.grace)


def rescue_of_device(facts: DeviceFacts, private: Grace, origins: Collection[str]) -> tuple[HostStep, ...]:
    """`private` is the grace of its private device; `origins` are the devices of which a snapshot is under way."""
    plan = plan_device(facts)
    if facts.pool_record is None or facts.access.access is Access.NONE or plan.reason is Reason.PAUSED:
        return ()
    if facts.key.device in origins:
        return ()  # the worker has suspended it: resumed now, its snapshot would be of no one moment
    if facts.private is not None:
        return _private(facts, facts.private, private)
    if facts.intent is not None:
        return ()  # what the worker is at, which takes it up again itself
    return _resuming(plan.steps, facts.grace)


def _private(facts: DeviceFacts, device: LiveDevice, grace: Grace) -> tuple[HostStep, ...]:
    """In use by the step at hand, and to nobody else: only its suspension is a stranger's."""
    if not hangs(device) or not is_private_of(device.info, facts.new_uuid) or not _is_over(grace):
        return ()
    clear = (Clear(device.info.name),) if device.info.inactive_table else ()
    return (*clear, Resume(device.info.name))


def _resuming(steps: Collection[Step], grace: Grace) -> tuple[HostStep, ...]:
    first = tuple(step for step in takewhile(_resumes, steps) if isinstance(step, HostStep))
    if not any(isinstance(step, Resume) for step in first) or not _is_over(grace):
        return ()
    return first


def _resumes(step: Step) -> bool:
    return isinstance(step, Clear | Resume)


def _is_over(grace: Grace) -> bool:
    """Also for what the store takes for its own suspension: the worker may be about to resume it."""
    return grace.left(Sign.SUSPENDED) <= 0
