"""What is said of a record: one reason, one message, one live state."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reconciler.model.live import LiveState


class Reason(StrEnum):
    """Every reason that status, events and metrics can carry."""

    # Drift: found, and being healed (or reported, where the text of the reason says so).
    NOT_CREATED = "NotCreated"
    INACTIVE_BUT_DESIRED_ACTIVE = "InactiveButDesiredActive"
    ACTIVE_BUT_DESIRED_INACTIVE = "ActiveButDesiredInactive"
    COMMITTED_BUT_ACTIVE = "CommittedButActive"
    SUSPENDED = "Suspended"
    WRONG_TABLE = "WrongTable"
    WRONG_SIZE = "WrongSize"
    INACTIVE_TABLE_LEFT = "InactiveTableLeft"
    TABLELESS_SHELL = "TablelessShell"
    DEFERRED_REMOVE_PENDING = "DeferredRemovePending"
    NODE_MISSING = "NodeMissing"
    PRESENT_BUT_DESIRED_ABSENT = "PresentButDesiredAbsent"
    ORPHANED = "Orphaned"
    LEAKED_THIN_ID = "LeakedThinId"
    POOL_MISSING = "PoolMissing"
    POOL_SUSPENDED = "PoolSuspended"
    POOL_TABLE_WRONG = "PoolTableWrong"
    POOL_LOW = "PoolLow"
    LOOP_DETACHED = "LoopDetached"
    # Not ready, though nothing is being done.
    BUSY = "Busy"
    CONFLICT = "Conflict"
    POOL_UNHEALTHY = "PoolUnhealthy"
    WAITING_FOR_POOL = "WaitingForPool"
    WAITING_FOR_ORIGIN = "WaitingForOrigin"
    PAUSED = "Paused"
    INVALID_CHANGE = "InvalidChange"
    METADATA_MISMATCH = "MetadataMismatch"
    KERNEL_ERROR = "KernelError"
    STUCK = "Stuck"
    # As it should be.
    CONVERGED = "Converged"


DRIFT: Final = frozenset(list(Reason)[: list(Reason).index(Reason.LOOP_DETACHED) + 1])
"""Reasons that count as drift, each with an episode and a heal time."""

FINAL: Final = frozenset({Reason.CONFLICT, Reason.INVALID_CHANGE, Reason.METADATA_MISMATCH})
"""Only a person can end these: `apply` does not wait for them."""

GOOD: Final = frozenset({Reason.CONVERGED, Reason.PAUSED})
"""These do not make `apply` fail. A retained orphan is good too, which its own status says."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What was found of one record at one look."""

    reason: Reason
    message: str
    live: LiveState
    retained: bool = False
    """An orphan that its pool's `prune: Retain` leaves alone on purpose."""
    beneath: Reason | None = None
    """The drift that a pause or a busy device keeps from being healed: reported all the same."""
    would: str = ""
    """The steps that are not taken, as nothing may be done: its message ends with them."""

    @property
    def ready(self) -> bool:
        return self.reason is Reason.CONVERGED

    @property
    def good(self) -> bool:
        return self.reason in GOOD or self.retained
