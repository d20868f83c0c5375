"""Operations on device-mapper that are done to a real kernel and to the simulated one, and what is seen after each.

Names are symbolic: `pool`, `t0`. Who plays an operation turns them into names of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 128
"""Sectors: 64 KiB, the least that a pool takes."""


@dataclass(frozen=True, slots=True)
class Operation:
    name: str


@dataclass(frozen=True, slots=True)
class Create(Operation):
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class LoadPool(Operation):
    blocks: int
    """Length, in blocks."""
    low_water: int = 0
    features: str = "1 error_if_no_space"
    block: int = BLOCK
    read_only: bool = False
    metadata: str = "metadata"
    data: str = "data"


@dataclass(frozen=True, slots=True)
class LoadThin(Operation):
    thin_id: str
    blocks: int = 16
    read_only: bool = False
    pool: str = "pool"
    more: str = ""
    external: str = ""
    """The device that is its external origin."""


@dataclass(frozen=True, slots=True)
class LoadLinear(Operation):
    on: str
    start: int = 0
    length: int = 2048


@dataclass(frozen=True, slots=True)
class LoadLines(Operation):
    """Lines as they environment."""

    lines: tuple[tuple[int, int, str, str], ...]


def load_error(name: str, length: int = 2048) -> LoadLines:
    return LoadLines(name, ((0, length, "error", ""),))


@dataclass(frozen=True, slots=True)
class Resume(Operation):
    freeze: bool = True


@dataclass(frozen=True, slots=True)
class Suspend(Operation):
    pass


@dataclass(frozen=True, slots=True)
class Remove(Operation):
    pass


@dataclass(frozen=True, slots=True)
class RemoveDeferred(Operation):
    """What the reconciler never does, and others do."""


@dataclass(frozen=True, slots=True)
class Rename(Operation):
    """The same."""

    new: str


@dataclass(frozen=True, slots=True)
class Clear(Operation):
    pass


@dataclass(frozen=True, slots=True)
class Message(Operation):
    text: str


@dataclass(frozen=True, slots=True)
class FillMetadata(Operation):
    """Thins from id 1000 on, until the pool is read-only: how many, is the business of the kernel's trees."""


@dataclass(frozen=True, slots=True)
class Write(Operation):
    """A word into the first bytes of a block, flushed."""

    number: int
    token: str


@dataclass(frozen=True, slots=True)
class Read(Operation):
    number: int


@dataclass(frozen=True, slots=True)
class ThinIds(Operation):
    """Reserve the pool's metadata snapshot, read it with thin_ls, release it."""


@dataclass(frozen=True, slots=True)
class Grow(Operation):
    """A disk's file and its loop, to so many blocks."""

    blocks: int


@dataclass(frozen=True, slots=True)
class Garbage(Operation):
    """Write something into the first block of a disk that no pool is on."""


@dataclass(frozen=True, slots=True)
class Zero(Operation):
    """The first block of a disk."""


@dataclass(frozen=True, slots=True)
class Detach(Operation):
    """The disk's loop."""


@dataclass(frozen=True, slots=True)
class PowerCut(Operation):
    """Only what is in the disks' files stays; they are on loops again afterwards."""
