"""An active thin pool: its mode, its features, and when its metadata becomes durable; the targets of pools and thins.

Source: kernel, drivers/md/dm-thin.c. What was observed on 6.1 and 6.12 is tested by tests/testing/conformance.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum

from reconciler.kernel.simulated.device import Device, Loaded, SimpleTarget
from reconciler.kernel.simulated.machine import MAX_THIN_ID, Disk, Mapping, MetadataError, PoolImage
from reconciler.model.dm_tables import Devno, PoolTable, Target


class Mode(IntEnum):
    """The modes in the kernel's order: from OUT_OF_METADATA_SPACE on, no message is accepted."""

    WRITE = 0
    OUT_OF_DATA_SPACE = 1
    OUT_OF_METADATA_SPACE = 2
    READ_ONLY = 3
    FAIL = 4


_WORDS = {Mode.WRITE: "rw", Mode.OUT_OF_DATA_SPACE: "out_of_data_space"}


class CommitFault(IntEnum):
    """What happens when a commit cannot be written."""

    NONE = 0
    READ_ONLY = 1
    """The transaction is aborted, and the pool becomes read-only with needs_check."""
    FAIL = 2
    """The abort fails too."""


@dataclass(eq=False)
class Pool:
    """One pool for each metadata device, from the first load to the last table that refers to it."""

    device: Device
    metadata: Disk
    data: Disk
    image: PoolImage
    up: dict[Disk, Pool]
    """All active pools of this host, which has this one until its last table is dropped."""
    mode: Mode = Mode.WRITE
    suspended: bool = True
    """True before the first resume, when no thin loads."""
    bound: PoolTarget | None = None
    """The table that was resumed last; None before the first resume."""
    low_water_told: bool = False
    thins: list[ThinTarget] = field(default_factory=list)
    """The tables of thins on the pool, also inactive ones, in the order of their loads."""
    users: int = 0
    commit_fault: CommitFault = CommitFault.NONE
    """Set by a test to make the next commits fail."""
    told: Callable[[], None] = lambda: None
    """Increments the event number of the pool device."""
    requeue: Callable[[], None] = lambda: None
    """Continues the writes that waited for space, because there is some again (dm-thin.c, `check_for_data_space`)."""
    timed_out: bool = False
    """Whether the kernel's no_space_timeout has passed: writes that find no space fail, whatever the table says."""

    @property
    def features(self) -> PoolTable | None:
        return None if self.bound is None else self.bound.wanted

    @property
    def discards(self) -> str:
        return "passdown" if self.features is None else self.features.discards

    @property
    def errors_if_full(self) -> bool:
        return self.timed_out or (self.features is not None and self.features.error_if_full)

    def put(self) -> None:
        """Drops a table that refers to the pool. The last one closes the pool, which commits."""
        self.users -= 1
        if self.users == 0:
            self.commit()
            del self.up[self.metadata]

    # Metadata

    def commit(self) -> None:
        """Makes all changes durable. The sender of a message is not told of a commit that fails after it (observed)."""
        if self.mode >= Mode.OUT_OF_METADATA_SPACE:
            return
        if self.commit_fault is not CommitFault.NONE:
            self._abort()
            return
        self.metadata.image = self.image.copy()
        if self.image.metadata_used() >= self.image.metadata_blocks:
            self.set_mode(Mode.OUT_OF_METADATA_SPACE)
            return
        if self.mode is Mode.OUT_OF_DATA_SPACE and self.free_blocks() > 0:
            self.set_mode(Mode.WRITE)
            self.requeue()

    def write_in_place(self) -> None:
        """Makes a write durable without a commit, if its block was mapped at the last commit already."""
        durable = self.metadata.image
        if durable is None:
            return
        for thin_id, before in list(durable.thins.items()):
            now = self.image.thins.get(thin_id, before).blocks
            same = {number: now[number] for number, was in before.blocks.items() if _is_in_place(now.get(number), was)}
            durable.thins[thin_id] = replace(before, blocks={**before.blocks, **same})

    def _abort(self) -> None:
        """Undoes everything since the last commit (dm-thin.c, `abort_transaction`)."""
        if self.metadata.image is not None:
            self.image = self.metadata.image.copy()
        if self.commit_fault is CommitFault.FAIL:
            self.set_mode(Mode.FAIL)
            return
        self.image.needs_check = True
        if self.metadata.image is not None:
            self.metadata.image.needs_check = True
        self.set_mode(Mode.READ_ONLY)

    def set_mode(self, new: Mode) -> None:
        if new is Mode.WRITE and self.image.needs_check:
            new = Mode.READ_ONLY if self.mode is Mode.WRITE else self.mode
        if self.mode is Mode.FAIL:
            new = self.mode
        if new is Mode.WRITE:
            self.timed_out = False
        changed, self.mode = new is not self.mode, new
        if self.bound is not None:
            self.bound.mode = new
        if changed:
            self.told()

    def free_blocks(self) -> int:
        return self.image.data_blocks - len(self.image.used_blocks())

    # Messages

    def message(self, words: list[str]) -> None:
        """Handles a message. Raises MetadataError."""
        if self.mode >= Mode.OUT_OF_METADATA_SPACE:
            raise MetadataError(errno.EOPNOTSUPP)
        self._do(words)
        self.commit()

    def _do(self, words: list[str]) -> None:
        image = self.image
        match words:
            case ["create_thin", new]:
                image.create_thin(_thin_id(new))
            case ["create_snap", new, origin]:
                image.create_snap(_thin_id(new), _thin_id(origin))
            case ["delete", old]:
                self._delete(_thin_id(old))
            case ["set_transaction_id", old, new]:
                image.set_transaction_id(_number(old), _number(new))
            case ["reserve_metadata_snap"]:
                self._commit_or_fail()
                self.image.reserve_snap()
            case ["release_metadata_snap"]:
                image.release_snap()
            case _:
                raise MetadataError(errno.EINVAL)

    def _commit_or_fail(self) -> None:
        """Commits for a metadata snapshot. Unlike with other messages, the sender gets a failure (observed on 6.1)."""
        self.commit()
        if self.mode >= Mode.OUT_OF_METADATA_SPACE:
            raise MetadataError(errno.EINVAL if self.mode is Mode.FAIL else errno.EPERM)

    def _delete(self, thin_id: int) -> None:
        self.image.of(thin_id)
        if any(thin.thin_id == thin_id for thin in self.thins):
            raise MetadataError(errno.EBUSY)
        self.image.delete(thin_id)

    # I/O

    def write(self, thin_id: int, number: int, token: str) -> bool:
        """Writes a block. False if there is no space and the write waits. Raises MetadataError if it fails."""
        if self.mode >= Mode.OUT_OF_METADATA_SPACE:
            if self.mode is Mode.FAIL or self.image.needs_new_block(thin_id, number):
                raise MetadataError(errno.EIO)
        elif self.image.needs_new_block(thin_id, number) and not self._has_room():
            if self.errors_if_full:
                raise MetadataError(errno.ENOSPC)
            return False
        self.image.write(thin_id, number, token)
        self.data.written(self.image.of(thin_id).blocks[number].block, token)
        return True

    def _has_room(self) -> bool:
        if self.mode is Mode.OUT_OF_DATA_SPACE:
            return False
        free = self.free_blocks()
        low_water = self.features.low_water if self.features is not None else 0
        if free <= low_water and not self.low_water_told:
            self.low_water_told = True
            self.told()
        if free > 0:
            return True
        self.set_mode(Mode.OUT_OF_DATA_SPACE)
        return False

    # Suspending

    def suspend(self) -> None:
        """Suspends the pool, and all its thins internally."""
        self.suspended = True
        for thin in self.thins:
            thin.device.internal += 1

    def bind(self, target: PoolTarget) -> None:
        """Takes the resumed table into use. Raises MetadataError with EINVAL if it is shorter than the pool."""
        self.bound = target
        self.timed_out = False
        self.set_mode(target.mode)
        if self.mode is Mode.FAIL:
            return
        blocks = target.wanted.length // self.image.block
        if blocks < self.image.data_blocks:
            raise MetadataError(errno.EINVAL)
        if self.image.needs_check:
            return
        grown = blocks > self.image.data_blocks
        metadata_blocks = self.metadata.size // 4096
        self.image.data_blocks = blocks
        if metadata_blocks > self.image.metadata_blocks and self.mode is Mode.OUT_OF_METADATA_SPACE:
            self.set_mode(Mode.WRITE)
        if grown or metadata_blocks > self.image.metadata_blocks:
            self.image.metadata_blocks = metadata_blocks
            self.commit()

    def resume(self) -> None:
        for thin in self.thins:
            thin.device.internal -= 1
        self.low_water_told = False
        self.suspended = False

    # Status

    def status(self) -> str:
        if self.mode is Mode.FAIL:
            return "Fail"
        image = self.image
        discards = {"ignore": "ignore_discard", "nopassdown": "no_discard_passdown"}
        words = [
            str(image.transaction_id),
            f"{image.metadata_used()}/{image.metadata_blocks}",
            f"{len(image.used_blocks())}/{image.data_blocks}",
            "-" if image.held is None else "7",
            _WORDS.get(self.mode, "ro"),
            discards.get(self.discards, "discard_passdown"),
            "error_if_no_space" if self.errors_if_full else "queue_if_no_space",
            "needs_check" if image.needs_check else "-",
            # By the present size of the device, whether that is in use or not.
            str(min(1024, self.metadata.size // 4096 // 4)),
        ]
        return " ".join(words)


def _is_in_place(now: Mapping | None, was: Mapping) -> bool:
    return now is not None and now.block == was.block


def _number(word: str) -> int:
    if not word.isdecimal():
        raise MetadataError(errno.EINVAL)
    return int(word)


def _thin_id(word: str) -> int:
    number = _number(word)
    if number > MAX_THIN_ID:
        raise MetadataError(errno.EINVAL)
    return number


class PoolTarget(SimpleTarget):
    def __init__(self, line: Target, table: PoolTable, pool: Pool) -> None:
        super().__init__(line, (table.metadata, table.data))
        self.wanted = table
        self.pool = pool
        self.mode = Mode.READ_ONLY if table.read_only else Mode.WRITE
        """The mode that a resume of the table asks for; for a table that was in use, the mode of the pool (dm-thin.c,
        `adjusted_pf`).
        """
        pool.users += 1

    def status(self) -> str:
        return self.pool.status()

    def close(self) -> None:
        self.pool.put()


class ThinTarget(SimpleTarget):
    def __init__(self, line: Target, device: Device, pool: Pool, thin_id: int, external: Devno | None) -> None:
        super().__init__(line, (pool.device.devno,) if external is None else (pool.device.devno, external))
        self.device = device
        self.pool = pool
        self.thin_id = thin_id
        self.external = external
        """The external origin, which is read where nothing was written."""
        pool.users += 1
        pool.thins.append(self)

    def table(self) -> Target:
        """The table. The thins of a failed pool do not report theirs either (dm-thin.c, `thin_status`)."""
        if self.pool.mode is Mode.FAIL:
            return Target(self.line.start, self.line.length, "thin", "Fail")
        return self.line

    def status(self) -> str:
        if self.pool.mode is Mode.FAIL:
            return "Fail"
        blocks = self.pool.image.of(self.thin_id).blocks
        size = self.pool.image.block
        highest = str((max(blocks) + 1) * size - 1) if blocks else "-"
        return f"{len(blocks) * size} {highest}"

    def close(self) -> None:
        self.pool.thins.remove(self)
        self.pool.put()


def pool_of(table: Loaded | None) -> PoolTarget | None:
    """The first target of the table, if it is a pool."""
    first = table.targets[0] if table is not None and table.targets else None
    return first if isinstance(first, PoolTarget) else None


def thin_of(table: Loaded | None) -> ThinTarget | None:
    """The first target of the table, if it is a thin."""
    first = table.targets[0] if table is not None and table.targets else None
    return first if isinstance(first, ThinTarget) else None
