"""A step that did not work, as a condition: errno decides, never a message's text."""

from __future__ import annotations

import errno

from reconciler.model.condition import DRIFT, Condition, Reason
from reconciler.model.errors import HostFault, NotBegun, NothingDone, Unanswered
from reconciler.model.live import LiveState
from reconciler.model.steps import Activate, CheckMetadata, CreateSnapshot, Load, Step

_ADVICE = "it is tried again, each time a little later; `dm-reconciler doctor` looks for causes"


def condition_of(found: Condition, step: Step, fault: HostFault) -> Condition:
    """What is said while a step does not work. What it was to mend stays visible beneath."""
    beneath = found.reason if found.reason in DRIFT else found.beneath
    if isinstance(fault, Unanswered):
        return Condition(Reason.STUCK, str(fault), LiveState.UNKNOWN, beneath=beneath)
    if isinstance(step, CreateSnapshot) and isinstance(fault, NotBegun) and fault.errno != errno.EIO:
        return Condition(Reason.WAITING_FOR_ORIGIN, str(fault), found.live, beneath=beneath)
    if isinstance(fault, NothingDone):
        # Its record asks for what is not there: only a person can say which of the two is right.
        advice = "put the type in its record right, or take `filesystem` out of it, and nothing is grown"
        return Condition(Reason.INVALID_CHANGE, f"{fault}; {advice}", found.live, beneath=beneath)
    if isinstance(step, CheckMetadata) and fault.errno == errno.EUCLEAN:
        return Condition(Reason.POOL_UNHEALTHY, str(fault), found.live, beneath=beneath)
    if isinstance(step, Activate | Load) and fault.errno == errno.ENODATA:
        message = f"{fault}: its thin is not in the pool, so its data is lost; nothing is made in its place"
        return Condition(Reason.METADATA_MISMATCH, message, found.live, beneath=beneath)
    if fault.errno in {errno.EBUSY, errno.EAGAIN}:
        return Condition(Reason.BUSY, f"{fault}; it is tried again", found.live, beneath=beneath)
    return Condition(Reason.KERNEL_ERROR, f"{fault}; {_ADVICE}", found.live, beneath=beneath)
