"""Plans a pool without a device: it is created only if the store never knew it and nothing is in the way."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.conditions import Reason
from reconciler.model.live import LiveBacking, Loop, PathKind, Superblock
from reconciler.model.records import Backing, ThinPool
from reconciler.model.steps import (
    ActivatePool,
    AttachLoop,
    CheckMetadata,
    GrowFile,
    MakeFile,
    PoolShape,
    SavePool,
    Step,
)
from reconciler.model.stored import StoredPool
from reconciler.model.units import Bytes, format_size, sectors
from reconciler.planner.facts import PoolFacts
from reconciler.planner.ownership import expected_transactions, how_to_write
from reconciler.planner.plan import Plan
from reconciler.planner.pool_identity import another_disk, contradiction, other_content, parts, renamed
from reconciler.planner.pool_shape import backings, finding, shape_of, shown_size, whole_blocks


def plan_missing(facts: PoolFacts, record: ThinPool) -> Plan:
    """A known pool is brought back if it is whole, and else left; an unknown one is created, or is a Conflict."""
    conflict = _conflict(facts, record)
    if conflict:
        return finding(facts, Reason.CONFLICT, conflict)
    if facts.known is not None and facts.known.created:
        return _bring_back(facts, record, facts.known)
    metadata = facts.live.metadata
    if facts.known is None and metadata.superblock is Superblock.POOL:
        return _stranger(facts, record)
    return _create(facts, record)


def _conflict(facts: PoolFacts, record: ThinPool) -> str:
    """What is wrong with the devices that the pool is to use, whether or not the pool is known; empty if nothing."""
    data, metadata = facts.live.data, facts.live.metadata
    if data.devno is not None and data.devno == metadata.devno:  # two names of one file, or a link to the device
        return f"data and metadata are the same device, {data.devno}: name another for one of them"
    for word, wanted, live in parts(facts, record):
        expected = PathKind.FILE if wanted.file is not None else PathKind.BLOCK
        if live.kind not in {expected, PathKind.MISSING}:
            found = {"file": "a plain file", "block": "a block device"}.get(live.kind, "neither file nor block device")
            return f"{word}: {wanted.path} is {found}; the record needs {_article(expected)}"
        if live.used_by:
            return f"{word}: {wanted.path} is in use by {', '.join(live.used_by)}; name another, or end that use"
        if len(live.loops) > 1:
            loops = ", ".join(loop.path for loop in live.loops)
            return f"{word}: {wanted.path} is on several loops at once ({loops}), which corrupts it; detach all but one"
        if live.read_only:
            return f"{word}: {wanted.path} is read-only: {how_to_write(wanted.path, live)}"
        if live.loops and (wrong := _not_whole(wanted, live, live.loops[0])):
            return f"{word}: {live.loops[0].path} {wrong}: detach it (`losetup -d {live.loops[0].path}`)"
    return ""


def _not_whole(wanted: Backing, live: LiveBacking, loop: Loop) -> str | None:
    """How a loop that somebody else attached does not offer the whole file for writing; None if it does."""
    if loop.offset:
        return f"shows {wanted.path} only from byte {loop.offset} on"
    if 0 < loop.size_limit < max(live.size, wanted.size or 0):
        return f"shows only the first {loop.size_limit} bytes of {wanted.path}"
    if loop.read_only:
        return f"on {wanted.path} is read-only"
    return None


def _article(kind: PathKind) -> str:
    return "a plain file" if kind is PathKind.FILE else "a block device"


def _stranger(facts: PoolFacts, record: ThinPool) -> Plan:
    """Reports that the metadata holds a pool which this store has never seen."""
    if not record.spec.adopt:
        message = (
            f"{backings(record)[1].path} already holds a pool that this store has never seen: nothing is touched. "
            f"`adopt: true` in the record takes it over, and `adopt` in the records of its devices their thins"
        )
        return finding(facts, Reason.METADATA_MISMATCH, message)
    known = replace(_known(facts, record), created=True, transaction_id=facts.live.metadata.transaction_id or 0)
    return finding(facts, Reason.POOL_MISSING, "taking the pool over").with_steps(SavePool(record.key, known))


def _create(facts: PoolFacts, record: ThinPool) -> Plan:
    obstacle = _obstacle(facts, record)
    if obstacle is not None:
        return obstacle
    known, shape = _known(facts, record), shape_of(record)
    steps: list[Step] = [SavePool(record.key, known)] if known != facts.known else []
    for word, wanted, live in parts(facts, record):
        steps += _make(wanted, live, allocate=wanted.preallocate or word == "metadata")
    steps.append(ActivatePool(record.dm_name, known.uuid, shape, transaction_id=0, fresh=True))
    steps.append(SavePool(record.key, replace(known, created=True)))
    return finding(facts, Reason.POOL_MISSING, f"pool {facts.name} does not exist yet: creating it").with_steps(*steps)


def _obstacle(facts: PoolFacts, record: ThinPool) -> Plan | None:
    """Why a pool cannot be created where the record says; None if it can."""
    made = facts.known.made_files if facts.known is not None else ()
    for word, wanted, live in parts(facts, record):
        if live.kind is PathKind.MISSING:
            if wanted.file is None:
                return finding(
                    facts, Reason.POOL_MISSING, f"{word}: {wanted.path} does not exist (yet); waiting for it"
                )
            if not live.folder_exists:
                return finding(
                    facts, Reason.CONFLICT, f"{word}: the folder of {wanted.path} does not exist; make or mount it"
                )
            if wanted.size is not None and wanted.size > live.free_space and (wanted.preallocate or word == "metadata"):
                return finding(
                    facts, Reason.CONFLICT, f"{word}: {format_size(wanted.size)} do not fit beside {wanted.path}"
                )
            continue
        begun = facts.known is not None and live.superblock is Superblock.POOL
        if begun or wanted.path in made:
            full = _not_as_begun(facts.name, wanted, live, is_metadata=word == "metadata")
        else:
            full = _in_the_way(wanted, live, is_metadata=word == "metadata")
        if full:
            return finding(
                facts, Reason.CONFLICT, f"{word}: {full}; name another, or empty it yourself if it may be lost"
            )
    block = sectors(record.spec.block_size)
    if whole_blocks(_size(record.spec.data, facts.live.data), block) == 0:
        return finding(facts, Reason.CONFLICT, f"data: smaller than one block of {format_size(record.spec.block_size)}")
    return None


def _not_as_begun(pool: str, wanted: Backing, live: LiveBacking, *, is_metadata: bool) -> str:
    """How the device differs from what the store flushed before it began to create the pool: somebody else may have
    written there.
    """
    if not is_metadata:
        return f"{wanted.path} carries {live.signature}, which the reconciler did not make" if live.signature else ""
    if live.superblock is Superblock.OTHER:
        return f"{wanted.path} begins with something that the reconciler did not make"
    if live.superblock is Superblock.POOL and live.transaction_id:
        return (
            f"{wanted.path} holds a pool at transaction {live.transaction_id}, while {pool} had only begun to be made "
            f"(if it is what is wanted: `dm-reconciler forget pool {pool}`, and `adopt: true` in its record)"
        )
    return ""


def _in_the_way(wanted: Backing, live: LiveBacking, *, is_metadata: bool) -> str:
    if live.signature:
        return f"{wanted.path} carries {live.signature}"
    if live.kind is PathKind.FILE and live.size and live.allocated:
        return f"the file {wanted.path} was not made by the reconciler, and is not empty"
    if is_metadata and live.kind is PathKind.BLOCK and live.superblock is not Superblock.ZERO:
        return f"{wanted.path} does not begin with zeros"
    return ""


def _size(backing: Backing | None, live: LiveBacking) -> Bytes:
    if backing is None or backing.file is None:
        return live.size
    return backing.size or live.size


def _known(facts: PoolFacts, record: ThinPool) -> StoredPool:
    """What is flushed before the first effect: the files that are about to be made are ours."""
    data, metadata = backings(record)
    missing = {
        wanted.path
        for _, wanted, live in parts(facts, record)
        if wanted.file is not None and live.kind is PathKind.MISSING
    }
    made = set(facts.known.made_files) if facts.known is not None else set()
    return StoredPool(
        name=facts.name,
        uuid=facts.known.uuid if facts.known is not None else facts.new_uuid,
        created=False,
        data=data.path,
        metadata=metadata.path,
        block=sectors(record.spec.block_size),
        discards=record.spec.discards,
        data_size=_size(data, facts.live.data),
        metadata_size=_size(metadata, facts.live.metadata),
        made_files=tuple(sorted(made | missing)),
    )


def _make(wanted: Backing, live: LiveBacking, *, allocate: bool) -> list[Step]:
    if wanted.file is None or wanted.size is None:
        return []
    if live.kind is PathKind.MISSING:
        return [MakeFile(wanted.file, wanted.size, allocate=allocate), AttachLoop(wanted.file)]
    short = shown_size(live) < wanted.size
    grow: list[Step] = [GrowFile(wanted.file, wanted.size, allocate=allocate)] if short else []
    return grow if live.loops else [*grow, AttachLoop(wanted.file)]


def _bring_back(facts: PoolFacts, record: ThinPool, known: StoredPool) -> Plan:
    """Brings back a pool that was there before, if everything is as it was left; otherwise nothing is touched."""
    words = contradiction(facts, record)
    if words:
        return finding(facts, Reason.INVALID_CHANGE, f"{words}; put it back in the record, or make a new pool")
    moved = renamed(facts, record)
    if moved is not None:
        return finding(facts, Reason.POOL_MISSING, "the record names the same disks by other paths").with_steps(
            SavePool(record.key, moved)
        )
    other = another_disk(facts, record, known)
    if other:
        return finding(facts, Reason.METADATA_MISMATCH, other)
    lost = _lost(facts, record, known)
    if lost:
        message = f"{lost}. Nothing is made in its place: bring it back (is its filesystem mounted?)"
        forget = f"if all in it may be lost, `dm-reconciler forget pool {facts.name}`"
        return finding(facts, Reason.METADATA_MISMATCH, f"{message}, or, {forget}")
    other = other_content(facts, known)
    if other:
        return finding(facts, Reason.METADATA_MISMATCH, other)
    detached = [w.path for _, w, live in parts(facts, record) if w.file is not None and not live.loops]
    shape: PoolShape = shape_of(record)
    # A loop that has not noticed its file's size would give a shorter table, whose resume fails.
    steps: list[Step] = []
    if known.noted is not None and known.noted.at_rest:
        # From this step on, the pool may have been up, and its metadata may have changed.
        steps.append(SavePool(record.key, replace(known, noted=replace(known.noted, superblock=""))))
    steps += [
        GrowFile(wanted.path, live.size, allocate=False)
        for _, wanted, live in parts(facts, record)
        if wanted.file is not None and live.loops and shown_size(live) < live.size
    ]
    steps += [AttachLoop(path) for path in detached]
    steps.append(CheckMetadata(known.metadata))
    transaction_id = facts.live.metadata.transaction_id or 0
    steps.append(
        ActivatePool(record.dm_name, known.uuid, shape, transaction_id, noted=known.noted, largest=facts.largest)
    )
    if detached:
        message = f"no loop is on {' and '.join(detached)}: attaching, then activating pool {facts.name}"
        return finding(facts, Reason.LOOP_DETACHED, message).with_steps(*steps)
    return finding(facts, Reason.POOL_MISSING, f"pool {facts.name} is not active: activating it").with_steps(*steps)


def _lost(facts: PoolFacts, record: ThinPool, known: StoredPool) -> str | None:
    """What is not as the store left it; None if all of it is."""
    for word, wanted, live in parts(facts, record):
        if live.kind is PathKind.MISSING:
            there = f" (the disk that it was on is {live.elsewhere} now)" if live.elsewhere else ""
            return f"the {word} of pool {facts.name}, {wanted.path}, is missing{there}"
        before = known.data_size if word == "data" else known.metadata_size
        if live.size < before:
            return f"the {word} of pool {facts.name}, {wanted.path}, is shorter than it was"
    metadata = facts.live.metadata
    if metadata.superblock is not Superblock.POOL:
        word = {"zero": "zeros", "unread": "nothing that can be read"}.get(metadata.superblock, "something else")
        return f"the metadata of pool {facts.name}, {known.metadata}, begins with {word} where its superblock was"
    if metadata.transaction_id not in expected_transactions(facts):
        return (
            f"the metadata of pool {facts.name} is at transaction {metadata.transaction_id}, the store expects "
            f"{known.transaction_id}: one of the two is an old copy (`dm-reconciler doctor --fix` compares them)"
        )
    data = facts.live.data
    if data.kind is PathKind.FILE and not data.allocated and metadata.data_blocks_used:
        # A used block was written to, so its file takes up space on disk. This one does not, so it is another, new
        # file.
        return (
            f"the data of pool {facts.name}, {known.data}, is an empty file, and {metadata.data_blocks_used} blocks of "
            f"the data that was there are in use"
        )
    return None
