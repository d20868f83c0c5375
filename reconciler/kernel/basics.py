"""The moves on dm devices that several steps are made of, each with its look afterwards."""

from __future__ import annotations

import errno

from reconciler.kernel.protocol import Kernel
from reconciler.model.faults import HostFault, Unconfirmed
from reconciler.model.live import DeviceInfo, ThinIds
from reconciler.model.table import Devno, Target


def activate(kernel: Kernel, name: str, uuid: str, table: Target, *, read_only: bool, hidden: bool) -> None:
    """Create, load, resume. The one-shot create of dmsetup loses the load's errno, and leaves a shell behind."""
    kernel.dm.create(name, uuid)
    try:
        kernel.dm.load(name, (table,), read_only=read_only)
        kernel.dm.resume(name, hidden=hidden)
    except HostFault:
        kernel.dm.remove(name)
        raise
    confirm_table(kernel, "activate", name, table)


def confirm_table(kernel: Kernel, operation: str, name: str, table: Target) -> None:
    info = require(kernel, operation, name)
    if info.suspended or kernel.dm.table(name) != (table,):
        raise Unconfirmed(operation, name, 0, "it does not show the table that was loaded")


def require(kernel: Kernel, operation: str, name: str) -> DeviceInfo:
    info = kernel.dm.info(name)
    if info is None:
        raise HostFault(operation, name, errno.ENXIO, "it is not there")
    return info


def read_ids(kernel: Kernel, pool: str, metadata: Devno) -> ThinIds:
    """All thin ids of a live pool that can be written to, through a metadata snapshot that is released in any case."""
    kernel.dm.message(pool, "reserve_metadata_snap")
    try:
        return kernel.tools.thin_ls(kernel.disks.node(metadata), live=True)
    finally:
        kernel.dm.message(pool, "release_metadata_snap")


def remove(kernel: Kernel, name: str, uuid: str) -> str:
    """Only if it still is what it was when the plan was made."""
    info = kernel.dm.info(name)
    if info is None:
        return "gone already"
    if info.uuid != uuid:
        raise HostFault("remove", name, errno.ESTALE, "it has become another device since the last look")
    try:
        kernel.dm.remove(name)
    except HostFault as fault:
        if fault.errno == errno.ENXIO:
            return "gone already"
        raise
    after = kernel.dm.info(name)
    if after is not None and after.devno == info.devno and after.uuid == uuid:
        raise Unconfirmed("remove", name, 0, "it is still there")
    return ""
