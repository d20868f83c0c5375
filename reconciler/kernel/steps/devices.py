"""Steps on devices: their tables and states, their nodes, and what programs do on them."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Final

from reconciler.kernel.command_lines import (
    dmsetup_clear,
    dmsetup_create,
    dmsetup_load,
    dmsetup_message,
    dmsetup_mknodes,
    dmsetup_remove,
    dmsetup_resume,
    grow_filesystem_command,
    mkfs_command,
    shell_line,
)
from reconciler.kernel.protocol import Kernel, Mkfs
from reconciler.kernel.steps.dm_operations import (
    StepHandler,
    StepTable,
    activate,
    answered,
    confirm_table,
    looked_at_by,
    make_node,
    remove,
    require,
    swap_in,
    with_disk,
)
from reconciler.model.errors import (
    HostError,
    NothingDoneError,
    PreconditionError,
    VerificationError,
    WorkerTimeoutError,
)
from reconciler.model.steps import (
    Activate,
    CancelDeferredRemove,
    Clear,
    DiscardThin,
    GrowFilesystem,
    Load,
    MakeFilesystem,
    MakeWritable,
    RefreshNodes,
    Remove,
    Resume,
)

_CLOSED_WITHIN: Final = 5.0
"""Seconds that udev and blkid may hold a private device open after its last use."""


def _activate(kernel: Kernel, step: Activate) -> None:
    activate(kernel, step.subject, step.uuid, step.table, read_only=step.read_only, hidden=False)


def _is_active(kernel: Kernel, step: Activate) -> None:
    confirm_table(kernel, "activate", step.subject, step.table, read_only=step.read_only)


def _activation(step: Activate | MakeFilesystem | DiscardThin, *, read_only: bool = False) -> list[str]:
    load = dmsetup_load(step.subject, (step.table,), read_only=read_only)
    return [dmsetup_create(step.subject, step.uuid), load, dmsetup_resume(step.subject)]


def _load(kernel: Kernel, step: Load) -> None:
    """Loads a table and swaps it in. The resume that does so would also end a suspension, which is never planned here."""
    info = require(kernel, "load", step.subject)
    if info.suspended and info.live_table:
        detail = "somebody has suspended it since the last scan"
        raise PreconditionError("load", step.subject, errno.EAGAIN, detail)
    live = kernel.dm.table(step.subject)
    is_dead = bool(live) and all(target.type == "error" for target in live)
    kernel.dm.load(step.subject, (step.table,), read_only=step.read_only)
    swap_in(kernel, step.subject, freeze=not is_dead)


def _is_loaded(kernel: Kernel, step: Load) -> None:
    confirm_table(kernel, "load", step.subject, step.table, read_only=step.read_only)


def _load_commands(step: Load) -> list[str]:
    return [dmsetup_load(step.subject, (step.table,), read_only=step.read_only), dmsetup_resume(step.subject)]


def _make_writable(kernel: Kernel, step: MakeWritable) -> None:
    """Clears the read-only flag. The kernel reports one flag for two causes, so whether the table is read-only too can
    be seen only after its own flag is cleared.
    """
    info = require(kernel, "make writable", step.subject)
    if f"/dev/mapper/{step.subject}" in kernel.udev.missing(info):
        kernel.dm.mknodes(step.subject)
    kernel.disks.set_writable(info.devno)
    if step.table is not None and require(kernel, "make writable", step.subject).read_only:
        load = Load(step.subject, step.table)
        _load(kernel, load)
        _is_loaded(kernel, load)


def _is_writable(kernel: Kernel, step: MakeWritable) -> None:
    if require(kernel, "make writable", step.subject).read_only:
        raise VerificationError("make writable", step.subject, 0, "it is still read-only")


def _make_writable_commands(step: MakeWritable) -> list[str]:
    flag = shell_line(("blockdev", "--setrw", f"/dev/mapper/{step.subject}"))
    if step.table is None:
        return [flag]
    return [flag, *(f"{line}  # if it is still read-only" for line in _load_commands(Load(step.subject, step.table)))]


def _resume(kernel: Kernel, step: Resume) -> None:
    is_pool = any(target.type == "thin-pool" for target in kernel.dm.table(step.subject))
    kernel.dm.resume(step.subject, hidden=is_pool)  # udev's rules have no use for a pool


def _runs(kernel: Kernel, step: Resume) -> None:
    if require(kernel, "resume", step.subject).suspended:
        raise VerificationError("resume", step.subject, 0, "it is still suspended")


def _clear(kernel: Kernel, step: Clear) -> None:
    kernel.dm.clear(step.subject)


def _is_clear(kernel: Kernel, step: Clear) -> None:
    if require(kernel, "clear", step.subject).inactive_table:
        raise VerificationError("clear", step.subject, 0, "a table still waits in its inactive slot")


def _remove(kernel: Kernel, step: Remove) -> str:
    return remove(kernel, step.subject, step.uuid)


def _cancel_deferred(kernel: Kernel, step: CancelDeferredRemove) -> None:
    kernel.dm.message(step.subject, "@cancel_deferred_remove")


def _stays(kernel: Kernel, step: CancelDeferredRemove) -> None:
    if require(kernel, "cancel the deferred removal of", step.subject).deferred_remove:
        raise VerificationError("cancel the deferred removal of", step.subject, 0, "it is still to be removed")


def _refresh_nodes(kernel: Kernel, step: RefreshNodes) -> None:
    trouble = _have_udev_look(kernel, step)
    unmade = make_node(kernel, step.subject)
    still = kernel.udev.missing(require(kernel, "refresh the nodes of", step.subject))
    if not still:
        return
    why = unmade or kernel.udev.in_the_way(still[0]) or trouble or "udev's rules did not make it"
    raise VerificationError("refresh the nodes of", step.subject, 0, f"{', '.join(still)} is missing: {why}")


def _refresh_nodes_commands(step: RefreshNodes) -> list[str]:
    trigger = ("udevadm", "trigger", "--action=change", "--settle", f"/sys/dev/block/{step.devno}")
    return [shell_line(trigger), dmsetup_mknodes(step.subject)]


def _have_udev_look(kernel: Kernel, step: RefreshNodes) -> str:
    """Has udev process the device. Returns why it did not, because a udev that does not respond must not keep the node
    from being made.
    """
    if not kernel.udev.running():
        return kernel.udev.why_not()
    try:
        kernel.udev.trigger(step.devno)
    except WorkerTimeoutError:
        return kernel.udev.why_not()
    return ""


def _in_private(kernel: Kernel, step: MakeFilesystem | DiscardThin, work: Callable[[str], None]) -> None:
    """Works on a thin under a private name, which is hidden from udev's rules and removed when this returns."""
    activate(kernel, step.subject, step.uuid, step.table, read_only=False, hidden=True)
    confirm_table(kernel, "activate", step.subject, step.table, read_only=False)
    try:
        work(_node_that_leads_there(kernel, step.subject))
    except HostError as fault:
        raise with_disk(kernel, fault, step.table) from fault
    finally:
        _await_closed(kernel, step.subject)
        remove(kernel, step.subject, step.uuid)


def _node_that_leads_there(kernel: Kernel, name: str) -> str:
    """The path for a program that works on the device, checked to lead to the device and to nothing else."""
    path = f"/dev/mapper/{name}"
    if missing := make_node(kernel, name):
        raise HostError("open", path, errno.ENODEV, missing)
    return path


def _await_closed(kernel: Kernel, name: str) -> None:
    """Waits until the device is closed: when a writer closes it, udev's rules open it for a moment."""
    end = time.monotonic() + _CLOSED_WITHIN
    while time.monotonic() < end:
        info = kernel.dm.info(name)
        if info is None or info.open_count == 0:
            return
        time.sleep(0.01)


def _mkfs(kernel: Kernel, step: MakeFilesystem) -> None:
    _in_private(kernel, step, lambda node: kernel.tools.mkfs(node, _wanted(step)))


def _wanted(step: MakeFilesystem) -> Mkfs:
    return Mkfs(step.type, step.label, step.block_size, discard=step.discard)


def _mkfs_commands(step: MakeFilesystem) -> list[str]:
    made = shell_line(mkfs_command(f"/dev/mapper/{step.subject}", _wanted(step)))
    return [*_activation(step), made, dmsetup_remove(step.subject)]


def _discard(kernel: Kernel, step: DiscardThin) -> None:
    _in_private(kernel, step, kernel.tools.discard)


def _discard_commands(step: DiscardThin) -> list[str]:
    discard = shell_line(("blkdiscard", f"/dev/mapper/{step.subject}"))
    return [*_activation(step), discard, dmsetup_remove(step.subject)]


def _grow_filesystem(kernel: Kernel, step: GrowFilesystem) -> None:
    try:
        _grow(kernel, step)
    except HostError as fault:
        table = kernel.dm.table(step.subject)
        raise (with_disk(kernel, fault, table[0]) if table else fault) from fault


def _grow(kernel: Kernel, step: GrowFilesystem) -> None:
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


def _grow_commands(step: GrowFilesystem) -> list[str]:
    return [shell_line(*grow_filesystem_command(f"/dev/mapper/{step.subject}", step.type, None))]


DEVICE_STEPS: Final[StepTable] = {
    Activate: StepHandler(
        _activate, _is_active, lambda step: _activation(step, read_only=step.read_only), "test_activate"
    ),
    Load: StepHandler(_load, _is_loaded, _load_commands, "test_load"),
    MakeWritable: StepHandler(_make_writable, _is_writable, _make_writable_commands, "test_make_writable"),
    Resume: StepHandler(_resume, _runs, lambda step: [dmsetup_resume(step.subject)], "test_resume"),
    Clear: StepHandler(_clear, _is_clear, lambda step: [dmsetup_clear(step.subject)], "test_clear"),
    Remove: StepHandler(_remove, looked_at_by(remove), lambda step: [dmsetup_remove(step.subject)], "test_remove"),
    CancelDeferredRemove: StepHandler(
        _cancel_deferred,
        _stays,
        lambda step: [dmsetup_message(step.subject, "@cancel_deferred_remove")],
        "test_cancel_deferred_remove",
    ),
    RefreshNodes: StepHandler(
        _refresh_nodes,
        looked_at_by(_refresh_nodes),
        _refresh_nodes_commands,
        "test_refresh_nodes",
    ),
    MakeFilesystem: StepHandler(_mkfs, looked_at_by(remove), _mkfs_commands, "test_make_filesystem"),
    DiscardThin: StepHandler(_discard, looked_at_by(remove), _discard_commands, "test_discard_thin"),
    GrowFilesystem: StepHandler(_grow_filesystem, answered, _grow_commands, "test_grow_filesystem"),
}
