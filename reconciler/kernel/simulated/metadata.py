"""A thin pool's metadata: what is on its metadata device, and what a pool that is up has not written there yet.

Rules of sharing, and their times: kernel, drivers/md/dm-thin-metadata.c (`__create_snap`, `__snapshotted_since`).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, replace
from typing import Final

from reconciler.model.units import Sectors

MAX_THIN_ID: Final = 2**24 - 1
EMPTY_USED: Final = 10
"""Metadata blocks that an empty pool uses, about."""


class MetadataError(Exception):
    """An operation that the metadata refuses, with the kernel's errno."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapped block. `token` stands for what is written in it."""

    block: int
    """The data block's number: two thins that share one have the same."""
    time: int
    token: str


@dataclass(frozen=True, slots=True)
class ThinImage:
    created_at: int
    snapshotted: int = 0
    """The time of the last snapshot that it took part in: what was mapped before is shared."""
    blocks: dict[int, Mapping] = field(default_factory=dict)

    @property
    def content(self) -> dict[int, str]:
        return {number: mapping.token for number, mapping in self.blocks.items()}


@dataclass(slots=True)
class PoolImage:
    """Everything in the metadata. Thin images are never changed in place, so that a copy is cheap."""

    block: Sectors
    metadata_blocks: int
    data_blocks: int = 0
    transaction_id: int = 0
    time: int = 0
    thins: dict[int, ThinImage] = field(default_factory=dict)
    held: dict[int, ThinImage] | None = None
    """What a reserved metadata snapshot shows."""
    needs_check: bool = False
    spent: int = 0
    """Blocks of metadata that are used besides what is reckoned here, as by trees that have grown apart."""
    next_block: int = 0

    def copy(self) -> PoolImage:
        return replace(self, thins=dict(self.thins), held=None if self.held is None else dict(self.held))

    def used_blocks(self) -> set[int]:
        images = [*self.thins.values(), *(self.held or {}).values()]
        return {mapping.block for image in images for mapping in image.blocks.values()}

    def metadata_used(self) -> int:
        """About: the real number depends on how the trees have grown."""
        mappings = sum(len(image.blocks) for image in self.thins.values())
        used = EMPTY_USED + len(self.thins) + mappings // 126 + (2 if self.held is not None else 0) + self.spent
        return min(self.metadata_blocks, used + self.metadata_reserve())

    def metadata_reserve(self) -> int:
        """What the kernel keeps back for its own commits (dm-thin-metadata.c, `__set_metadata_reserve`)."""
        return min(self.metadata_blocks // 10, 4096)

    # What messages do.

    def create_thin(self, thin_id: int) -> None:
        if thin_id in self.thins:
            raise MetadataError(errno.EEXIST)
        self.thins[thin_id] = ThinImage(self.transaction_id)

    def create_snap(self, thin_id: int, origin: int) -> None:
        if thin_id in self.thins:
            raise MetadataError(errno.EEXIST)
        image = self.of(origin)
        self.time += 1
        self.thins[origin] = replace(image, snapshotted=self.time)
        self.thins[thin_id] = ThinImage(self.transaction_id, self.time, dict(image.blocks))

    def delete(self, thin_id: int) -> None:
        self.of(thin_id)
        del self.thins[thin_id]

    def set_transaction_id(self, old: int, new: int) -> None:
        if old != self.transaction_id:
            raise MetadataError(errno.EINVAL)
        self.transaction_id = new

    def reserve_snap(self) -> None:
        if self.held is not None:
            raise MetadataError(errno.EBUSY)
        self.held = dict(self.thins)

    def release_snap(self) -> None:
        if self.held is None:
            raise MetadataError(errno.EINVAL)
        self.held = None

    def of(self, thin_id: int) -> ThinImage:
        if thin_id not in self.thins:
            raise MetadataError(errno.ENODATA)
        return self.thins[thin_id]

    # What I/O does.

    def needs_new_block(self, thin_id: int, number: int) -> bool:
        image = self.of(thin_id)
        mapping = image.blocks.get(number)
        return mapping is None or image.snapshotted > mapping.time

    def write(self, thin_id: int, number: int, token: str) -> None:
        image = self.of(thin_id)
        block, time = self.next_block, self.time
        if self.needs_new_block(thin_id, number):
            self.next_block += 1
        else:
            block, time = image.blocks[number].block, image.blocks[number].time
        blocks = {**image.blocks, number: Mapping(block, time, token)}
        self.thins[thin_id] = replace(image, blocks=blocks)

    def discard(self, thin_id: int) -> None:
        self.thins[thin_id] = replace(self.of(thin_id), blocks={})
