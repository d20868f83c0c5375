"""Steps on files, loops and metadata at rest."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Final

from reconciler.kernel.block.superblock import SUPERBLOCK_SIZE
from reconciler.kernel.protocol import Disks, Kernel
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostFault, Unconfirmed
from reconciler.model.live import Loop, PathKind
from reconciler.model.steps import (
    AttachLoop,
    CheckMetadata,
    DeleteFile,
    DetachLoop,
    GrowFile,
    HostStep,
    MakeFile,
    ZeroSuperblock,
)
from reconciler.model.units import Bytes


def resolve(disks: Disks, path: str) -> tuple[Devno, Bytes]:
    """The block device that a pool's path stands for, and its size: itself, or the one loop on the file."""
    kind, size, devno = disks.kind(path)
    if kind is PathKind.BLOCK and devno is not None:
        return devno, size
    loop = the_loop(disks, path)
    if loop is None:
        raise HostFault("use", path, errno.ENODEV, "no loop is on it")
    return loop.devno, loop.size


def the_loop(disks: Disks, path: str) -> Loop | None:
    """The one loop on the file, if there is one (and a file). Two are two views of one disk."""
    if disks.kind(path)[0] is PathKind.MISSING:
        return None
    loops = disks.loops_on(path)
    if len(loops) > 1:
        raise HostFault("use", path, errno.EEXIST, f"{len(loops)} loops are on it at once, which corrupts it")
    return loops[0] if loops else None


def _make_file(kernel: Kernel, step: MakeFile) -> str:
    kernel.disks.make_file(step.subject, step.size, allocate=step.allocate)
    return ""


def _grow_file(kernel: Kernel, step: GrowFile) -> str:
    kernel.disks.grow_file(step.subject, step.size, allocate=step.allocate)
    loop = the_loop(kernel.disks, step.subject)
    if loop is not None:
        kernel.disks.resize_loop(loop)
    return ""


def _attach(kernel: Kernel, step: AttachLoop) -> str:
    if the_loop(kernel.disks, step.subject) is not None:
        return "there is one on it already"
    if users := kernel.disks.writers(step.subject):
        raise HostFault("attach a loop to", step.subject, errno.EBUSY, f"{', '.join(users)} has it open for writing")
    kernel.disks.attach(step.subject)
    if the_loop(kernel.disks, step.subject) is None:
        raise Unconfirmed("attach a loop to", step.subject, 0, "none is on it")
    return ""


def _detach(kernel: Kernel, step: DetachLoop) -> str:
    loop = the_loop(kernel.disks, step.subject)
    if loop is None:
        return "gone already"
    users = kernel.disks.mounts(loop.devno) + kernel.disks.above(loop.devno)
    if users:
        raise HostFault("detach the loop on", step.subject, errno.EBUSY, f"in use by {', '.join(users)}")
    kernel.disks.detach(loop)
    return ""


def _check(kernel: Kernel, step: CheckMetadata) -> str:
    # Through the loop: thin_check opens with O_DIRECT, which not every filesystem has for its files.
    loop = the_loop(kernel.disks, step.subject)
    node = step.subject if loop is None else loop.path
    try:
        harmless = kernel.tools.thin_check(node)
    except HostFault as fault:
        if fault.errno != errno.EUCLEAN:
            raise
        advice = f"`thin_repair -i {step.subject} -o NEW` makes a repaired copy"
        raise HostFault("thin_check", step.subject, errno.EUCLEAN, f"{fault.detail}; {advice}") from fault
    if not harmless:
        return ""
    return (
        f"harmless, lost room at most: {harmless}; `thin_check --auto-repair {step.subject}` while it is down mends it"
    )


def _zero(kernel: Kernel, step: ZeroSuperblock) -> str:
    """A block device that is in use refuses; a file that is on a loop does not."""
    loop = the_loop(kernel.disks, step.subject)
    users = kernel.disks.above(loop.devno) if loop is not None else []
    if users:
        raise HostFault("zero", step.subject, errno.EBUSY, f"its loop is in use by {', '.join(users)}")
    kernel.disks.zero(step.subject, SUPERBLOCK_SIZE)
    return ""


def _delete(kernel: Kernel, step: DeleteFile) -> str:
    if the_loop(kernel.disks, step.subject) is not None:
        raise HostFault("delete", step.subject, errno.EBUSY, "a loop is on it")
    kernel.disks.delete_file(step.subject)
    return ""


DISK_STEPS: Final[dict[type[HostStep], Callable[[Kernel, Any], str]]] = {
    MakeFile: _make_file,
    GrowFile: _grow_file,
    AttachLoop: _attach,
    DetachLoop: _detach,
    CheckMetadata: _check,
    ZeroSuperblock: _zero,
    DeleteFile: _delete,
}
