"""A case and its condition as the status that is told."""

from __future__ import annotations

from reconciler.model.condition import Condition
from reconciler.model.conditions import DeviceStatus, PoolStatusReport
from reconciler.model.dm_tables import PoolTable, read_table
from reconciler.model.live import LivePool, ThinEntry, ThinIds
from reconciler.model.names import Key
from reconciler.model.status import PoolFailure, PoolMode, PoolStatus, ThinStatus
from reconciler.model.units import SECTOR, Bytes, Sectors, in_bytes
from reconciler.planner.facts import DeviceCase, PoolCase
from reconciler.planner.pool_shape import METADATA_BLOCK, METADATA_MOST


def device_status(case: DeviceCase, condition: Condition, wall: float) -> DeviceStatus:
    live, known = case.live, case.known
    size = live.length if live is not None and live.table else (known.size if known is not None else None)
    return DeviceStatus(
        key=case.key,
        live=condition.live,
        reason=condition.reason,
        message=condition.message,
        since=wall,
        good=condition.good,
        dm_name=case.dm_name,
        uuid=live.info.uuid if live is not None else (known.uuid if known is not None else ""),
        beneath=condition.beneath,
        device_id=known.thin_id if known is not None else None,
        size=None if size is None else in_bytes(size),
        mapped=_mapped(case),
        origin=known.origin if known is not None else "",
        holders=live.holders if live is not None else (),
    )


def _mapped(case: DeviceCase) -> Bytes | None:
    """From the live device, else from the last reading of the pool's thin ids."""
    if case.live is not None and isinstance(case.live.status, ThinStatus):
        return in_bytes(Sectors(case.live.status.mapped))
    if case.known is None or case.ids is None or case.known.thin_id not in case.ids:
        return None
    return Bytes(case.ids[case.known.thin_id].mapped_blocks * block_bytes(case.pool))


def block_bytes(pool: LivePool) -> int:
    """Of one of the pool's data blocks; 0 while nobody can tell."""
    table = read_table(pool.device.table) if pool.device is not None else None
    return table.block * SECTOR if isinstance(table, PoolTable) else 0


def leaked_ids(ids: ThinIds, named: frozenset[int]) -> dict[int, ThinEntry]:
    """Thin ids in the pool that nothing here names."""
    return {number: entry for number, entry in ids.items() if number not in named}


def pool_status(case: PoolCase, condition: Condition, wall: float, named: frozenset[int] | None) -> PoolStatusReport:
    """`named` are the thin ids of devices, intents and adoptions. None: the case's ids are those, and not the pool's."""
    live, status = case.live, case.live.status
    numbers = status if isinstance(status, PoolStatus) else None
    block = block_bytes(live)
    leaked = None if case.ids is None or named is None else leaked_ids(case.ids, named)
    data_size = None if numbers is None else Bytes(numbers.data_total * block)
    metadata_size = None if numbers is None else Bytes(numbers.metadata_total * METADATA_BLOCK)
    extend = case.record.spec.extend if case.record is not None else None
    return PoolStatusReport(
        key=Key(case.name),
        live=condition.live,
        reason=condition.reason,
        message=condition.message,
        since=wall,
        good=condition.good,
        dm_name=case.name,
        uuid=live.device.info.uuid if live.device is not None else (case.known.uuid if case.known is not None else ""),
        beneath=condition.beneath,
        mode=_mode(status),
        data_used=None if numbers is None else Bytes(numbers.data_used * block),
        data_size=data_size,
        data_limit=_limit(data_size, extend.max if extend is not None else None),
        metadata_used=None if numbers is None else Bytes(numbers.metadata_used * METADATA_BLOCK),
        metadata_size=metadata_size,
        metadata_limit=_limit(metadata_size, METADATA_MOST if extend is not None else None),
        transaction_id=None if numbers is None else numbers.transaction_id,
        leaked_ids=None if leaked is None else tuple(sorted(leaked)),
        leaked=None if leaked is None else Bytes(sum(entry.mapped_blocks for entry in leaked.values()) * block),
    )


def _limit(size: Bytes | None, most: Bytes | None) -> Bytes | None:
    """To which it may grow by itself: what the record lets it be, or what it is."""
    return size if size is None or most is None else max(size, most)


def _mode(status: PoolStatus | PoolFailure | None) -> PoolMode:
    return PoolMode.MISSING if status is None else status.mode
