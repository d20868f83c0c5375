"""A pool's size: it only grows. A shorter table loads, but its resume fails and leaves the pool suspended."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.condition import Reason
from reconciler.model.records import Backing, ThinPool
from reconciler.model.status import PoolMode, PoolStatus
from reconciler.model.steps import GrowFile, KnowPool, LoadPool, PoolShape, Step
from reconciler.model.table import PoolTable, read_table
from reconciler.model.units import SECTOR, Bytes, format_size
from reconciler.planner.cases import PoolCase
from reconciler.planner.plan import Plan
from reconciler.planner.pool_words import backings, find, shown_size, whole_blocks

METADATA_BLOCK = 4096
METADATA_MOST = Bytes(255 * (2**14 - 64) * METADATA_BLOCK)
"""The kernel uses no more (DM_SM_METADATA_MAX_BLOCKS): on 6.1, pools on 16 and on 17 GiB showed 4161600 blocks."""


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
    if table.length < whole_blocks(wanted_data, shape.block):
        words = f"{format_size(table.length * SECTOR)} of data, it should have {format_size(wanted_data)}"
    elif _metadata_short(case, wanted_metadata):
        words = f"less metadata than the {format_size(wanted_metadata)} that it should have"
    else:
        return None
    plan = find(case, Reason.WRONG_SIZE, f"pool {case.name} has {words}")
    return plan.but(*growth(case, record, shape, wanted_data, wanted_metadata))


def _wanted(backing: Backing, known: Bytes, live: Bytes) -> Bytes:
    """A device is used whole; a file is as large as the record says, or as the store has extended it."""
    if backing.file is None:
        return max(live, known)
    return max(backing.size or known, known)


def _metadata_short(case: PoolCase, wanted: Bytes) -> bool:
    """Whether the kernel uses less of the metadata device than there should be."""
    status = case.live.status
    if not isinstance(status, PoolStatus):
        return False
    return (status.metadata_total + 1) * METADATA_BLOCK <= min(wanted, METADATA_MOST)


def growth(case: PoolCase, record: ThinPool, shape: PoolShape, data: Bytes, metadata: Bytes) -> tuple[Step, ...]:
    """The files first, so that what the store knows of is there even if the host goes down in the next moment; then
    the store, so that a crash before the load heals as WrongSize. A file that is longer than known does no harm.
    """
    known = case.known
    assert known is not None  # noqa: S101  # the callers looked
    data_backing, metadata_backing = backings(record)
    steps: list[Step] = []
    if data_backing.file is not None and shown_size(case.live.data) < data:
        steps.append(GrowFile(data_backing.path, data, allocate=data_backing.preallocate))
    if metadata_backing.file is not None and shown_size(case.live.metadata) < metadata:
        steps.append(GrowFile(metadata_backing.path, metadata, allocate=True))
    if (data, metadata) != (known.data_size, known.metadata_size):
        steps.append(KnowPool(record.key, replace(known, data_size=data, metadata_size=metadata)))
    return (*steps, LoadPool(record.dm_name, shape))


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
    for word, more, backing in (
        ("data", new_data - known.data_size, case.live.data),
        ("metadata", new_metadata - known.metadata_size, case.live.metadata),
    ):
        if more > backing.free_space:
            message = f"{words}, and {format_size(more)} more of {word} do not fit on the filesystem below it"
            return find(case, Reason.POOL_LOW, message)
    sizes = f"{format_size(new_data)} of data and {format_size(new_metadata)} of metadata"
    plan = find(case, Reason.POOL_LOW, f"{words}: growing it to {sizes}")
    return plan.but(*growth(case, record, shape, new_data, new_metadata))


def _grown(size: Bytes, factor: int, most: Bytes, grid: int) -> Bytes:
    grown = max(size * factor // 100, size + grid)
    return Bytes(max(size, min(grown, most) // grid * grid))


def _over(used: int, total: int, percent: int) -> bool:
    return used * 100 > total * percent


def _percent(used: int, total: int) -> int:
    return used * 100 // total if total else 0
