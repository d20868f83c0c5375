"""A pool's size and table. It only grows: a shorter table loads, but its resume fails and leaves the pool suspended."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.conditions import Condition, Reason
from reconciler.model.dm_tables import PoolMode, PoolStatus, PoolTable, read_table
from reconciler.model.live import LiveBacking, LiveState
from reconciler.model.records import Backing, ThinPool
from reconciler.model.steps import GrowFile, LoadPool, PoolShape, SavePool, Step
from reconciler.model.stored import StoredPool
from reconciler.model.units import SECTOR, Bytes, Sectors, format_size, sectors
from reconciler.planner.facts import PoolFacts
from reconciler.planner.plan import Plan, live_state


def finding(facts: PoolFacts, reason: Reason, message: str) -> Plan:
    """A plan with a finding about this pool and without steps."""
    exists = facts.known is not None and facts.known.created
    live = LiveState.UNKNOWN if facts.stuck else live_state(facts.live.device, exists=exists)
    return Plan(Condition(reason, message, live))


def backings(record: ThinPool) -> tuple[Backing, Backing]:
    """The data and the metadata backing of a pool that is not external; its record was checked to have both."""
    data, metadata = record.spec.data, record.spec.metadata
    assert data is not None  # noqa: S101  # the record was checked
    assert metadata is not None  # noqa: S101
    return data, metadata


def shape_of(record: ThinPool) -> PoolShape:
    """The table that the record asks for, except for its length and the numbers of its devices."""
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
    """The part of a data device that a pool can use, in sectors."""
    return Sectors(sectors(size) // block * block)


def shown_size(backing: LiveBacking) -> Bytes:
    """How much of the backing device a pool could use now; a loop does not notice by itself that its file has grown."""
    return min((backing.size, *(loop.size for loop in backing.loops)))


def known_from(facts: PoolFacts, record: ThinPool) -> StoredPool:
    """What the store is to know of a live pool that belongs to this record."""
    data, metadata = backings(record)
    status, known, device = facts.live.status, facts.known, facts.live.device
    uuid = device.info.uuid if device is not None else facts.new_uuid
    return StoredPool(
        name=facts.name,
        uuid=uuid,
        created=True,
        data=data.path,
        metadata=metadata.path,
        block=sectors(record.spec.block_size),
        discards=record.spec.discards,
        transaction_id=status.transaction_id if isinstance(status, PoolStatus) else 0,
        data_size=facts.live.data.size,
        metadata_size=facts.live.metadata.size,
        made_files=known.made_files if known is not None else (),
    )


METADATA_BLOCK = 4096
METADATA_MOST = Bytes(255 * (2**14 - 64) * METADATA_BLOCK)
"""The most that the kernel uses (DM_SM_METADATA_MAX_BLOCKS): on 6.1, pools on 16 and 17 GiB showed 4161600 blocks."""


def plan_size(facts: PoolFacts, record: ThinPool, shape: PoolShape, *, whole: bool = False) -> Plan | None:
    """Grows what is smaller than the record asks for, or than the store has noted from `extend`. With `whole`, also
    what is smaller than the present metadata device, whoever has extended that.
    """
    data, metadata = backings(record)
    known, device = facts.known, facts.live.device
    if known is None or device is None:
        return None
    wanted_data = _wanted(data, known.data_size, facts.live.data.size)
    wanted_metadata = _wanted(metadata, known.metadata_size, facts.live.metadata.size)
    if whole:
        wanted_metadata = max(wanted_metadata, shown_size(facts.live.metadata))
    table = read_table(device.table)
    if not isinstance(table, PoolTable):
        return None
    if table.length < whole_blocks(wanted_data, shape.block):
        words = f"{format_size(table.length * SECTOR)} of data, it should have {format_size(wanted_data)}"
    elif _metadata_short(facts, wanted_metadata):
        words = f"less metadata than the {format_size(wanted_metadata)} that it should have"
    else:
        return None
    plan = finding(facts, Reason.WRONG_SIZE, f"pool {facts.name} has {words}")
    return plan.with_steps(*growth(facts, record, shape, wanted_data, wanted_metadata))


def _wanted(backing: Backing, known: Bytes, live: Bytes) -> Bytes:
    """A device is used as a whole; a file has the size in the record, or the one to which the store has extended it."""
    if backing.file is None:
        return max(live, known)
    return max(backing.size or known, known)


def _metadata_short(facts: PoolFacts, wanted: Bytes) -> bool:
    """Whether the kernel uses less of the metadata device than it should."""
    status = facts.live.status
    if not isinstance(status, PoolStatus):
        return False
    return (status.metadata_total + 1) * METADATA_BLOCK <= min(wanted, METADATA_MOST)


def growth(facts: PoolFacts, record: ThinPool, shape: PoolShape, data: Bytes, metadata: Bytes) -> tuple[Step, ...]:
    """The steps that grow a pool, in an order that is safe against a crash: the files, the store, the table.

    The files come before the store, so that the store never knows of space that is not there; a longer file than known
    does no harm. The store comes before the table, so that a crash between the two heals as WrongSize.
    """
    known = facts.known
    assert known is not None  # noqa: S101  # the callers looked
    data_backing, metadata_backing = backings(record)
    steps: list[Step] = []
    if data_backing.file is not None and shown_size(facts.live.data) < data:
        steps.append(GrowFile(data_backing.path, data, allocate=data_backing.preallocate))
    if metadata_backing.file is not None and shown_size(facts.live.metadata) < metadata:
        steps.append(GrowFile(metadata_backing.path, metadata, allocate=True))
    if (data, metadata) != (known.data_size, known.metadata_size):
        steps.append(SavePool(record.key, replace(known, data_size=data, metadata_size=metadata)))
    return (*steps, LoadPool(record.dm_name, shape))


def metadata_reserve(total: int) -> int:
    """Blocks of metadata that are kept for existing devices, of which every write may take some. Nothing is made with
    fewer free blocks. The kernel's own reserve for its commits is not included.
    """
    return min(total // 20, 1024)


def has_metadata_to_spare(status: PoolStatus) -> bool:
    return status.metadata_total - status.metadata_used >= metadata_reserve(status.metadata_total)


def pool_low(facts: PoolFacts, record: ThinPool, shape: PoolShape) -> Plan | None:
    """Reports a pool that fills up. The kernel announces low water only once, so every pass checks the numbers."""
    status = facts.live.status
    if not isinstance(status, PoolStatus):
        return None
    extend = record.spec.extend
    threshold = extend.threshold if extend is not None else 100 - record.spec.low_water_mark
    full = status.mode is PoolMode.OUT_OF_DATA_SPACE
    data = full or _over(status.data_used, status.data_total, threshold)
    metadata = _over(status.metadata_used, status.metadata_total, extend.threshold if extend else 75)
    metadata = metadata or not has_metadata_to_spare(status)
    if not (data or metadata):
        return None
    words = _words(facts, record, status)
    if extend is None:
        advice = _advice(record, status, data=data, metadata=metadata)
        return finding(facts, _reason(facts), f"{words}: {advice}")
    return _extend(facts, record, shape, words, data=data, metadata=metadata)


def _reason(facts: PoolFacts) -> Reason:
    """The reason for the report; a full pool already fails or blocks those who write."""
    status = facts.live.status
    return Reason.POOL_LOW if status is not None and status.mode is PoolMode.RW else Reason.POOL_UNHEALTHY


def _words(facts: PoolFacts, record: ThinPool, status: PoolStatus) -> str:
    if status.mode is PoolMode.RO:
        size = format_size(Bytes(status.metadata_total * METADATA_BLOCK))
        return f"the metadata of pool {facts.name} is full (all {size} of it): it is ro until there is more, and whole"
    words = (
        f"pool {facts.name} has used {_percent(status.data_used, status.data_total)}% of its data and "
        f"{_percent(status.metadata_used, status.metadata_total)}% of its metadata"
    )
    if status.mode is not PoolMode.OUT_OF_DATA_SPACE:
        return words
    if record.spec.when_full == "queue" and status.errors_when_full:
        return f"{words}, and writes that need room do not wait any longer (the kernel's no_space_timeout): they fail"
    return f"{words}, and writes that need room {'fail' if status.errors_when_full else 'wait for it'}"


def _advice(record: ThinPool, status: PoolStatus, *, data: bool, metadata: bool) -> str:
    """What makes the pool larger: for a file its record, for a device whoever made it."""
    data_backing, metadata_backing = backings(record)
    ways = [_larger(data_backing, "data")] if data else []
    if metadata and status.metadata_total * METADATA_BLOCK >= METADATA_MOST:
        ways.append("delete devices or snapshots, as the kernel uses no more metadata than this")
    elif metadata:
        ways.append(_larger(metadata_backing, "metadata"))
    files = data_backing.file is not None and metadata_backing.file is not None
    or_else = ", or add `extend`" if files else ""
    return f"{' and '.join(ways)}{or_else}"


def _larger(backing: Backing, what: str) -> str:
    if backing.file is not None:
        return f"raise `{what}.size` in its record"
    return f"make {backing.device} larger (`lvextend` if it is a logical volume), which is taken up by itself"


def _extend(facts: PoolFacts, record: ThinPool, shape: PoolShape, words: str, *, data: bool, metadata: bool) -> Plan:
    known, extend = facts.known, record.spec.extend
    assert known is not None  # noqa: S101  # a pool without knowledge does not come here
    assert extend is not None  # noqa: S101
    factor = 100 + extend.step
    old_data, old_metadata = _sizes(facts, known)
    new_data = _grown(old_data, factor, extend.max, shape.block * SECTOR) if data else old_data
    new_metadata = _grown(old_metadata, factor, METADATA_MOST, METADATA_BLOCK) if metadata else old_metadata
    if (new_data, new_metadata) == (old_data, old_metadata):
        message = f"{words}, and it is as large as `extend.max` lets it be: raise that"
        return finding(facts, _reason(facts), message)
    for word, more, backing in (
        ("data", new_data - old_data, facts.live.data),
        ("metadata", new_metadata - old_metadata, facts.live.metadata),
    ):
        if more > backing.free_space:
            message = f"{words}, and {format_size(more)} more of {word} do not fit on the filesystem below it"
            return finding(facts, _reason(facts), message)
    sizes = f"{format_size(new_data)} of data and {format_size(new_metadata)} of metadata"
    plan = finding(facts, Reason.POOL_LOW, f"{words}: growing it to {sizes}")
    return plan.with_steps(*growth(facts, record, shape, new_data, new_metadata))


def _sizes(facts: PoolFacts, known: StoredPool) -> tuple[Bytes, Bytes]:
    """The sizes of data and metadata as the store knows them, or as they are if that is more, because the store may be
    an old copy.
    """
    device, status = facts.live.device, facts.live.status
    data = sum(target.length for target in device.table) * SECTOR if device is not None else 0
    metadata = status.metadata_total * METADATA_BLOCK if isinstance(status, PoolStatus) else 0
    return max(known.data_size, Bytes(data)), max(known.metadata_size, Bytes(metadata))


def _grown(size: Bytes, factor: int, most: Bytes, grid: int) -> Bytes:
    grown = max(size * factor // 100, size + grid)
    return Bytes(max(size, min(grown, most) // grid * grid))


def _over(used: int, total: int, percent: int) -> bool:
    return used * 100 > total * percent


def _percent(used: int, total: int) -> int:
    return used * 100 // total if total else 0
