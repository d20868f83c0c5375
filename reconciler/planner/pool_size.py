"""A pool's size: it only grows. A shorter table loads, but its resume fails and leaves the pool suspended."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.condition import Reason
from reconciler.model.records import Backing, ThinPool
from reconciler.model.status import PoolMode, PoolStatus
from reconciler.model.steps import GrowFile, HostStep, KnowPool, LoadPool, PoolShape, Step
from reconciler.model.table import PoolTable, read_table
from reconciler.model.units import SECTOR, Bytes, format_size
from reconciler.planner.cases import PoolCase
from reconciler.planner.plan import Plan
from reconciler.planner.pool_words import backings, find, whole_blocks

METADATA_BLOCK = 4096
METADATA_MOST = Bytes(16 * 1024**3 - 16 * 1024**2)
"""The kernel uses no more than 255 * 16 KiB bitmaps of metadata blocks, a little less than 16 GiB
(THIN_METADATA_MAX_SECTORS)."""


def plan_size(case: PoolCase, record: ThinPool, shape: PoolShape) -> Plan | None:
    """Grow what is shorter than the record asks, or than the store has extended it to."""
    data, metadata = backings(record)
    known, device = case.known, case.live.device
    if known is None or device is None:
        return None
    wanted_data = _wanted(data, known.data_size, case.live.data.size)
    wanted_metadata = _wanted(metadata, known.metadata_size, case.live.metadata.size)
    table = read_table(device.table)
    if not isinstance(table, PoolTable):
        return None
    short = table.length < whole_blocks(wanted_data, shape.block) or _metadata_short(case, wanted_metadata)
    if not short:
        return None
    message = (
        f"pool {case.name} has {format_size(table.length * SECTOR)} of data, it should have {format_size(wanted_data)}"
    )
    plan = find(case, Reason.WRONG_SIZE, message)
    return plan.but(*growth(case, record, shape, wanted_data, wanted_metadata))


def _wanted(backing: Backing, known: Bytes, live: Bytes) -> Bytes:
    """A device is used whole; a file is as large as the record says, or as the store has extended it."""
    if backing.file is None:
        return live
    return max(backing.size or known, known)


def _metadata_short(case: PoolCase, wanted: Bytes) -> bool:
    """Whether the kernel uses less of the metadata device than there should be."""
    status = case.live.status
    if not isinstance(status, PoolStatus):
        return False
    return (status.metadata_total + 1) * METADATA_BLOCK <= min(wanted, METADATA_MOST)


def growth(case: PoolCase, record: ThinPool, shape: PoolShape, data: Bytes, metadata: Bytes) -> tuple[Step, ...]:
    """What the store extends to is flushed first: a crash in between then heals as WrongSize."""
    known = case.known
    assert known is not None  # noqa: S101  # the callers looked
    data_backing, metadata_backing = backings(record)
    steps: list[Step] = []
    if (data, metadata) != (known.data_size, known.metadata_size):
        steps.append(KnowPool(record.key, replace(known, data_size=data, metadata_size=metadata)))
    files: list[HostStep] = []
    if data_backing.file is not None and case.live.data.size < data:
        files.append(GrowFile(data_backing.path, data, allocate=data_backing.preallocate))
    if metadata_backing.file is not None and case.live.metadata.size < metadata:
        files.append(GrowFile(metadata_backing.path, metadata, allocate=True))
    return (*steps, *files, LoadPool(record.dm_name, shape))


def pool_low(case: PoolCase, record: ThinPool, shape: PoolShape) -> Plan | None:
    """The pool fills up. Low water is announced once only, so the numbers are looked at on every pass."""
    status = case.live.status
    if not isinstance(status, PoolStatus):
        return None
    extend = record.spec.extend
    threshold = extend.threshold if extend is not None else 100 - record.spec.low_water_mark
    data_low = _over(status.data_used, status.data_total, threshold)
    metadata_low = _over(status.metadata_used, status.metadata_total, extend.threshold if extend else 75)
    full = status.mode is PoolMode.OUT_OF_DATA_SPACE
    if not (data_low or metadata_low or full):
        return None
    words = (
        f"pool {case.name} has used {_percent(status.data_used, status.data_total)}% of its data and "
        f"{_percent(status.metadata_used, status.metadata_total)}% of its metadata"
    )
    if extend is None:
        reason = Reason.POOL_UNHEALTHY if full else Reason.POOL_LOW
        return find(case, reason, f"{words}: raise `data.size` or `metadata.size` in its record, or add `extend`")
    return _extend(case, record, shape, words, data=data_low or full, metadata=metadata_low)


def _extend(case: PoolCase, record: ThinPool, shape: PoolShape, words: str, *, data: bool, metadata: bool) -> Plan:
    known, extend = case.known, record.spec.extend
    assert known is not None  # noqa: S101  # a pool without knowledge does not come here
    assert extend is not None  # noqa: S101
    factor = 100 + extend.step
    new_data = _grown(known.data_size, factor, extend.max, shape.block * SECTOR) if data else known.data_size
    new_metadata = (
        _grown(known.metadata_size, factor, METADATA_MOST, METADATA_BLOCK) if metadata else known.metadata_size
    )
    if (new_data, new_metadata) == (known.data_size, known.metadata_size):
        return find(case, Reason.POOL_LOW, f"{words}, and it is as large as `extend.max` lets it be: raise that")
    more = (new_data - known.data_size) + (new_metadata - known.metadata_size)
    if more > min(case.live.data.free_space, case.live.metadata.free_space):
        return find(
            case, Reason.POOL_LOW, f"{words}, and {format_size(more)} more do not fit on the filesystem below it"
        )
    plan = find(case, Reason.POOL_LOW, f"{words}: growing it to {format_size(new_data)} of data")
    return plan.but(*growth(case, record, shape, new_data, new_metadata))


def _grown(size: Bytes, factor: int, most: Bytes, grid: int) -> Bytes:
    grown = max(size * factor // 100, size + grid)
    return Bytes(max(size, min(grown, most) // grid * grid))


def _over(used: int, total: int, percent: int) -> bool:
    return used * 100 > total * percent


def _percent(used: int, total: int) -> int:
    return used * 100 // total if total else 0
