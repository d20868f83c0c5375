"""Decides what may be done while a worker hangs: resume what somebody else suspended, and nothing more.

The worker may hang because of that very suspension, which nobody else would end. The plans are the ordinary ones, so
that nothing is resumed here that would not be resumed otherwise; only their first steps are taken, up to a resume. The
worker may still be inside its own step: what that step has suspended is left to it.
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
    """What a hanging worker may be waiting for: a suspended device below the pool, or the pool; None for neither."""
    below = facts.live.suspended_below
    if below:
        names = ", ".join(device.name for device in below)
        return f"{names}, which the pool lies on, is suspended: `dmsetup resume {below[0].name}`, if nobody is at work there"
    device = facts.live.device
    return (
        f"the pool itself, {device.info.name}, is suspended" if device is not None and device.info.suspended else None
    )


def rescue_of_pool(facts: PoolFacts) -> tuple[HostStep, ...]:
    """Resumes the pool, before its devices are resumed: a resume of a device hangs as long as the pool is suspended."""
    return _resuming(plan_pool(facts).steps, facts.grace)


def rescue_of_device(facts: DeviceFacts, private: Grace, origins: Collection[str]) -> tuple[HostStep, ...]:
    """Resumes a device. `private` is the grace of its private device, `origins` those of snapshots under way."""
    plan = plan_device(facts)
    if facts.pool_record is None or facts.access.access is Access.NONE or plan.reason is Reason.PAUSED:
        return ()
    if facts.key.device in origins:
        return ()  # the worker has suspended it for a snapshot, which would not be of one moment if it were resumed now
    if facts.private is not None:
        return _private(facts, facts.private, private)
    if facts.intent is not None:
        return ()  # the worker is in the middle of this, and takes it up again itself
    return _resuming(plan.steps, facts.grace)


def _private(facts: DeviceFacts, device: LiveDevice, grace: Grace) -> tuple[HostStep, ...]:
    """Resumes the private device, which only the present step uses, so only its suspension can be somebody else's."""
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
    """Whether the grace has passed, also for a suspension by the store, which the worker may be about to end."""
    return grace.left(Sign.SUSPENDED) <= 0
