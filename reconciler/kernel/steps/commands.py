"""Each step as the commands that a person would type for it: what `plan` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from reconciler.kernel.block.superblock import SUPERBLOCK_SIZE
from reconciler.kernel.command_lines import (
    attach_command,
    delete_file_command,
    discard_command,
    grow_file_command,
    grow_filesystem_command,
    look_again_command,
    make_file_command,
    mkfs_command,
    set_writable_command,
    shell_line,
    thin_check_command,
    zero_command,
)
from reconciler.kernel.dmsetup import (
    dmsetup_clear,
    dmsetup_create,
    dmsetup_load,
    dmsetup_message,
    dmsetup_mknodes,
    dmsetup_remove,
    dmsetup_resume,
    dmsetup_suspend,
)
from reconciler.kernel.protocol import Mkfs
from reconciler.model.dm_tables import Target
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
    ZeroSuperblock,
)


def commands_of(step: Step) -> list[str]:
    """The command lines of a step; none for a step that only concerns the store."""
    return _COMMANDS[type(step)](step) if isinstance(step, HostStep) else []


def _activation(name: str, uuid: str, table: Target, *, read_only: bool = False) -> list[str]:
    return [dmsetup_create(name, uuid), dmsetup_load(name, (table,), read_only=read_only), dmsetup_resume(name)]


def _load(step: Load) -> list[str]:
    return [dmsetup_load(step.subject, (step.table,), read_only=step.read_only), dmsetup_resume(step.subject)]


def _make_writable(step: MakeWritable) -> list[str]:
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


def _mkfs(step: MakeFilesystem) -> list[str]:
    node = f"/dev/mapper/{step.subject}"
    made = mkfs_command(node, Mkfs(step.type, step.label, step.block_size, discard=step.discard))
    return [*_activation(step.subject, step.uuid, step.table), shell_line(made), dmsetup_remove(step.subject)]


def _discard(step: DiscardThin) -> list[str]:
    discard = shell_line(discard_command(f"/dev/mapper/{step.subject}"))
    return [*_activation(step.subject, step.uuid, step.table), discard, dmsetup_remove(step.subject)]


def _pool_load(name: str, shape: PoolShape) -> list[str]:
    """Loops have no numbers yet, so the places are named by their paths, as a shell would find them."""
    table = f"0 $(blockdev --getsz $DATA) thin-pool $METADATA $DATA {shape.block} $LOW_WATER {shape.features()}"
    return [f'dmsetup load {name} --table "{table}"  # DATA, METADATA: on {shape.data}, {shape.metadata}']


_COMMANDS: Final[dict[type[HostStep], Callable[[Any], list[str]]]] = {
    Activate: lambda step: _activation(step.subject, step.uuid, step.table, read_only=step.read_only),
    Load: _load,
    MakeWritable: _make_writable,
    Resume: lambda step: [dmsetup_resume(step.subject)],
    Clear: lambda step: [dmsetup_clear(step.subject)],
    Remove: lambda step: [dmsetup_remove(step.subject)],
    CancelDeferredRemove: lambda step: [dmsetup_message(step.subject, "@cancel_deferred_remove")],
    RefreshNodes: lambda step: [shell_line(look_again_command(step.devno)), dmsetup_mknodes(step.subject)],
    CreateThin: lambda step: [dmsetup_message(step.subject, f"create_thin {step.thin_id}")],
    CreateSnapshot: _snapshot,
    DeleteThin: lambda step: [dmsetup_message(step.subject, f"delete {step.thin_id}")],
    SetTransactionId: lambda step: [
        dmsetup_message(step.subject, f"set_transaction_id {step.old} {step.old + 1}"),
    ],
    MakeFilesystem: _mkfs,
    DiscardThin: _discard,
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
