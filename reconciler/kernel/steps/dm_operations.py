"""What an entry of the table of steps is, and the moves on dm devices that several steps are made of, with the looks that
confirm them.

Which disk below a pool's data fails: device-mapper says EIO of the thin, and the pool itself stays `rw` (observed).

The metadata may be healthy then, so that thins are made, and nothing can be written to them. So the disk is read before
anything is made in the pool, and named where something on a thin did not work.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from reconciler.kernel.protocol import Kernel
from reconciler.model.dm_tables import (
    Devno,
    PoolMode,
    PoolStatus,
    PoolTable,
    Target,
    ThinTable,
    read_pool_status,
    read_table,
)
from reconciler.model.errors import (
    HostError,
    PreconditionError,
    UnreleasedError,
    VerificationError,
    WorkerDiedError,
    WorkerTimeoutError,
    answers_message,
)
from reconciler.model.live import DeviceInfo, ThinIds
from reconciler.model.steps import HostStep


@dataclass(frozen=True, slots=True)
class StepHandler:
    """All there is to know about one kind of step: the columns of the table."""

    act: Callable[[Kernel, Any], str | None]
    """Does it. What it gives is the note of the StepResult. Raises HostError."""
    confirm: Callable[[Kernel, Any], None]
    """The look afterwards: the kernel says OK to things that did not happen. Raises VerificationError. Where there was
    nothing to do, there is nothing to confirm.
    """
    commands: Callable[[Any], list[str]]
    """The command lines that a person would type for it: what `plan` shows."""
    test: str
    """In tests/unit/controller/test_steps_simulated.py: that it is done, and that it is noticed when it was not."""


StepTable = Mapping[type[HostStep], StepHandler]


def answered(kernel: Kernel, step: HostStep) -> None:
    """For a step whose call, or program, itself tells whether it happened."""
    del kernel, step


def looked_at_by(move: Callable[..., object]) -> Callable[[Kernel, HostStep], None]:
    """For a step that is made of this move, which looks itself: what it saw before, or on the way, belongs to it."""
    del move
    return answered


_PIECE: Final = 4096
"""Bytes: the largest block that a disk may insist on."""


def refuse_on_failing_disk(kernel: Kernel, operation: str, pool: str) -> None:
    """In the moment before something is made. Raises PreconditionError with the disk's name."""
    words = _failing(kernel, pool)
    if words:
        raise PreconditionError(operation, pool, errno.EIO, f"nothing is made: {words}")


def with_disk(kernel: Kernel, fault: HostError, table: Target) -> HostError:
    """What did not work on this thin, with the disk below that fails, if one can be told; else as it is."""
    pool = _pool_of(kernel, table)
    words = _failing(kernel, pool) if pool else ""
    if not words:
        return fault
    return type(fault)(fault.operation, fault.subject, fault.errno, f"{fault.detail}; {words}".removeprefix("; "))


def _failing(kernel: Kernel, pool: str) -> str | None:
    """The lowest device below the pool's data that cannot be read, in words; None if all can."""
    table = read_table(kernel.dm.table(pool))
    if not isinstance(table, PoolTable):
        return None
    for devno in _from_below(kernel, table.data):
        node = kernel.disks.node(devno)
        try:
            kernel.disks.read(node, _PIECE)
        except HostError as fault:
            if fault.errno != errno.EIO:
                continue  # it is gone, or may not be opened: that is another matter
            name = _name_of(kernel, devno)
            return (
                f"the disk below the pool's data, {name or node}, cannot be read ({fault.code}): mend it, see `dmesg`"
            )
    return None


def _from_below(kernel: Kernel, data: Devno) -> Iterator[Devno]:
    """The deepest first; who is suspended would hang its reader."""
    found = [devno for devno in kernel.disks.below(data) if devno != data]
    for devno in (*reversed(found), data):
        name = _name_of(kernel, devno)
        info = kernel.dm.info(name.rpartition("/")[2]) if name else None
        if info is not None and info.suspended:
            return
        yield devno


def _name_of(kernel: Kernel, devno: Devno) -> str | None:
    """Of a dm device, as people know it; None for any other."""
    return next((f"/dev/mapper/{found.name}" for found in kernel.dm.list_all() if found.devno == devno), None)


def _pool_of(kernel: Kernel, table: Target) -> str:
    thin = read_table((table,))
    if not isinstance(thin, ThinTable):
        return ""
    return next((found.name for found in kernel.dm.list_all() if found.devno == thin.pool), "")


_GOING_AWAY: Final = "a filesystem on it is just being unmounted, and cannot be frozen"


def activate(kernel: Kernel, name: str, uuid: str, table: Target, *, read_only: bool, hidden: bool) -> None:
    """Create, load, resume: `confirm_table` looks whether it came true. The one-shot create of dmsetup loses the load's
    errno, and leaves a shell behind.
    """
    kernel.dm.create(name, uuid)
    try:
        kernel.dm.load(name, (table,), read_only=read_only)
        kernel.dm.resume(name, hidden=hidden)
    except HostError:
        kernel.dm.remove(name)
        raise
    if hidden:  # udev's rules may have left it alone altogether; one that is not hidden has its links to wait for too
        make_node(kernel, name)


def make_node(kernel: Kernel, name: str) -> str | None:
    """Its node in /dev/mapper, where it is missing. Gives why it still is: None where it is there."""
    info, path = require(kernel, "make the node of", name), f"/dev/mapper/{name}"
    if path not in kernel.udev.missing(info):
        return None
    kernel.dm.mknodes(name)
    if path not in kernel.udev.missing(info):
        return None
    return kernel.udev.in_the_way(path) or "device-mapper's library did not make it"


@contextlib.contextmanager
def told_if_frozen(kernel: Kernel, name: str) -> Iterator[None]:
    """Around what suspends a device: EBUSY means that its filesystem is frozen already, by fsfreeze or a backup (the
    kernel's freeze_super; observed on 6.1). Raises that with where it is mounted, and the command that ends it.
    """
    try:
        yield
    except HostError as fault:
        info = kernel.dm.info(name) if fault.errno == errno.EBUSY else None
        places = [] if info is None else [place for place in kernel.disks.mounts(info.devno) if place != "swap"]
        if not places:
            raise
        detail = f"its filesystem is frozen: `fsfreeze --unfreeze {places[0]}` ends that, if no backup is at work there"
        raise HostError(fault.operation, fault.subject, errno.EBUSY, detail) from fault


def confirm_table(kernel: Kernel, operation: str, name: str, table: Target, *, read_only: bool) -> None:
    info = require(kernel, operation, name)
    if info.suspended or kernel.dm.table(name) != (table,):
        raise VerificationError(operation, name, 0, "it does not show the table that was loaded")
    if read_only and not info.read_only:
        raise VerificationError(operation, name, 0, "it can still be written to")


def suspend(kernel: Kernel, name: str) -> None:
    """Raises PreconditionError where a filesystem on it is just going away: that ends by itself.

    Since Linux 6.8 a superblock that is being shut down cannot be frozen: EINVAL.
    """
    try:
        with told_if_frozen(kernel, name):
            kernel.dm.suspend(name)
    except HostError as fault:
        if fault.errno != errno.EINVAL:
            raise
        raise PreconditionError("suspend", name, errno.EAGAIN, _GOING_AWAY) from fault


def swap_in(kernel: Kernel, name: str, *, hidden: bool = False, freeze: bool = True) -> None:
    """Resume what runs, with the table that waits. Where that fails no table is left waiting.

    The kernel suspends it first. If that fails, as in `suspend`, the device goes on under its old table.
    """
    try:
        with told_if_frozen(kernel, name):
            kernel.dm.resume(name, hidden=hidden, freeze=freeze)
    except HostError as fault:
        info = None
        with contextlib.suppress(HostError):  # the first fault is the one that tells
            info = kernel.dm.info(name)
            kernel.dm.clear(name)
        if fault.errno == errno.EINVAL and info is not None and not info.suspended:
            raise PreconditionError("suspend", name, errno.EAGAIN, _GOING_AWAY) from fault
        raise


def require(kernel: Kernel, operation: str, name: str) -> DeviceInfo:
    info = kernel.dm.info(name)
    if info is None:
        raise HostError(operation, name, errno.ENXIO, "it is not there")
    return info


def read_ids(kernel: Kernel, pool: str, metadata: Devno, *, held: bool, ours: bool) -> ThinIds:
    """All thin ids of a live pool that can be written to, through a metadata snapshot that is released in any case.

    `held`: it holds one already. Another program's stays: it may read through it, and what was made since is not in it,
    so that nothing is read from there either. Raises PreconditionError then, Unreleased where it failed later.
    """
    if held and not ours:
        raise held_by_another(pool)
    try:
        if held:
            kernel.dm.message(pool, "release_metadata_snap")
        _reserve(kernel, pool)
        try:
            ids = kernel.tools.thin_ls(kernel.disks.node(metadata), live=True)
        finally:
            kernel.dm.message(pool, "release_metadata_snap")
        _confirm_committed(kernel, "release_metadata_snap", pool)
    except PreconditionError:
        raise
    except HostError as fault:
        raise UnreleasedError(fault.operation, fault.subject, fault.errno, fault.detail) from fault
    return ids


def _reserve(kernel: Kernel, pool: str) -> None:
    try:
        kernel.dm.message(pool, "reserve_metadata_snap")
    except HostError as fault:
        if answers_message(fault, errno.EBUSY):  # somebody else was faster
            raise held_by_another(pool) from fault
        raise


def held_by_another(pool: str) -> PreconditionError:
    detail = (
        f"another program holds the pool's metadata snapshot; waiting until it releases that (if nobody needs it any "
        f"more: `dmsetup message {pool} 0 release_metadata_snap`)"
    )
    return PreconditionError("read the thin ids of", pool, errno.EBUSY, detail)


def _confirm_committed(kernel: Kernel, message: str, pool: str) -> None:
    """The kernel says OK to a message whose commit failed, and the pool takes no more writes then: what it was about is
    on disk as before, and is there again once the pool was repaired.
    """
    lines = kernel.dm.status(pool)
    status = read_pool_status(lines[0][1]) if len(lines) == 1 and lines[0][0] == "thin-pool" else None
    if not isinstance(status, PoolStatus) or status.mode not in {PoolMode.RW, PoolMode.OUT_OF_DATA_SPACE}:
        raise VerificationError(message, pool, 0, "the pool takes no writes any more since")


def may_be_reserved(fault: HostError) -> bool:
    """Whether a reading of the thin ids that failed so may have left its metadata snapshot."""
    return isinstance(fault, UnreleasedError | WorkerTimeoutError | WorkerDiedError)


def remove(kernel: Kernel, name: str, uuid: str) -> str:
    """Only if it still is what it was when the plan was made."""
    info = kernel.dm.info(name)
    if info is None:
        return "gone already"
    if info.uuid != uuid:
        raise HostError("remove", name, errno.ESTALE, "it has become another device since the last look")
    try:
        kernel.dm.remove(name)
    except HostError as fault:
        if fault.errno == errno.ENXIO:
            return "gone already"
        raise
    after = kernel.dm.info(name)
    if after is not None and after.devno == info.devno and after.uuid == uuid:
        raise VerificationError("remove", name, 0, "it is still there")
    return ""
