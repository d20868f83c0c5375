"""Steps on files, loops and metadata at rest."""

from __future__ import annotations

import errno
from typing import Final

from reconciler.kernel.block.files import SUPERBLOCK_SIZE
from reconciler.kernel.command_lines import shell_line, thin_check_command
from reconciler.kernel.protocol import Disks, Kernel
from reconciler.kernel.steps.dm_operations import StepHandler, StepTable, answered
from reconciler.model.errors import HostError, VerificationError
from reconciler.model.live import Loop, PathKind
from reconciler.model.steps import (
    AttachLoop,
    CheckMetadata,
    DeleteFile,
    DetachLoop,
    GrowFile,
    MakeFile,
    ZeroSuperblock,
)


def the_loop(disks: Disks, path: str) -> Loop | None:
    """The only loop on the file; None if there is none, or no file. Raises HostError for two, which
    corrupt the file.
    """
    if disks.kind(path)[0] is PathKind.MISSING:
        return None
    loops = disks.loops_on(path)
    if len(loops) > 1:
        raise HostError("use", path, errno.EEXIST, f"{len(loops)} loops are on it at once, which corrupts it")
    return loops[0] if loops else None


def _make_file(kernel: Kernel, step: MakeFile) -> None:
    kernel.disks.make_file(step.subject, step.size, allocate=step.allocate)


def _grow_file(kernel: Kernel, step: GrowFile) -> None:
    kernel.disks.grow_file(step.subject, step.size, allocate=step.allocate)
    loop = the_loop(kernel.disks, step.subject)
    if loop is not None:
        kernel.disks.resize_loop(loop)


def _size_commands(step: MakeFile | GrowFile, at_least: str = "") -> list[str]:
    """The commands that set the size. A `>` keeps truncate from shrinking the file; fallocate never does."""
    program = ("fallocate", "-l", str(step.size)) if step.allocate else ("truncate", "-s", f"{at_least}{step.size}")
    return [shell_line((*program, step.subject))]


def _attach(kernel: Kernel, step: AttachLoop) -> str | None:
    if the_loop(kernel.disks, step.subject) is not None:
        return "there is one on it already"
    if users := kernel.disks.writers(step.subject):
        raise HostError("attach a loop to", step.subject, errno.EBUSY, f"{', '.join(users)} has it open for writing")
    kernel.disks.attach(step.subject)
    return None


def _is_attached(kernel: Kernel, step: AttachLoop) -> None:
    if the_loop(kernel.disks, step.subject) is None:
        raise VerificationError("attach a loop to", step.subject, 0, "none is on it")


def _detach(kernel: Kernel, step: DetachLoop) -> str | None:
    loop = the_loop(kernel.disks, step.subject)
    if loop is None:
        return "gone already"
    users = kernel.disks.mounts(loop.devno) + kernel.disks.above(loop.devno)
    if users:
        raise HostError("detach the loop on", step.subject, errno.EBUSY, f"in use by {', '.join(users)}")
    kernel.disks.detach(loop)
    return None


def _check(kernel: Kernel, step: CheckMetadata) -> str:
    # Through the loop, because thin_check opens with O_DIRECT, which not every filesystem has for its files.
    loop = the_loop(kernel.disks, step.subject)
    node = step.subject if loop is None else loop.path
    try:
        harmless = kernel.tools.thin_check(node)
    except HostError as fault:
        if fault.errno != errno.EUCLEAN:
            raise
        advice = f"`thin_repair -i {step.subject} -o NEW` makes a repaired copy"
        raise HostError("thin_check", step.subject, errno.EUCLEAN, f"{fault.detail}; {advice}") from fault
    if not harmless:
        return ""
    return (
        f"harmless, lost room at most: {harmless}; `thin_check --auto-repair {step.subject}` while it is down mends it"
    )


def _zero(kernel: Kernel, step: ZeroSuperblock) -> None:
    """Zeroes the first block. A block device refuses that while it is in use, but a file on a loop does not."""
    loop = the_loop(kernel.disks, step.subject)
    users = kernel.disks.above(loop.devno) if loop is not None else []
    if users:
        raise HostError("zero", step.subject, errno.EBUSY, f"its loop is in use by {', '.join(users)}")
    kernel.disks.zero(step.subject, SUPERBLOCK_SIZE)


def _zero_commands(step: ZeroSuperblock) -> list[str]:
    where = (f"of={step.subject}", f"bs={SUPERBLOCK_SIZE}")
    return [shell_line(("dd", "if=/dev/zero", *where, "count=1", "conv=notrunc,fsync"))]


def _delete(kernel: Kernel, step: DeleteFile) -> None:
    if the_loop(kernel.disks, step.subject) is not None:
        raise HostError("delete", step.subject, errno.EBUSY, "a loop is on it")
    kernel.disks.delete_file(step.subject)


DISK_STEPS: Final[StepTable] = {
    MakeFile: StepHandler(_make_file, answered, _size_commands, "test_make_file"),
    GrowFile: StepHandler(_grow_file, answered, lambda step: _size_commands(step, ">"), "test_grow_file"),
    AttachLoop: StepHandler(
        _attach,
        _is_attached,
        lambda step: [shell_line(("losetup", "--find", "--show", "--nooverlap", "--direct-io=on", step.subject))],
        "test_attach_loop",
    ),
    DetachLoop: StepHandler(
        _detach,
        answered,
        lambda step: [f"losetup --associated {step.subject}  # then: losetup --detach LOOP"],
        "test_detach_loop",
    ),
    CheckMetadata: StepHandler(
        _check, answered, lambda step: [shell_line(thin_check_command(step.subject))], "test_check_metadata"
    ),
    ZeroSuperblock: StepHandler(
        _zero,
        answered,
        _zero_commands,
        "test_zero_superblock",
    ),
    DeleteFile: StepHandler(
        _delete, answered, lambda step: [shell_line(("rm", "-f", step.subject))], "test_delete_file"
    ),
}
