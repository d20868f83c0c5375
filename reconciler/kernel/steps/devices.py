"""Carrying out steps of a plan on the host. After each, a look: the kernel says OK to things that did not happen.

Each step as the commands that a person would type for it: what `plan` shows.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any, Final

from reconciler.kernel.block.files import SUPERBLOCK_SIZE
from reconciler.kernel.command_lines import (
    attach_command,
    delete_file_command,
    discard_command,
    dmsetup_clear,
    dmsetup_create,
    dmsetup_load,
    dmsetup_message,
    dmsetup_mknodes,
    dmsetup_remove,
    dmsetup_resume,
    dmsetup_suspend,
    grow_file_command,
    grow_filesystem_command,
    make_file_command,
    mkfs_command,
    set_writable_command,
    shell_line,
    thin_check_command,
    udev_trigger_command,
    zero_command,
)
from reconciler.kernel.protocol import Kernel, Mkfs
from reconciler.kernel.steps.dm_operations import (
    activate,
    confirm_table,
    make_node,
    remove,
    require,
    swap_in,
    with_disk,
)
from reconciler.kernel.steps.pools import DISK_STEPS, POOL_STEPS
from reconciler.model.dm_tables import Target
from reconciler.model.errors import HostError, NothingDoneError, VerificationError, WorkerTimeoutError
from reconciler.model.steps import (
    Activate,
    ActivatePool,
    AttachLoop,
    CancelDeferredRemove,
    CheckMetadata,
    Clear,
    ConfirmEmpty,
    CreateSnapshot,
    CreateThin,
    DeleteFile,
    DeleteThin,
    DetachLoop,
    DiscardThin,
    GrowFile,
    GrowFilesystem,
    HostStep,
    Load,
    LoadPool,
    MakeFile,
    MakeFilesystem,
    MakeWritable,
    PoolShape,
    RefreshNodes,
    Remove,
    RemovePool,
    Resume,
    SetTransactionId,
    Step,
    StepResult,
    ZeroSuperblock,
)


def commands_of(step: Step) -> list[str]:
    """The command lines of a step; none for a step that only concerns the store."""
    return _COMMANDS[type(step)](step) if isinstance(step, HostStep) else []


def _activation(name: str, uuid: str, table: Target, *, read_only: bool = False) -> list[str]:
    return [dmsetup_create(name, uuid), dmsetup_load(name, (table,), read_only=read_only), dmsetup_resume(name)]


def _load_lines(step: Load) -> list[str]:
    return [dmsetup_load(step.subject, (step.table,), read_only=step.read_only), dmsetup_resume(step.subject)]


def _make_writable_lines(step: MakeWritable) -> list[str]:
    flag = shell_line(set_writable_command(f"/dev/mapper/{step.subject}"))
    if step.table is None:
        return [flag]
    load = [dmsetup_load(step.subject, (step.table,)), dmsetup_resume(step.subject)]
    return [flag, *(f"{line}  # if it is still read-only" for line in load)]


def _snapshot(step: CreateSnapshot) -> list[str]:
    message = dmsetup_message(step.subject, f"create_snap {step.thin_id} {step.origin_id}")
    if not step.suspend:
        return [message]
    return [dmsetup_suspend(step.suspend), message, dmsetup_resume(step.suspend)]


def _mkfs_lines(step: MakeFilesystem) -> list[str]:
    node = f"/dev/mapper/{step.subject}"
    made = mkfs_command(node, Mkfs(step.type, step.label, step.block_size, discard=step.discard))
    return [*_activation(step.subject, step.uuid, step.table), shell_line(made), dmsetup_remove(step.subject)]


def _discard_lines(step: DiscardThin) -> list[str]:
    discard = shell_line(discard_command(f"/dev/mapper/{step.subject}"))
    return [*_activation(step.subject, step.uuid, step.table), discard, dmsetup_remove(step.subject)]


def _pool_load(name: str, shape: PoolShape) -> list[str]:
    """Loops have no numbers yet, so the places are named by their paths, as a shell would find them."""
    table = f"0 $(blockdev --getsz $DATA) thin-pool $METADATA $DATA {shape.block} $LOW_WATER {shape.features()}"
    return [f'dmsetup load {name} --table "{table}"  # DATA, METADATA: on {shape.data}, {shape.metadata}']


_COMMANDS: Final[dict[type[HostStep], Callable[[Any], list[str]]]] = {
    Activate: lambda step: _activation(step.subject, step.uuid, step.table, read_only=step.read_only),
    Load: _load_lines,
    MakeWritable: _make_writable_lines,
    Resume: lambda step: [dmsetup_resume(step.subject)],
    Clear: lambda step: [dmsetup_clear(step.subject)],
    Remove: lambda step: [dmsetup_remove(step.subject)],
    CancelDeferredRemove: lambda step: [dmsetup_message(step.subject, "@cancel_deferred_remove")],
    RefreshNodes: lambda step: [shell_line(udev_trigger_command(step.devno)), dmsetup_mknodes(step.subject)],
    CreateThin: lambda step: [dmsetup_message(step.subject, f"create_thin {step.thin_id}")],
    CreateSnapshot: _snapshot,
    DeleteThin: lambda step: [dmsetup_message(step.subject, f"delete {step.thin_id}")],
    SetTransactionId: lambda step: [
        dmsetup_message(step.subject, f"set_transaction_id {step.old} {step.old + 1}"),
    ],
    MakeFilesystem: _mkfs_lines,
    DiscardThin: _discard_lines,
    GrowFilesystem: lambda step: [
        shell_line(*grow_filesystem_command(f"/dev/mapper/{step.subject}", step.type, None)),
    ],
    MakeFile: lambda step: [shell_line(make_file_command(step.subject, step.size, allocate=step.allocate))],
    GrowFile: lambda step: [shell_line(grow_file_command(step.subject, step.size, allocate=step.allocate))],
    AttachLoop: lambda step: [shell_line(attach_command(step.subject))],
    DetachLoop: lambda step: [f"losetup --associated {step.subject}  # then: losetup --detach LOOP"],
    CheckMetadata: lambda step: [shell_line(thin_check_command(step.subject))],
    ZeroSuperblock: lambda step: [shell_line(zero_command(step.subject, SUPERBLOCK_SIZE))],
    DeleteFile: lambda step: [shell_line(delete_file_command(step.subject))],
    ActivatePool: lambda step: [
        dmsetup_create(step.subject, step.uuid),
        *_pool_load(step.subject, step.shape),
        dmsetup_resume(step.subject),
    ],
    LoadPool: lambda step: [*_pool_load(step.subject, step.shape), dmsetup_resume(step.subject)],
    ConfirmEmpty: lambda step: [
        dmsetup_message(step.subject, "reserve_metadata_snap"),
        "thin_ls --metadata-snap METADATA  # there must be none",
        dmsetup_message(step.subject, "release_metadata_snap"),
    ],
    RemovePool: lambda step: [dmsetup_remove(step.subject)],
}

_CLOSED_WITHIN: Final = 5.0
"""Seconds that udev and blkid may hold a private device after its last use."""


def run_step(kernel: Kernel, step: HostStep) -> StepResult:
    """Raises HostError where it did not work, Unconfirmed where only the kernel says that it did."""
    begun = time.monotonic()
    note = _STEPS[type(step)](kernel, step)
    return StepResult(time.monotonic() - begun, note)


def _activate(kernel: Kernel, step: Activate) -> str:
    activate(kernel, step.subject, step.uuid, step.table, read_only=step.read_only, hidden=False)
    return ""


def _load(kernel: Kernel, step: Load) -> str:
    live = kernel.dm.table(step.subject)
    is_dead = bool(live) and all(target.type == "error" for target in live)
    kernel.dm.load(step.subject, (step.table,), read_only=step.read_only)
    swap_in(kernel, step.subject, freeze=not is_dead)
    confirm_table(kernel, "load", step.subject, step.table, read_only=step.read_only)
    return ""


def _make_writable(kernel: Kernel, step: MakeWritable) -> str:
    """The kernel tells one flag for two: only after its own is cleared can be seen whether the table is read-only too."""
    info = require(kernel, "make writable", step.subject)
    if f"/dev/mapper/{step.subject}" in kernel.udev.missing(info):
        kernel.dm.mknodes(step.subject)
    kernel.disks.set_writable(info.devno)
    if step.table is not None and require(kernel, "make writable", step.subject).read_only:
        _load(kernel, Load(step.subject, step.table))
    if require(kernel, "make writable", step.subject).read_only:
        raise VerificationError("make writable", step.subject, 0, "it is still read-only")
    return ""


def _resume(kernel: Kernel, step: Resume) -> str:
    is_pool = any(target.type == "thin-pool" for target in kernel.dm.table(step.subject))
    kernel.dm.resume(step.subject, hidden=is_pool)  # a pool is nothing for udev's rules to look into
    if require(kernel, "resume", step.subject).suspended:
        raise VerificationError("resume", step.subject, 0, "it is still suspended")
    return ""


def _clear(kernel: Kernel, step: Clear) -> str:
    kernel.dm.clear(step.subject)
    if require(kernel, "clear", step.subject).inactive_table:
        raise VerificationError("clear", step.subject, 0, "a table still waits in its inactive slot")
    return ""


def _remove(kernel: Kernel, step: Remove) -> str:
    return remove(kernel, step.subject, step.uuid)


def _cancel_deferred(kernel: Kernel, step: CancelDeferredRemove) -> str:
    kernel.dm.message(step.subject, "@cancel_deferred_remove")
    if require(kernel, "cancel the deferred removal of", step.subject).deferred_remove:
        raise VerificationError("cancel the deferred removal of", step.subject, 0, "it is still to be removed")
    return ""


def _refresh_nodes(kernel: Kernel, step: RefreshNodes) -> str:
    trouble = _have_udev_look(kernel, step)
    unmade = make_node(kernel, step.subject)
    still = kernel.udev.missing(require(kernel, "refresh the nodes of", step.subject))
    if not still:
        return ""
    why = unmade or kernel.udev.in_the_way(still[0]) or trouble or "udev's rules did not make it"
    raise VerificationError("refresh the nodes of", step.subject, 0, f"{', '.join(still)} is missing: {why}")


def _have_udev_look(kernel: Kernel, step: RefreshNodes) -> str:
    """Why it did not: a udev that does not answer must not keep the device from its own node."""
    if not kernel.udev.running():
        return kernel.udev.why_not()
    try:
        kernel.udev.trigger(step.devno)
    except WorkerTimeoutError:
        return kernel.udev.why_not()
    return ""


def _in_private(kernel: Kernel, name: str, uuid: str, table: Target, work: Callable[[str], None]) -> None:
    """Work on a thin under a private name, hidden from udev's rules, which is gone when this returns."""
    activate(kernel, name, uuid, table, read_only=False, hidden=True)
    try:
        work(_node_that_leads_there(kernel, name))
    except HostError as fault:
        raise with_disk(kernel, fault, table) from fault
    finally:
        _await_closed(kernel, name)
        remove(kernel, name, uuid)


def _node_that_leads_there(kernel: Kernel, name: str) -> str:
    """The path for a program that works on the device: what else is at that path must not be worked on."""
    path = f"/dev/mapper/{name}"
    if missing := make_node(kernel, name):
        raise HostError("open", path, errno.ENODEV, missing)
    return path


def _await_closed(kernel: Kernel, name: str) -> None:
    """The close of the one who wrote makes udev look, which opens it for a moment."""
    end = time.monotonic() + _CLOSED_WITHIN
    while time.monotonic() < end:
        info = kernel.dm.info(name)
        if info is None or info.open_count == 0:
            return
        time.sleep(0.01)


def _mkfs(kernel: Kernel, step: MakeFilesystem) -> str:
    wanted = Mkfs(step.type, step.label, step.block_size, discard=step.discard)
    _in_private(kernel, step.subject, step.uuid, step.table, lambda node: kernel.tools.mkfs(node, wanted))
    return ""


def _discard(kernel: Kernel, step: DiscardThin) -> str:
    _in_private(kernel, step.subject, step.uuid, step.table, kernel.tools.discard)
    return ""


def _grow_filesystem(kernel: Kernel, step: GrowFilesystem) -> str:
    try:
        return _grow(kernel, step)
    except HostError as fault:
        table = kernel.dm.table(step.subject)
        raise (with_disk(kernel, fault, table[0]) if table else fault) from fault


def _grow(kernel: Kernel, step: GrowFilesystem) -> str:
    node = _node_that_leads_there(kernel, step.subject)
    found = kernel.tools.filesystem(node)
    if found != step.type:
        holds = f"it holds {found}" if found else "it holds no filesystem that is known"
        raise NothingDoneError(
            "grow the filesystem on", step.subject, 0, f"{holds}, not {step.type}: nothing was grown"
        )
    info = require(kernel, "grow the filesystem on", step.subject)
    places = [place for place in kernel.disks.mounts(info.devno) if place != "swap"]
    kernel.tools.grow_filesystem(node, places[0] if places else None)
    return ""


_STEPS: Final[dict[type[HostStep], Callable[[Kernel, Any], str]]] = {
    Activate: _activate,
    Load: _load,
    MakeWritable: _make_writable,
    Resume: _resume,
    Clear: _clear,
    Remove: _remove,
    CancelDeferredRemove: _cancel_deferred,
    RefreshNodes: _refresh_nodes,
    MakeFilesystem: _mkfs,
    DiscardThin: _discard,
    GrowFilesystem: _grow_filesystem,
    **POOL_STEPS,
    **DISK_STEPS,
}
