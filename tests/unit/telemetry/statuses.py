"""A pool and a device in it, as their statuses tell."""

from __future__ import annotations

from reconciler.model.conditions import DeviceStatus, PoolStatusReport, Reason
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.units import Bytes

BASE = DeviceStatus(
    key=Key("tank", "base"),
    live=LiveState.ACTIVE,
    reason=Reason.CONVERGED,
    message="",
    since=0.0,
    good=True,
    size=Bytes(10 * 1024**3),
    mapped=Bytes(65536),
)
TANK = PoolStatusReport(
    key=Key("tank"),
    live=LiveState.ACTIVE,
    reason=Reason.CONVERGED,
    message="",
    since=0.0,
    good=True,
    mode=PoolMode.RW,
    data_used=Bytes(1024),
    data_size=Bytes(4096),
    data_limit=Bytes(16384),
    metadata_used=Bytes(512),
    metadata_size=Bytes(2048),
    metadata_limit=Bytes(8192),
    leaked_ids=(3, 9),
    leaked=Bytes(8192),
)
