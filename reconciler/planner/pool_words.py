"""What the rows of a pool's table share: finds, shapes, and the words for people."""

from __future__ import annotations

from reconciler.model.conditions import Condition, Reason
from reconciler.model.dm_tables import PoolStatus
from reconciler.model.live import LiveBacking, LiveState
from reconciler.model.records import Backing, ThinPool
from reconciler.model.steps import PoolShape
from reconciler.model.stored import KnownPool
from reconciler.model.units import Bytes, Sectors, sectors
from reconciler.planner.facts import PoolCase
from reconciler.planner.plan import Plan, live_state


def find(case: PoolCase, reason: Reason, message: str) -> Plan:
    """A find about this pool, without steps."""
    exists = case.known is not None and case.known.created
    live = LiveState.UNKNOWN if case.stuck else live_state(case.live.device, exists=exists)
    return Plan(Condition(reason, message, live))


def backings(record: ThinPool) -> tuple[Backing, Backing]:
    """(data, metadata) of a pool that is not external: its record was checked to have both."""
    data, metadata = record.spec.data, record.spec.metadata
    assert data is not None  # noqa: S101  # the record was checked
    assert metadata is not None  # noqa: S101
    return data, metadata


def shape_of(record: ThinPool) -> PoolShape:
    """The table that the record asks for, but for its length and the numbers of its devices."""
    data, metadata = backings(record)
    spec = record.spec
    return PoolShape(
        metadata=metadata.path,
        data=data.path,
        block=sectors(spec.block_size),
        low_water_percent=spec.low_water_mark,
        zero_new_blocks=spec.zero_new_blocks,
        discards=spec.discards,
        error_if_full=spec.when_full == "error",
    )


def whole_blocks(size: Bytes, block: Sectors) -> Sectors:
    """The part of a data device that a pool can use."""
    return Sectors(sectors(size) // block * block)


def shown_size(backing: LiveBacking) -> Bytes:
    """What a pool could use of it now: a loop lags behind its file until it is told to look."""
    return min((backing.size, *(loop.size for loop in backing.loops)))


def known_from(case: PoolCase, record: ThinPool) -> KnownPool:
    """What the store is to know of a pool that is live and is this record's."""
    data, metadata = backings(record)
    status, known, device = case.live.status, case.known, case.live.device
    uuid = device.info.uuid if device is not None else case.new_uuid
    return KnownPool(
        name=case.name,
        uuid=uuid,
        created=True,
        data=data.path,
        metadata=metadata.path,
        block=sectors(record.spec.block_size),
        discards=record.spec.discards,
        transaction_id=status.transaction_id if isinstance(status, PoolStatus) else 0,
        data_size=case.live.data.size,
        metadata_size=case.live.metadata.size,
        made_files=known.made_files if known is not None else (),
    )
