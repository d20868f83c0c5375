"""Decides whose a device is, and what may be done to the devices of a pool, judged by the pool alone.

Everything that is not provably ours is foreign, and left alone. The causes of a pool that cannot be written to are told
apart here, and so is what happened to the disks under a live pool: the pool does not report the latter, and reports
several causes by the same word.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from reconciler.model.conditions import Reason
from reconciler.model.dm_tables import (
    Devno,
    ErrorTable,
    PoolFailure,
    PoolMode,
    PoolStatus,
    PoolTable,
    ThinTable,
    read_table,
)
from reconciler.model.live import DeviceInfo, LiveBacking, LiveDevice, LivePool, PathKind
from reconciler.model.names import UUID_PREFIX, is_private, of_store
from reconciler.model.records import ThinPool
from reconciler.model.stored import StoredDevice, StoredPool
from reconciler.model.units import SECTOR, Bytes, format_size, in_bytes, sectors
from reconciler.planner.facts import Access, PoolAccess, PoolFacts
from reconciler.planner.pool_shape import has_metadata_to_spare

METADATA_BLOCK = 4096


def cut_off(live: LivePool) -> str | None:
    """By how much data or metadata is smaller than the pool uses; None if neither is."""
    table = read_table(live.device.table) if live.device is not None else None
    if not isinstance(table, PoolTable):
        return None
    status = live.status if isinstance(live.status, PoolStatus) else None
    metadata_used = Bytes(status.metadata_total * METADATA_BLOCK) if status is not None else Bytes(0)
    for word, backing, used in (
        ("data", live.data, in_bytes(table.length)),
        ("metadata", live.metadata, metadata_used),
    ):
        there = backing.size if backing.file_size is None else min(backing.size, backing.file_size)
        if backing.kind in {PathKind.FILE, PathKind.BLOCK} and there < used:
            return f"its {word} was cut off: {format_size(there)} are left of the {format_size(used)} that it uses"
    start = live.data.start  # this was read after the status, in the same scan
    is_empty = live.data.kind is PathKind.FILE and not live.data.allocated and start is not None and start.is_zero
    if is_empty and status is not None and status.data_used:
        return f"its data was emptied: the file has no room allocated, and {status.data_used} blocks are in use"
    return None


def read_only(live: LivePool) -> Iterator[tuple[str, LiveBacking]]:
    """Yields which of data and metadata is read-only."""
    for word, backing in (("data", live.data), ("metadata", live.metadata)):
        if backing.read_only:
            yield word, backing


def how_to_write(path: str, backing: LiveBacking) -> str:
    """The command that makes a read-only device writable."""
    loop = backing.loops[0] if backing.loops else None
    if loop is not None and loop.read_only:
        return f"`losetup -d {loop.path}` once nothing uses it: it is attached for writing then"
    if backing.file_size is not None:
        return f"`blockdev --setrw {path}`, or attach its file anew, without `--read-only`"
    return f"`blockdev --setrw {loop.path if loop is not None else path}`"


def off_grid(size: int, sector: int) -> bool:
    """Whether no table on a disk with sectors of this size in bytes can have the length `size`, in 512-byte sectors."""
    return size * SECTOR % sector != 0


class Cause(StrEnum):
    """Why a pool cannot be written to."""

    FAILED = "failed"
    """The kernel could neither write the metadata nor return to the last commit, so it trusts none of it."""
    NOT_UNDERSTOOD = "not understood"
    NEEDS_CHECK = "needs check"
    """A commit of the metadata failed, now or before the activation, and the kernel returned to the one before."""
    READ_ONLY_TABLE = "read-only table"
    METADATA_FULL = "metadata full"
    UNTOLD = "untold"


def cause_of(facts: PoolFacts) -> Cause | None:
    """Why the pool cannot be written to. None if it can, though its data space may be used up."""
    status = facts.live.status
    if isinstance(status, PoolFailure):
        return Cause.FAILED if status.mode is PoolMode.FAIL else Cause.NOT_UNDERSTOOD
    if status is None or status.mode in {PoolMode.RW, PoolMode.OUT_OF_DATA_SPACE}:
        return None
    if status.needs_check:
        return Cause.NEEDS_CHECK
    table = read_table(facts.live.device.table) if facts.live.device is not None else None
    if isinstance(table, PoolTable) and table.read_only:
        return Cause.READ_ONLY_TABLE
    return Cause.METADATA_FULL if _metadata_is_full(status) else Cause.UNTOLD


def _metadata_is_full(status: PoolStatus) -> bool:
    """Whether the metadata is full. The blocks that the kernel reserves for its own commits are reported as used."""
    return status.metadata_used >= status.metadata_total


def words_of(facts: PoolFacts, cause: Cause) -> str:
    """What is wrong, and the commands that help, in their order."""
    name, node = facts.name, _metadata_path(facts)
    if cause is Cause.READ_ONLY_TABLE:
        return f"pool {name} is ro, as its table says read_only: nothing is damaged. Load its table without that word"
    if cause is Cause.METADATA_FULL:
        return f"pool {name} is ro, as its metadata, {node}, is full: nothing is damaged. Give it more"
    if cause is Cause.UNTOLD:
        return (
            f"pool {name} is ro, and nothing that it tells says why: `dmesg` may. Nothing says that it is damaged: "
            f"{_down(name)}, then `state: Active` again, which checks its metadata first"
        )
    if cause is Cause.NOT_UNDERSTOOD:
        text = facts.live.status.text if isinstance(facts.live.status, PoolFailure) else ""
        return f"pool {name} answers `{text}` when asked for its status, which is not understood: nothing is done to it"
    return f"{_broken(facts, cause)}. If a disk failed (`dmesg` names it), mend that first. Then {_repair(name, node)}"


def _broken(facts: PoolFacts, cause: Cause) -> str:
    name, node = facts.name, _metadata_path(facts)
    if cause is Cause.FAILED:
        return (
            f"pool {name} is fail: its metadata, {node}, could not be written, nor what was there before be read again; "
            f"the kernel serves nothing from it until it was down"
        )
    data = facts.known.data if facts.known is not None and facts.known.data else "its data"
    text = (
        f"pool {name} is needs_check: a commit of its metadata, {node}, failed, or the flush of {data} that comes before "
        f"it, now or before it came up. What was committed before that counts, and nothing more is written"
    )
    status = facts.live.status
    if isinstance(status, PoolStatus) and _metadata_is_full(status):
        return f"{text}. It is full besides: the kernel lets it grow only after the repair, which comes first"
    return text


def _repair(name: str, node: str) -> str:
    return (
        f"{_down(name)}, then: `thin_check --ignore-non-fatal-errors {node}`; if that finds damage `thin_repair -i {node} -o NEW` and copy NEW "
        f"back; `thin_check --clear-needs-check-flag {node}`; then `state: Active` again"
    )


def _down(name: str) -> str:
    return (
        f"stop what uses {name}, set `state: Inactive` in its record and in those of its devices that are Active, wait "
        f"until it is gone"
    )


def _metadata_path(facts: PoolFacts) -> str:
    """The path of the metadata, not of the loop on it, because the loop is detached with the pool."""
    return facts.known.metadata if facts.known is not None and facts.known.metadata else "METADATA"


OWNERS = {
    "LVM-": "LVM",
    "mpath-": "multipath",
    "CRYPT-": "cryptsetup",
    "stratis-1-": "stratis",
    "DMR-": "another dm-reconciler store",
}


def owner_of(info: DeviceInfo) -> str:
    """The likely owner of a device by the prefix of its UUID, in words for messages."""
    for prefix, owner in OWNERS.items():
        if info.uuid.startswith(prefix):
            return f"{owner} (UUID {info.uuid})"
    return f"UUID {info.uuid}" if info.uuid else "nobody's that can be told (no UUID)"


def owns_device(live: LiveDevice, known: StoredDevice | None, pool: Devno | None) -> bool:
    """Whether a device that carries the record's name belongs to the record.

    It does if it has the UUID that the store gave; or, without a UUID, if it shows the record's thin; or if it is an
    error table, open to nobody, in the place of a thin that the store knew as active; or if it is an empty shell and
    the adopted device never had a UUID, which is what a crash between create and load leaves.
    """
    if known is None:
        return False
    if live.info.uuid:
        return live.info.uuid == known.uuid
    if not live.info.live_table:
        return not known.uuid and live.info.open_count == 0 and _is_shell_of(live, known, pool)
    table = read_table(live.table)
    if isinstance(table, ThinTable):
        return table.pool == pool and table.thin_id == known.thin_id
    if isinstance(table, ErrorTable):
        return known.active and table.length == known.size and live.info.open_count == 0
    return False


def _is_shell_of(live: LiveDevice, known: StoredDevice, pool: Devno | None) -> bool:
    if not live.info.inactive_table:
        return True
    table = read_table(live.inactive)
    return isinstance(table, ThinTable) and table.pool == pool and table.thin_id == known.thin_id


def is_private_of(info: DeviceInfo, our_uuid: str) -> bool:
    """Whether this is a private device of the store that `our_uuid` comes from."""
    return is_private(info.uuid) and is_made_by(info, our_uuid)


def is_made_by(info: DeviceInfo, our_uuid: str) -> bool:
    """Whether this is a device of the store that `our_uuid` comes from."""
    return of_store(info.uuid, our_uuid.removeprefix(UUID_PREFIX).partition("-")[0])


def owns_pool(live: LivePool, record: ThinPool | None, known: StoredPool | None) -> bool:
    """Whether the device that carries the pool's name is the pool of that record."""
    device = live.device
    if device is None:
        return False
    table = read_table(device.table)
    if record is not None and record.spec.external:
        return isinstance(table, PoolTable) or not device.info.live_table
    if known is not None and device.info.uuid and device.info.uuid == known.uuid:
        return True
    if record is None or not isinstance(table, PoolTable):
        return False
    if device.info.uuid and not record.spec.adopt:
        return False
    return lies_on_record(live, table) and table.block == sectors(record.spec.block_size)


def lies_on_record(live: LivePool, table: PoolTable) -> bool:
    """Whether the live table uses the very devices that the record's paths lead to."""
    return table.metadata == live.metadata.devno and table.data == live.data.devno


def access_to(facts: PoolFacts) -> PoolAccess:
    """What the pool allows for its devices: limited by the first obstacle, or full access."""
    if facts.stuck:
        return PoolAccess(Access.NONE, Reason.STUCK, facts.stuck)
    live = facts.live
    if live.suspended_below:
        names = ", ".join(below.name for below in live.suspended_below)
        return PoolAccess(Access.NONE, Reason.STUCK, f"{names}, which pool {facts.name} lies on, is suspended")
    if live.device is None:
        return PoolAccess(Access.NONE, Reason.WAITING_FOR_POOL, f"pool {facts.name} is not active")
    if not owns_pool(live, facts.record, facts.known):
        message = f"{facts.name} is a device of somebody else's, not the pool of the record"
        return PoolAccess(Access.NONE, Reason.WAITING_FOR_POOL, message)
    if live.device.info.suspended or not live.device.info.live_table:
        word = "suspended" if live.device.info.suspended else "without a table"
        return PoolAccess(Access.NONE, Reason.WAITING_FOR_POOL, f"pool {facts.name} is {word}")
    if live.data.used_by or live.metadata.used_by:
        message = f"pool {facts.name} shares its disk: see `dm-reconciler describe pool {facts.name}`"
        return PoolAccess(Access.MAINTAIN, Reason.WAITING_FOR_POOL, message)
    if cut_off(live) or any(read_only(live)):
        message = f"what pool {facts.name} lies on is not as it was: see `dm-reconciler describe pool {facts.name}`"
        return PoolAccess(Access.MAINTAIN, Reason.POOL_UNHEALTHY, message)
    return _health(facts)


def _health(facts: PoolFacts) -> PoolAccess:
    status = facts.live.status
    if status is None:
        return PoolAccess(Access.NONE, Reason.WAITING_FOR_POOL, f"pool {facts.name} did not tell its status")
    if isinstance(status, PoolFailure) or status.mode not in {PoolMode.RW, PoolMode.OUT_OF_DATA_SPACE}:
        return PoolAccess(Access.MAINTAIN, Reason.POOL_UNHEALTHY, _unwell(facts, status))
    if facts.record is not None and facts.record.spec.external:
        return _by_room(facts, status)
    if facts.known is not None and not facts.known.created:
        return PoolAccess(Access.MAINTAIN, Reason.WAITING_FOR_POOL, f"pool {facts.name} is being made, or deleted")
    if facts.known is None or facts.known.external:
        message = f"the store does not know pool {facts.name}: see `dm-reconciler describe pool {facts.name}`"
        return PoolAccess(Access.MAINTAIN, Reason.METADATA_MISMATCH, message)
    if status.transaction_id not in expected_transactions(facts):
        message = f"pool {facts.name} has another transaction id: see `dm-reconciler describe pool {facts.name}`"
        return PoolAccess(Access.MAINTAIN, Reason.METADATA_MISMATCH, message)
    return _by_room(facts, status)


def _unwell(facts: PoolFacts, status: PoolStatus | PoolFailure) -> str:
    why = ", as its metadata is full" if cause_of(facts) is Cause.METADATA_FULL else ""
    return f"pool {facts.name} is {status.mode.value}{why}: see `dm-reconciler describe pool {facts.name}`"


def _by_room(facts: PoolFacts, status: PoolStatus) -> PoolAccess:
    """The access by free space. Thins of a full pool can be deleted (observed on 6.1), but a suspend would wait behind
    its writes.
    """
    if status.mode is PoolMode.OUT_OF_DATA_SPACE:
        return PoolAccess(Access.RELEASE, Reason.POOL_UNHEALTHY, _unwell(facts, status))
    if has_metadata_to_spare(status):
        return PoolAccess(Access.FULL)
    message = (
        f"pool {facts.name} has hardly any metadata left, and what there is is kept for the devices that are there: "
        f"nothing is made in it until it has more, see `dm-reconciler describe pool {facts.name}`"
    )
    return PoolAccess(Access.FULL, no_room=message)


def expected_transactions(facts: PoolFacts) -> frozenset[int]:
    """The transaction ids that the pool may have: the store's, or those of an open intent."""
    mine = {facts.known.transaction_id} if facts.known is not None else set()
    return frozenset(mine | {i.transaction_id + more for i in facts.intents for more in (0, 1)})
