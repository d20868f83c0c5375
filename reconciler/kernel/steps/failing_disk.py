"""Which disk below a pool's data fails: device-mapper says EIO of the thin, and the pool itself stays `rw` (observed).

The metadata may be healthy then, so that thins are made, and nothing can be written to them. So the disk is read before
anything is made in the pool, and named where something on a thin did not work.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from reconciler.kernel.protocol import Kernel
from reconciler.model.dm_tables import Devno, PoolTable, Target, ThinTable, read_table
from reconciler.model.errors import HostFault, NotBegun

_PIECE: Final = 4096
"""Bytes: the largest block that a disk may insist on."""


def refuse_on_failing_disk(kernel: Kernel, operation: str, pool: str) -> None:
    """In the moment before something is made. Raises NotBegun with the disk's name."""
    words = _failing(kernel, pool)
    if words:
        raise NotBegun(operation, pool, errno.EIO, f"nothing is made: {words}")


def with_disk(kernel: Kernel, fault: HostFault, table: Target) -> HostFault:
    """What did not work on this thin, with the disk below that fails, if one can be told; else as it is."""
    pool = _pool_of(kernel, table)
    words = _failing(kernel, pool) if pool else ""
    if not words:
        return fault
    return type(fault)(fault.operation, fault.subject, fault.errno, f"{fault.detail}; {words}".removeprefix("; "))


def _failing(kernel: Kernel, pool: str) -> str:
    """The lowest device below the pool's data that cannot be read, in words; empty if all can."""
    table = read_table(kernel.dm.table(pool))
    if not isinstance(table, PoolTable):
        return ""
    for devno in _from_below(kernel, table.data):
        node = kernel.disks.node(devno)
        try:
            kernel.disks.read(node, _PIECE)
        except HostFault as fault:
            if fault.errno != errno.EIO:
                continue  # it is gone, or may not be opened: that is another matter
            name = _name_of(kernel, devno)
            return (
                f"the disk below the pool's data, {name or node}, cannot be read ({fault.code}): mend it, see `dmesg`"
            )
    return ""


def _from_below(kernel: Kernel, data: Devno) -> Iterator[Devno]:
    """The deepest first; who is suspended would hang its reader."""
    found = [devno for devno in kernel.disks.below(data) if devno != data]
    for devno in (*reversed(found), data):
        name = _name_of(kernel, devno)
        info = kernel.dm.info(name.rpartition("/")[2]) if name else None
        if info is not None and info.suspended:
            return
        yield devno


def _name_of(kernel: Kernel, devno: Devno) -> str:
    """Of a dm device, as people know it; empty for any other."""
    return next((f"/dev/mapper/{found.name}" for found in kernel.dm.list_all() if found.devno == devno), "")


def _pool_of(kernel: Kernel, table: Target) -> str:
    thin = read_table((table,))
    if not isinstance(thin, ThinTable):
        return ""
    return next((found.name for found in kernel.dm.list_all() if found.devno == thin.pool), "")
