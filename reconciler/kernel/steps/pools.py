"""Steps on a pool: its device, and the messages that change its metadata.

The kernel answers a message to a pool without a live table with OK and drops it, and has answered a create_thin with OK
though its commit failed and the pool went read-only (both observed on 6.1). So the pool's status is read before and
after.
"""

from __future__ import annotations

import errno
from typing import Final

from reconciler.kernel.block.backing import look_at_start
from reconciler.kernel.block.files import SUPERBLOCK_SIZE, data_blocks_used, read_superblock
from reconciler.kernel.command_lines import (
    dmsetup_create,
    dmsetup_message,
    dmsetup_remove,
    dmsetup_resume,
    dmsetup_suspend,
)
from reconciler.kernel.protocol import Disks, Kernel
from reconciler.kernel.steps.disks import the_loop
from reconciler.kernel.steps.dm_operations import (
    StepHandler,
    StepTable,
    activate,
    answered,
    confirm_table,
    looked_at_by,
    read_ids,
    refuse_on_failing_disk,
    remove,
    require,
    suspend,
    swap_in,
)
from reconciler.model.dm_tables import Devno, PoolMode, PoolStatus, PoolTable, read_pool_status, read_table
from reconciler.model.errors import HostError, PreconditionError, VerificationError, answers_message
from reconciler.model.identity import Moment, Noted, is_other, start_is_other
from reconciler.model.live import PathKind, Superblock
from reconciler.model.steps import (
    ActivatePool,
    ConfirmEmpty,
    CreateSnapshot,
    CreateThin,
    DeleteThin,
    LoadPool,
    PoolShape,
    RemovePool,
    SetTransactionId,
)
from reconciler.model.units import SECTOR, Bytes, Sectors, format_size, sectors


def resolve(disks: Disks, path: str) -> tuple[Devno, Bytes]:
    """The block device for the path of a pool, and its size: the device itself, or the only loop on the file."""
    kind, size, devno = disks.kind(path)
    if kind is PathKind.BLOCK and devno is not None:
        return devno, size
    loop = the_loop(disks, path)
    if loop is None:
        raise HostError("use", path, errno.ENODEV, "no loop is on it")
    return loop.devno, loop.size


_DATA_MAY_BE_FULL: Final = frozenset({"delete", "set_transaction_id", "release_metadata_snap"})
"""Messages that need no data space: a pool without any accepts them, and the first one frees some (observed)."""


def healthy_status(kernel: Kernel, operation: str, pool: str) -> PoolStatus:
    """The status of a pool that may be written to. Raises HostError with EROFS for any other."""
    info = kernel.dm.info(pool)
    if info is None or not info.live_table or info.suspended:
        raise HostError(operation, pool, errno.ENXIO, "the pool is not active")
    lines = kernel.dm.status(pool)
    status = read_pool_status(lines[0][1]) if len(lines) == 1 and lines[0][0] == "thin-pool" else None
    served = {PoolMode.RW}
    if operation.split(maxsplit=1)[0] in _DATA_MAY_BE_FULL:
        served.add(PoolMode.OUT_OF_DATA_SPACE)
    if not isinstance(status, PoolStatus) or status.mode not in served:
        mode = "without a status" if status is None else status.mode.value
        raise HostError(operation, pool, errno.EROFS, f"the pool is {mode}")
    return status


def _message(kernel: Kernel, pool: str, text: str) -> None:
    """Sends a message between two checks; the second raises if the kernel reported success for what did not happen."""
    before = healthy_status(kernel, text, pool)
    kernel.dm.message(pool, text)
    after = healthy_status(kernel, text, pool)
    if after.transaction_id != before.transaction_id and not text.startswith("set_transaction_id"):
        raise VerificationError(text, pool, 0, "somebody else changed the pool's transaction id meanwhile")


def _create_thin(kernel: Kernel, step: CreateThin) -> None:
    refuse_on_failing_disk(kernel, "create_thin", step.subject)
    _message(kernel, step.subject, f"create_thin {step.thin_id}")


def _create_snapshot(kernel: Kernel, step: CreateSnapshot) -> None:
    text = f"create_snap {step.thin_id} {step.origin_id}"
    refuse_on_failing_disk(kernel, "create_snap", step.subject)
    if not step.suspend:
        _message(kernel, step.subject, text)
        return
    info = kernel.dm.info(step.suspend)
    if info is None or info.suspended:
        # A second suspend would succeed, and the resume after it would end somebody else's freeze.
        raise PreconditionError("suspend", step.suspend, errno.EAGAIN, "it is gone, or was suspended by somebody else")
    _suspend(kernel, step.subject, step.suspend)
    try:
        if not require(kernel, "suspend", step.suspend).suspended:
            raise VerificationError("suspend", step.suspend, 0, "it still runs, and a snapshot of it would be torn")
        _message(kernel, step.subject, text)
    finally:
        kernel.dm.resume(step.suspend)


def _origin_runs(kernel: Kernel, step: CreateSnapshot) -> None:
    """Checks that the origin is resumed; the message itself was checked while the origin was suspended."""
    if step.suspend and require(kernel, "resume", step.suspend).suspended:
        raise VerificationError("resume", step.suspend, 0, "it is still suspended")


def _snapshot_commands(step: CreateSnapshot) -> list[str]:
    message = dmsetup_message(step.subject, f"create_snap {step.thin_id} {step.origin_id}")
    if not step.suspend:
        return [message]
    return [dmsetup_suspend(step.suspend), message, dmsetup_resume(step.suspend)]


def _suspend(kernel: Kernel, pool: str, origin: str) -> None:
    """Suspends the origin of a snapshot, if the pool has space for everything that is not written yet.

    A suspend waits for all writes of its device. The writes of a full pool wait for the pool to grow, and that waits
    for the suspend (observed on 6.1). So the space is checked before, and the suspend has a short deadline.
    """
    try:
        status = healthy_status(kernel, "create_snap", pool)
    except HostError as fault:
        raise PreconditionError(fault.operation, fault.subject, fault.errno, fault.detail) from fault
    table = read_table(kernel.dm.table(pool))
    waits = isinstance(table, PoolTable) and not table.error_if_full
    free = (status.data_total - status.data_used) * table.block * SECTOR if isinstance(table, PoolTable) else 0
    unwritten = kernel.disks.unwritten()
    if waits and free < unwritten:
        detail = (
            f"pool {pool} has room for {format_size(Bytes(free))}, and {format_size(unwritten)} in this host's memory "
            f"wait to be written: if they fill the pool, the suspension hangs"
        )
        raise PreconditionError("suspend", origin, errno.ENOSPC, detail)
    try:
        suspend(kernel, origin)
    except HostError as fault:
        if fault.errno != errno.EINTR:
            raise
        if require(kernel, "suspend", origin).suspended:
            kernel.dm.resume(origin)
        raise PreconditionError(
            "suspend", origin, errno.EINTR, "its writes did not end in time: is the pool full?"
        ) from fault


def _delete_thin(kernel: Kernel, step: DeleteThin) -> str | None:
    status = healthy_status(kernel, "delete", step.subject)
    if status.transaction_id != step.transaction_id:
        raise HostError("delete", step.subject, errno.ESTALE, f"the pool is at transaction {status.transaction_id}")
    try:
        _message(kernel, step.subject, f"delete {step.thin_id}")
    except HostError as fault:
        if answers_message(fault, errno.ENODATA):
            return "gone already"
        raise
    return None


def _set_transaction_id(kernel: Kernel, step: SetTransactionId) -> str | None:
    new = step.old + 1
    if healthy_status(kernel, "set_transaction_id", step.subject).transaction_id == new:
        return "set already"
    _message(kernel, step.subject, f"set_transaction_id {step.old} {new}")
    return None


def _transaction_id_is_set(kernel: Kernel, step: SetTransactionId) -> None:
    new = step.old + 1
    found = healthy_status(kernel, "set_transaction_id", step.subject).transaction_id
    if found != new:
        raise VerificationError("set_transaction_id", step.subject, 0, f"it is {found}, not {new}")


def _table(kernel: Kernel, shape: PoolShape, at_least: Sectors) -> PoolTable:
    """The table for the whole of the data device, in whole blocks. It must never be shorter than the live one."""
    metadata, _ = resolve(kernel.disks, shape.metadata)
    data, size = resolve(kernel.disks, shape.data)
    length = Sectors(sectors(size) // shape.block * shape.block)
    if length < at_least:
        raise HostError("load", shape.data, errno.EINVAL, f"{length}s are less than the {at_least}s that the pool has")
    return shape.table(length, metadata, data)


def _activate_pool(kernel: Kernel, step: ActivatePool) -> None:
    table = _table(kernel, step.shape, Sectors(1))
    # Two pools of two workers may be planned on one device, which each has found free.
    with kernel.disks.alone_on((table.metadata, table.data)):
        _check_unused(kernel, step, table)
        activate(kernel, step.subject, step.uuid, table.target(), read_only=False, hidden=True)


def _pool_is_active(kernel: Kernel, step: ActivatePool) -> None:
    confirm_table(kernel, "activate", step.subject, _table(kernel, step.shape, Sectors(1)).target(), read_only=False)


def _check_unused(kernel: Kernel, step: ActivatePool, table: PoolTable) -> None:
    """Checks just before the load that nobody uses the backing devices, and that the metadata is as expected."""
    if table.metadata == table.data:
        detail = f"{step.shape.metadata} and {step.shape.data} are the same device, {table.data}"
        raise HostError("activate", step.subject, errno.EBUSY, detail)
    for path, devno in ((step.shape.metadata, table.metadata), (step.shape.data, table.data)):
        users = kernel.disks.mounts(devno) + kernel.disks.above(devno) + kernel.disks.writers(path)
        if users:
            raise HostError("activate", step.subject, errno.EBUSY, f"{path} is in use by {', '.join(users)}")
    block = kernel.disks.read(step.shape.metadata, SUPERBLOCK_SIZE)
    found, transaction_id = read_superblock(block)
    expected = found is Superblock.POOL and transaction_id == step.transaction_id
    if not expected and not (step.fresh and found is Superblock.ZERO):
        detail = f"its metadata holds {found.value}, transaction {transaction_id}, not the pool that was there"
        raise HostError("activate", step.subject, errno.ESTALE, detail)
    if step.noted is not None:
        _check_same(kernel.disks, step, step.noted, block)


def _check_same(disks: Disks, step: ActivatePool, noted: Noted, block: bytes) -> None:
    """Checks that the disks are those that the pool was on, and that its data begins as it did."""
    for path, marks in ((step.shape.metadata, noted.metadata), (step.shape.data, noted.data)):
        if is_other(marks, disks.marks(path)):
            raise HostError(
                "activate", step.subject, errno.ESTALE, f"{path} leads to another disk since it was looked at"
            )
    start = look_at_start(disks, step.shape.data)
    at = Moment(step.transaction_id, data_blocks_used(block), step.largest)
    if start_is_other(noted, start, disks.marks(step.shape.data), at):
        detail = f"{step.shape.data} does not begin as it did when the pool was last well"
        raise HostError("activate", step.subject, errno.ESTALE, detail)


def _load_pool(kernel: Kernel, step: LoadPool) -> None:
    table = _grown_table(kernel, step)
    with kernel.disks.alone_on((table.metadata, table.data)):
        for path, devno in ((step.shape.metadata, table.metadata), (step.shape.data, table.data)):
            users = [name for name in kernel.disks.above(devno) if name != step.subject]
            if users:
                raise HostError("load", step.subject, errno.EBUSY, f"{path} is in use by {', '.join(users)}")
        kernel.dm.load(step.subject, (table.target(),))
        swap_in(kernel, step.subject, hidden=True)


def _grown_table(kernel: Kernel, step: LoadPool) -> PoolTable:
    live = kernel.dm.table(step.subject)
    return _table(kernel, step.shape, Sectors(sum(target.length for target in live)))


def _pool_is_loaded(kernel: Kernel, step: LoadPool) -> None:
    info = kernel.dm.info(step.subject)
    if info is None or info.suspended or kernel.dm.table(step.subject) != (_grown_table(kernel, step).target(),):
        raise VerificationError("load", step.subject, 0, "it does not show the table that was loaded")


def _load_commands(name: str, shape: PoolShape) -> list[str]:
    """The commands. Loops have no numbers yet, so backing devices are given by their paths, as in a shell."""
    table = f"0 $(blockdev --getsz $DATA) thin-pool $METADATA $DATA {shape.block} $LOW_WATER {shape.features()}"
    load = f'dmsetup load {name} --table "{table}"  # DATA, METADATA: on {shape.data}, {shape.metadata}'
    return [load, dmsetup_resume(name)]


def _confirm_empty(kernel: Kernel, step: ConfirmEmpty) -> None:
    status = healthy_status(kernel, "delete", step.subject)
    table = read_table(kernel.dm.table(step.subject))
    if not isinstance(table, PoolTable):
        raise HostError("delete", step.subject, errno.ESTALE, "it is no thin pool any more")
    ids = read_ids(kernel, step.subject, table.metadata, held=status.held_root, ours=step.ours)
    if ids:
        some = ", ".join(str(number) for number in sorted(ids)[:20])
        detail = f"the pool holds the thin ids {some}: it is deleted only when it is empty"
        raise HostError("delete", step.subject, errno.EBUSY, detail)


def _confirm_empty_commands(step: ConfirmEmpty) -> list[str]:
    return [
        dmsetup_message(step.subject, "reserve_metadata_snap"),
        "thin_ls --metadata-snap METADATA  # there must be none",
        dmsetup_message(step.subject, "release_metadata_snap"),
    ]


def _remove_pool(kernel: Kernel, step: RemovePool) -> str:
    return remove(kernel, step.subject, step.uuid)


POOL_STEPS: Final[StepTable] = {
    CreateThin: StepHandler(
        _create_thin,
        looked_at_by(_message),
        lambda step: [dmsetup_message(step.subject, f"create_thin {step.thin_id}")],
        "test_create_thin",
    ),
    CreateSnapshot: StepHandler(_create_snapshot, _origin_runs, _snapshot_commands, "test_create_snapshot"),
    DeleteThin: StepHandler(
        _delete_thin,
        looked_at_by(_message),
        lambda step: [dmsetup_message(step.subject, f"delete {step.thin_id}")],
        "test_delete_thin",
    ),
    SetTransactionId: StepHandler(
        _set_transaction_id,
        _transaction_id_is_set,
        lambda step: [dmsetup_message(step.subject, f"set_transaction_id {step.old} {step.old + 1}")],
        "test_set_transaction_id",
    ),
    ActivatePool: StepHandler(
        _activate_pool,
        _pool_is_active,
        lambda step: [dmsetup_create(step.subject, step.uuid), *_load_commands(step.subject, step.shape)],
        "test_activate_pool",
    ),
    LoadPool: StepHandler(
        _load_pool, _pool_is_loaded, lambda step: _load_commands(step.subject, step.shape), "test_load_pool"
    ),
    ConfirmEmpty: StepHandler(_confirm_empty, answered, _confirm_empty_commands, "test_confirm_empty"),
    RemovePool: StepHandler(
        _remove_pool, looked_at_by(remove), lambda step: [dmsetup_remove(step.subject)], "test_remove_pool"
    ),
}
