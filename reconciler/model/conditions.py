"""What is told of each record, in the one shape that the store, the commands and HTTP share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from reconciler.model.condition import Reason
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.status import PoolMode
from reconciler.model.units import Bytes


@dataclass(frozen=True, slots=True)
class Status:
    """What was last seen of one record."""

    key: Key
    live: LiveState
    reason: Reason
    message: str
    since: float
    """Wall-clock seconds since when live state and reason have been these."""
    good: bool
    """As desired, or deliberately left alone: exit code 0."""
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
    """None while nobody can tell, as for a device that is not live."""
    origin: str = ""
    holders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolStatusReport(Status):
    mode: PoolMode = PoolMode.MISSING
    data_used: Bytes | None = None
    data_size: Bytes | None = None
    data_limit: Bytes | None = None
    """To which it may grow by itself; its size where it may not."""
    metadata_used: Bytes | None = None
    metadata_size: Bytes | None = None
    metadata_limit: Bytes | None = None
    transaction_id: int | None = None
    leaked_ids: tuple[int, ...] | None = None
    """Thin ids that nothing names. None while the pool's own ids were not read."""
    leaked: Bytes | None = None


class EventType(StrEnum):
    FOUND = "Found"
    """Drift, at its first look."""
    HEALED = "Healed"
    """The drift's episode has ended, through what the reconciler did or by itself."""
    FAILED = "Failed"
    """A step did not work."""
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
    """Wall-clock seconds of the last time."""
    first: float = 0.0
    count: int = 1
    seconds: float | None = None
    """From detection to healed."""


def rfc3339(seconds: float) -> str:
    """Wall-clock seconds as people and machines both read them: `2026-01-31T23:59:59.000+00:00`."""
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
    """Of an item."""
    pool, _, device = str(told["metadata"]["name"]).partition("/")
    return Key(pool, device)


def status_of(told: dict[str, Any]) -> Status | None:
    """What `item` was made of, but for what it does not tell. Raises LookupError, ValueError, TypeError for another's."""
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
