"""The entry of the table of steps, and the operations on dm devices that several steps share, with the checks that
confirm them.

Also finds out which disk below a pool's data fails. Device-mapper returns EIO for the thin, and the pool itself stays
`rw` (observed). The metadata may be healthy then, so that thins can be made and nothing can be written to them. So the
disk is read before anything is made in the pool, and is named if something on a thin has failed.
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
    """All that is known of one kind of step: the columns of the table."""

    act: Callable[[Kernel, Any], str | None]
    """Does the step, and returns the note of the StepResult. Raises HostError."""
    confirm: Callable[[Kernel, Any], None]
    """Checks afterwards that it happened, because the kernel reports success for things that did not. Raises
    VerificationError. If there was nothing to do, there is nothing to confirm.
    """
    commands: Callable[[Any], list[str]]
    """The command lines that a person would type for it, which `plan` shows."""
    test: str
    """The test in tests/unit/controller/test_steps_simulated.py that does the step, and that sees a failure noticed."""


StepTable = Mapping[type[HostStep], StepHandler]


def answered(kernel: Kernel, step: HostStep) -> None:
    """Confirms a step whose call or program itself reports whether it happened."""
    del kernel, step


def looked_at_by(move: Callable[..., object]) -> Callable[[Kernel, HostStep], None]:
    """Confirms a step that consists of this operation, which checks itself, as the check needs what was seen before or
    on the way.
    """
    del move
    return answered


_PIECE: Final = 4096
"""How many bytes are read: the largest block size that a disk may require."""


def refuse_on_failing_disk(kernel: Kernel, operation: str, pool: str) -> None:
    """Reads the disks just before something is made. Raises PreconditionError with the name of the disk that fails."""
    words = _failing(kernel, pool)
    if words:
        raise PreconditionError(operation, pool, errno.EIO, f"nothing is made: {words}")


def with_disk(kernel: Kernel, fault: HostError, table: Target) -> HostError:
    """The error of an operation on this thin, with the failing disk below it if one is found."""
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
                continue  # it is gone, or may not be opened, which is another problem
            name = _name_of(kernel, devno)
            return (
                f"the disk below the pool's data, {name or node}, cannot be read ({fault.code}): mend it, see `dmesg`"
            )
    return None


def _from_below(kernel: Kernel, data: Devno) -> Iterator[Devno]:
    """Yields the devices below the pool's data, the deepest first, up to a suspended one, where a read would hang."""
    found = [devno for devno in kernel.disks.below(data) if devno != data]
    for devno in (*reversed(found), data):
        name = _name_of(kernel, devno)
        info = kernel.dm.info(name.rpartition("/")[2]) if name else None
        if info is not None and info.suspended:
            return
        yield devno


def _name_of(kernel: Kernel, devno: Devno) -> str | None:
    """The name of a dm device for messages; None for any other device."""
    return next((f"/dev/mapper/{found.name}" for found in kernel.dm.list_all() if found.devno == devno), None)


def _pool_of(kernel: Kernel, table: Target) -> str:
    thin = read_table((table,))
    if not isinstance(thin, ThinTable):
        return ""
    return next((found.name for found in kernel.dm.list_all() if found.devno == thin.pool), "")


_GOING_AWAY: Final = "a filesystem on it is just being unmounted, and cannot be frozen"


def activate(kernel: Kernel, name: str, uuid: str, table: Target, *, read_only: bool, hidden: bool) -> None:
    """Creates, loads and resumes a device; `confirm_table` checks the result. The one-shot create of dmsetup is not
    used, because it loses the errno of the load and leaves a shell.
    """
    kernel.dm.create(name, uuid)
    try:
        kernel.dm.load(name, (table,), read_only=read_only)
        kernel.dm.resume(name, hidden=hidden)
    except HostError:
        kernel.dm.remove(name)
        raise
    if hidden:  # udev's rules may ignore a hidden device altogether; any other has links to wait for, too
        make_node(kernel, name)


def make_node(kernel: Kernel, name: str) -> str | None:
    """Makes the device's node in /dev/mapper if it is missing. Returns why it is still missing; None if it is there."""
    info, path = require(kernel, "make the node of", name), f"/dev/mapper/{name}"
    if path not in kernel.udev.missing(info):
        return None
    kernel.dm.mknodes(name)
    if path not in kernel.udev.missing(info):
        return None
    return kernel.udev.in_the_way(path) or "device-mapper's library did not make it"


@contextlib.contextmanager
def told_if_frozen(kernel: Kernel, name: str) -> Iterator[None]:
    """Wraps a suspend. EBUSY means that the filesystem is frozen already, by fsfreeze or a backup (the kernel's
    freeze_super; observed on 6.1). That is raised with the mount point and the command that ends it.
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
    """Suspends the device. Raises PreconditionError while a filesystem on it is being unmounted, which ends by itself.

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
    """Resumes a live device with its inactive table. If that fails, no inactive table is left.

    The kernel suspends the device first. If that fails, as in `suspend`, the device goes on with its old table.
    """
    try:
        with told_if_frozen(kernel, name):
            kernel.dm.resume(name, hidden=hidden, freeze=freeze)
    except HostError as fault:
        info = None
        with contextlib.suppress(HostError):  # the first error is the one to report
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
    """All thin ids of a live and writable pool, read through a metadata snapshot that is released in any case.

    `held` says that the pool holds one already. That of another program stays, as the program may read through it, and
    it is not used here because it lacks later thins. Raises PreconditionError then, and UnreleasedError if the release
    failed.
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
        if answers_message(fault, errno.EBUSY):  # another program was faster
            raise held_by_another(pool) from fault
        raise


def held_by_another(pool: str) -> PreconditionError:
    detail = (
        f"another program holds the pool's metadata snapshot; waiting until it releases that (if nobody needs it any "
        f"more: `dmsetup message {pool} 0 release_metadata_snap`)"
    )
    return PreconditionError("read the thin ids of", pool, errno.EBUSY, detail)


def _confirm_committed(kernel: Kernel, message: str, pool: str) -> None:
    """Raises if a message was answered with success but its commit failed. The pool then takes no more writes, on disk
    all is as before the message, and a repair brings that state back.
    """
    lines = kernel.dm.status(pool)
    status = read_pool_status(lines[0][1]) if len(lines) == 1 and lines[0][0] == "thin-pool" else None
    if not isinstance(status, PoolStatus) or status.mode not in {PoolMode.RW, PoolMode.OUT_OF_DATA_SPACE}:
        raise VerificationError(message, pool, 0, "the pool takes no writes any more since")


def may_be_reserved(fault: HostError) -> bool:
    """Whether a reading of the thin ids that failed with this error may have left its metadata snapshot."""
    return isinstance(fault, UnreleasedError | WorkerTimeoutError | WorkerDiedError)


def remove(kernel: Kernel, name: str, uuid: str) -> str:
    """Removes the device, only if it still is what it was when the plan was made."""
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
