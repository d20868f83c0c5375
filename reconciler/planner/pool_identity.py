"""Whether the disks for a pool are those that it was on before: by their marks, by their first bytes, and by the pool's
metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reconciler.model.dm_tables import PoolMode, PoolStatus, PoolTable, read_table
from reconciler.model.identity import ZEROS, Moment, Noted, Start, by_kind, in_words, is_other, is_same, start_is_other
from reconciler.model.live import LiveBacking, PathKind, Superblock
from reconciler.model.records import Backing, ThinPool
from reconciler.model.stored import StoredPool
from reconciler.model.units import sectors
from reconciler.planner.facts import PoolFacts
from reconciler.planner.ownership import expected_transactions
from reconciler.planner.pool_shape import backings

_WAY_ON = "If it is the right one after all, such as a copy that was put back, `dm-reconciler doctor --fix` takes it"


def parts(facts: PoolFacts, record: ThinPool) -> Iterator[tuple[str, Backing, LiveBacking]]:
    data, metadata = backings(record)
    yield "data", data, facts.live.data
    yield "metadata", metadata, facts.live.metadata


def another_disk(facts: PoolFacts, record: ThinPool, known: StoredPool) -> str | None:
    """Which part of the pool is provably on another disk than before; None if neither is."""
    if known.noted is None:
        return None
    noted = {"data": known.noted.data, "metadata": known.noted.metadata}
    for word, wanted, live in parts(facts, record):
        if live.kind is not PathKind.MISSING and is_other(noted[word], live.marks):
            there = f"which is {live.elsewhere} now" if live.elsewhere else "which is not on this host now"
            return (
                f"the {word} of pool {facts.name} was on the disk with {in_words(noted[word])}, {there}; {wanted.path} is "
                f"another one ({in_words(live.marks)}). Nothing is brought up on it: name the disk that it was on in the "
                f"record, by a name that stays (`ls -l /dev/disk/by-id`). {_WAY_ON}"
            )
    return None


def other_content(facts: PoolFacts, known: StoredPool) -> str | None:
    """What proves that data or metadata are not those that the pool was taken down with; None if nothing does."""
    noted, data, metadata = known.noted, facts.live.data, facts.live.metadata
    if noted is None:
        return None
    if noted.superblock and metadata.superblock_digest and noted.superblock != metadata.superblock_digest:
        return (
            f"the metadata of pool {facts.name}, {known.metadata}, is not as it was when the pool was taken down, though "
            f"at the same transaction: it is an older copy, or somebody else had the pool up since. The newest copy is to "
            f"be put back. {_WAY_ON}"
        )
    now = Moment(metadata.transaction_id, metadata.data_blocks_used, facts.largest)
    if start_is_other(noted, data.start, data.marks, now):
        return (
            f"the data of pool {facts.name}, {known.data}, begins with {_start(data.start)}; when the pool was "
            f"last well it began with {_start(noted.start)}: it is another disk or file, or it was written over. "
            f"The pool's first write would destroy what is there. {_WAY_ON}"
        )
    return None


def _start(start: Start | None) -> str:
    if start is None or not (start.holds or start.digest == ZEROS):
        return "other bytes"
    return start.holds or "zeros"


# What is noted in the store to recognise the disks


def noted_now(facts: PoolFacts) -> Noted | None:
    """What to note of a live and healthy pool; None if nothing is to be noted, or this scan has nothing new to note."""
    known, status = facts.known, facts.live.status
    if known is None or not isinstance(status, PoolStatus) or status.mode is not PoolMode.RW or facts.intents:
        return None
    data, metadata = facts.live.data, facts.live.metadata
    if data.start is None:
        # The start was not read in this scan. That the pool is up is noted at once, as it is not at rest any more.
        return replace(known.noted, superblock="") if known.noted is not None and known.noted.at_rest else None
    # The bytes of the first block change all the time. They distinguish a file from its replacement, but no disk.
    is_file = "file" in by_kind(data.marks)
    start = data.start if is_file or data.start.is_zero else replace(data.start, digest="")
    noted = Noted(data.marks, metadata.marks, start, status.transaction_id)
    return None if noted == known.noted else noted


def noted_at_rest(facts: PoolFacts, record: ThinPool) -> Noted | None:
    """What to note of a pool that is first seen while it is down; None if it is known already or cannot be trusted."""
    known, data, metadata = facts.known, facts.live.data, facts.live.metadata
    if known is None or known.noted is None or known.noted.at_rest or known.noted.in_repair:
        return None
    if facts.live.device is not None or facts.intents or data.start is None or metadata.needs_check:
        return None
    if metadata.superblock is not Superblock.POOL or metadata.transaction_id not in expected_transactions(facts):
        return None
    if another_disk(facts, record, known) or other_content(facts, known):
        return None
    return Noted(data.marks, metadata.marks, data.start, metadata.transaction_id, metadata.superblock_digest)


def noted_going_down(facts: PoolFacts) -> StoredPool | None:
    """What the store is to know before a live pool is taken down; None if it knows that already."""
    known, status = facts.known, facts.live.status
    if known is None or known.noted is None:
        return None
    healthy = isinstance(status, PoolStatus) and status.mode in {PoolMode.RW, PoolMode.OUT_OF_DATA_SPACE}
    noted = replace(known.noted, superblock="", in_repair=not healthy)
    return None if noted == known.noted else replace(known, noted=noted)


# The same disk under another path


def contradiction(facts: PoolFacts, record: ThinPool) -> str | None:
    """What the record says differently from how the pool was created; None if nothing."""
    known = facts.known
    if known is None:
        return None
    data, metadata = backings(record)
    if known.block != sectors(record.spec.block_size):
        return f"blockSize is fixed once the pool exists: it is {known.block}s"
    if not is_same_place(facts, data, facts.live.data, is_metadata=False):
        return f"the pool's data is {known.data}, the record says {data.path}"
    if not is_same_place(facts, metadata, facts.live.metadata, is_metadata=True):
        return f"the pool's metadata is {known.metadata}, the record says {metadata.path}"
    return None


def is_same_place(facts: PoolFacts, wanted: Backing, live: LiveBacking, *, is_metadata: bool) -> bool:
    """Whether a path that the store does not know leads to the device that the pool is, or was, on."""
    known, device = facts.known, facts.live.device
    if known is None:
        return False
    if wanted.path == (known.metadata if is_metadata else known.data):
        return True
    table = read_table(device.table) if device is not None else None
    if isinstance(table, PoolTable):
        return live.devno == (table.metadata if is_metadata else table.data)
    noted = () if known.noted is None else known.noted.metadata if is_metadata else known.noted.data
    if is_other(noted, live.marks):
        return False
    return live.is_known_place or is_same(noted, live.marks)


def renamed(facts: PoolFacts, record: ThinPool) -> StoredPool | None:
    """What the store is to know if the record names the same disks by other paths; None if it does not."""
    known = facts.known
    data, metadata = backings(record)
    if known is None or (known.data, known.metadata) == (data.path, metadata.path):
        return None
    # A file that its owner moved or linked belongs to the owner, and is not deleted with the pool.
    kept = tuple(path for path in known.made_files if path in {data.path, metadata.path})
    return replace(known, data=data.path, metadata=metadata.path, made_files=kept)
