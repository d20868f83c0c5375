"""What is told of each record: made when its status changes, gone when the record is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from reconciler.model.conditions import DeviceStatus, PoolStatusReport
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.records import DeviceState, PoolState
from reconciler.telemetry.collector import Family, Told

DEVICE_READY = Family("dm_reconciler_device_ready", "1 while the device is as its record declares it.")
DEVICE_REASON = Family("dm_reconciler_device_reason", "1 for the present reason of the device; it has no other series.")
DEVICE_DESIRED = Family("dm_reconciler_device_desired_state", "1 for the state that the device's record declares.")
DEVICE_LIVE = Family("dm_reconciler_device_live_state", "1 for the state in which the device was last seen.")
DEVICE_SIZE = Family("dm_reconciler_device_size_bytes", "Size of the device. No series while nobody can tell.")
DEVICE_MAPPED = Family(
    "dm_reconciler_device_mapped_bytes", "Bytes of the pool that the device maps. No series while nobody can tell."
)
DEVICE_HEALS = Family("dm_reconciler_device_heals_total", "Drifts of the device that were healed.", "counter")
POOL_READY = Family("dm_reconciler_pool_ready", "1 while the pool is as its record declares it.")
POOL_REASON = Family("dm_reconciler_pool_reason", "1 for the present reason of the pool; it has no other series.")
POOL_DESIRED = Family("dm_reconciler_pool_desired_state", "1 for the state that the pool's record declares.")
POOL_LIVE = Family("dm_reconciler_pool_live_state", "1 for the state in which the pool was last seen.")
POOL_MODE = Family("dm_reconciler_pool_mode", "1 for the mode that the pool reports.")
POOL_DATA_USED = Family("dm_reconciler_pool_data_used_bytes", "Bytes of the data device in use.")
POOL_DATA_SIZE = Family("dm_reconciler_pool_data_size_bytes", "Size of the data device, as the pool uses it.")
POOL_METADATA_USED = Family("dm_reconciler_pool_metadata_used_bytes", "Bytes of the metadata device in use.")
POOL_METADATA_SIZE = Family(
    "dm_reconciler_pool_metadata_size_bytes", "Size of the metadata device, as the pool uses it."
)
POOL_DATA_LIMIT = Family(
    "dm_reconciler_pool_data_limit_bytes", "Size to which the data may grow by itself; its size where it may not."
)
POOL_METADATA_LIMIT = Family(
    "dm_reconciler_pool_metadata_limit_bytes",
    "Size to which the metadata may grow by itself; its size where it may not.",
)
POOL_HEALS = Family("dm_reconciler_pool_heals_total", "Drifts of the pool that were healed.", "counter")
POOL_LEAKED_IDS = Family(
    "dm_reconciler_pool_leaked_thin_ids", "Thin ids in the pool that nobody's record accounts for."
)
POOL_LEAKED_BYTES = Family("dm_reconciler_pool_leaked_bytes", "Bytes that the leaked thin ids map.")

RECORD_FAMILIES: Final = tuple(declared for declared in [*globals().values()] if isinstance(declared, Family))
"""All of the above: a family that is not served would be declared for nothing."""


def of_device(status: DeviceStatus, desired: str, heals: int) -> dict[Family, Told]:
    labels = {"pool": status.key.pool, "device": status.key.device}
    return {
        DEVICE_READY: DEVICE_READY.tell((labels, status.ready)),
        DEVICE_REASON: DEVICE_REASON.tell(({**labels, "reason": status.reason.value}, 1)),
        DEVICE_DESIRED: _one_of(DEVICE_DESIRED, labels, "state", DeviceState, desired),
        DEVICE_LIVE: _one_of(DEVICE_LIVE, labels, "state", LiveState, status.live),
        DEVICE_SIZE: _known(DEVICE_SIZE, labels, status.size),
        DEVICE_MAPPED: _known(DEVICE_MAPPED, labels, status.mapped),
        DEVICE_HEALS: of_heals(status.key, heals),
    }


def of_pool(status: PoolStatusReport, desired: str, heals: int) -> dict[Family, Told]:
    labels = {"pool": status.key.pool}
    figures = {
        POOL_DATA_USED: status.data_used,
        POOL_DATA_SIZE: status.data_size,
        POOL_DATA_LIMIT: status.data_limit,
        POOL_METADATA_USED: status.metadata_used,
        POOL_METADATA_SIZE: status.metadata_size,
        POOL_METADATA_LIMIT: status.metadata_limit,
        POOL_LEAKED_IDS: None if status.leaked_ids is None else len(status.leaked_ids),
        POOL_LEAKED_BYTES: status.leaked,
    }
    return {
        POOL_READY: POOL_READY.tell((labels, status.ready)),
        POOL_REASON: POOL_REASON.tell(({**labels, "reason": status.reason.value}, 1)),
        POOL_DESIRED: _one_of(POOL_DESIRED, labels, "state", PoolState, desired),
        POOL_LIVE: _one_of(POOL_LIVE, labels, "state", LiveState, status.live),
        POOL_MODE: _one_of(POOL_MODE, labels, "mode", PoolMode, status.mode),
        POOL_HEALS: of_heals(status.key, heals),
        **{family: _known(family, labels, figure) for family, figure in figures.items()},
    }


def of_heals(key: Key, count: int) -> Told:
    if key.device:
        return DEVICE_HEALS.tell(({"pool": key.pool, "device": key.device}, count))
    return POOL_HEALS.tell(({"pool": key.pool}, count))


def _one_of(family: Family, labels: dict[str, str], label: str, values: Iterable[str], present: str) -> Told:
    return family.tell(*(({**labels, label: str(value)}, value == present) for value in values))


def _known(family: Family, labels: dict[str, str], value: int | None) -> Told:
    return family.tell() if value is None else family.tell((labels, value))
