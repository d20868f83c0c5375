"""The condition of a record (one reason, one message, one live state), its status and its events.

The JSON shapes are shared by the store, the commands and HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.units import Bytes


class Reason(StrEnum):
    """Every reason that status, events and metrics can have."""

    # Drift that is being healed, or only reported if the text of the reason says so.
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


DRIFT: Final = frozenset(
    {
        Reason.NOT_CREATED,
        Reason.INACTIVE_BUT_DESIRED_ACTIVE,
        Reason.ACTIVE_BUT_DESIRED_INACTIVE,
        Reason.COMMITTED_BUT_ACTIVE,
        Reason.SUSPENDED,
        Reason.WRONG_TABLE,
        Reason.WRONG_SIZE,
        Reason.INACTIVE_TABLE_LEFT,
        Reason.TABLELESS_SHELL,
        Reason.DEFERRED_REMOVE_PENDING,
        Reason.NODE_MISSING,
        Reason.PRESENT_BUT_DESIRED_ABSENT,
        Reason.ORPHANED,
        Reason.LEAKED_THIN_ID,
        Reason.POOL_MISSING,
        Reason.POOL_SUSPENDED,
        Reason.POOL_TABLE_WRONG,
        Reason.POOL_LOW,
        Reason.LOOP_DETACHED,
    }
)
"""The reasons that count as drift, each with a count and a heal time."""

FINAL: Final = frozenset({Reason.CONFLICT, Reason.INVALID_CHANGE, Reason.METADATA_MISMATCH})
"""The reasons that only a person can end: `apply` does not wait for them."""

GOOD: Final = frozenset({Reason.CONVERGED, Reason.PAUSED})
"""The reasons that do not make `apply` fail. A retained orphan does not either, as its own status says."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What one scan found of one record."""

    reason: Reason
    message: str
    live: LiveState
    retained: bool = False
    """Whether this is an orphan that its pool's `prune: Retain` leaves alone on purpose."""
    beneath: Reason | None = None
    """The drift that is not healed because of a pause or a busy device, and is reported all the same."""
    would: str = ""
    """The steps that are not taken because nothing may be done; the message ends with them."""

    @property
    def ready(self) -> bool:
        return self.reason is Reason.CONVERGED

    @property
    def good(self) -> bool:
        return self.reason in GOOD or self.retained


@dataclass(frozen=True, slots=True)
class Status:
    """What was last seen of one record."""

    key: Key
    live: LiveState
    reason: Reason
    message: str
    since: float
    """Since when live state and reason have been the same, in wall-clock seconds."""
    good: bool
    """Whether the record is as desired, or is deliberately left alone: exit code 0."""
    dm_name: str = ""
    uuid: str = ""
    beneath: Reason | None = None

    @property
    def ready(self) -> bool:
        return self.reason is Reason.CONVERGED


@dataclass(frozen=True, slots=True)
class DeviceStatus(Status):
    device_id: int | None = None
    size: Bytes | None = None
    mapped: Bytes | None = None
    """The mapped bytes; None if they are unknown, as for a device that is not live."""
    origin: str = ""
    holders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolStatusReport(Status):
    mode: PoolMode = PoolMode.MISSING
    data_used: Bytes | None = None
    data_size: Bytes | None = None
    data_limit: Bytes | None = None
    """The size to which the data may grow by itself; the present size if it may not."""
    metadata_used: Bytes | None = None
    metadata_size: Bytes | None = None
    metadata_limit: Bytes | None = None
    transaction_id: int | None = None
    leaked_ids: tuple[int, ...] | None = None
    """Thin ids that nothing names. None if the pool's own ids were not read."""
    leaked: Bytes | None = None


class EventType(StrEnum):
    FOUND = "Found"
    """Drift, at the scan that found it."""
    HEALED = "Healed"
    """The drift has ended, by what the reconciler did or by itself."""
    FAILED = "Failed"
    """A step failed."""
    BLOCKED = "Blocked"
    """Not as desired, and nothing may be done about it."""
    INFO = "Info"


@dataclass(frozen=True, slots=True)
class Event:
    """What was found, or what was done about it."""

    key: Key
    type: EventType
    reason: str
    message: str
    time: float
    """When it last happened, in wall-clock seconds."""
    first: float = 0.0
    count: int = 1
    seconds: float | None = None
    """Seconds from the detection of the drift to its end."""


def rfc3339(seconds: float) -> str:
    """Wall-clock seconds as `2026-01-31T23:59:59.000+00:00`, readable for people and machines."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def item(
    kind: str, name: str, spec: dict[str, Any] | None, status: Status | None, written: tuple[str, int] | None = None
) -> dict[str, Any]:
    """One item of the JSON shape that HTTP and every `-o json` give. `written` are the file and line of its record."""
    told: dict[str, Any] = {
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
        "status": None if status is None else _status(status),
    }
    return told if written is None else {**told, "record": {"file": written[0], "line": written[1]}}


def key_of(told: dict[str, Any]) -> Key:
    """The key of an item."""
    pool, _, device = str(told["metadata"]["name"]).partition("/")
    return Key(pool, device)


def status_of(told: dict[str, Any]) -> Status | None:
    """The status that `item` was made from, without what an item does not contain. Raises LookupError, ValueError or
    TypeError for other data.
    """
    key, status = key_of(told), told["status"]
    if status is None:
        return None
    common: dict[str, Any] = {
        "key": key,
        "live": LiveState(status["live"]),
        "reason": Reason(status["reason"]),
        "message": str(status["message"]),
        "since": datetime.fromisoformat(status["since"]).timestamp(),
        "good": bool(status["good"]),
        "dm_name": str(status["dmName"]),
        "uuid": str(status["uuid"]),
    }
    if key.device:
        return DeviceStatus(
            **common,
            device_id=status["deviceId"],
            size=status["sizeBytes"],
            mapped=status["mappedBytes"],
            origin=status["snapshotOf"] or "",
            holders=tuple(status["holders"]),
        )
    leaked = status["leakedThinIds"]
    return PoolStatusReport(
        **common,
        mode=PoolMode(status["mode"]),
        data_used=status["dataUsedBytes"],
        data_size=status["dataSizeBytes"],
        metadata_used=status["metadataUsedBytes"],
        metadata_size=status["metadataSizeBytes"],
        transaction_id=status["transactionId"],
        leaked_ids=None if leaked is None else tuple(leaked),
        leaked=status["leakedBytes"],
    )


def _status(status: Status) -> dict[str, Any]:
    common: dict[str, Any] = {
        "live": status.live.value,
        "ready": status.ready,
        "good": status.good,
        "reason": status.reason.value,
        "message": status.message,
        "since": rfc3339(status.since),
        "dmName": status.dm_name,
        "uuid": status.uuid,
    }
    if isinstance(status, DeviceStatus):
        common |= {
            "deviceId": status.device_id,
            "sizeBytes": status.size,
            "mappedBytes": status.mapped,
            "snapshotOf": status.origin or None,
            "holders": list(status.holders),
        }
    if isinstance(status, PoolStatusReport):
        common |= {
            "mode": status.mode.value,
            "dataUsedBytes": status.data_used,
            "dataSizeBytes": status.data_size,
            "metadataUsedBytes": status.metadata_used,
            "metadataSizeBytes": status.metadata_size,
            "transactionId": status.transaction_id,
            "leakedThinIds": None if status.leaked_ids is None else list(status.leaked_ids),
            "leakedBytes": status.leaked,
        }
    return common


def event_item(event: Event) -> dict[str, Any]:
    """One item of `/api/v1/events`: docs/reference/http.md. Its name stays the same while only its count grows."""
    first = event.first or event.time
    return {
        "kind": "Event",
        "metadata": {"name": f"{event.key}.{event.type.value}.{event.reason}.{round(first * 1000)}"},
        "type": event.type.value,
        "reason": event.reason,
        "message": event.message,
        "time": rfc3339(event.time),
        "first": rfc3339(first),
        "count": event.count,
        "seconds": event.seconds,
        "object": {"kind": event.key.kind, "name": str(event.key)},
    }
