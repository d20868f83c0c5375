"""`Tools` of the real host: filesystems and pool metadata, by the programs that know them."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from reconciler.kernel.block.blkid import filesystem_of, signature_of
from reconciler.kernel.block.hostcalls import devno_of, opened, read_attribute, size_of, sysfs, told_as
from reconciler.kernel.block.mounts import mounted_here
from reconciler.kernel.command_lines import (
    grow_filesystem_command,
    grow_in_private_mount_command,
    mkfs_command,
    thin_ls_command,
)
from reconciler.kernel.programs import run
from reconciler.kernel.protocol import Mkfs
from reconciler.kernel.thin_check import check_metadata, refuse_unreadable
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostFault, Unconfirmed
from reconciler.model.live import ThinEntry
from reconciler.model.units import whole_number

_BLKDISCARD: Final = 0x1277
"""include/uapi/linux/fs.h: _IO(0x12, 119), with start and length in bytes."""
_DISCARD_AT_ONCE: Final = 1 << 30
"""Bytes: between two calls the work can be interrupted."""
_REPAIRED: Final = (0, 1)
"""e2fsck(8): 0 sound, 1 errors corrected; from 2 on somebody has to look."""
_THIN_IDS: Final = 2**24


class HostTools:
    """See `kernel.protocol.Tools`."""

    def mkfs(self, node: str, wanted: Mkfs) -> None:
        """Raises HostFault: EEXIST where there is something on the device already.

        No `-F`, `-f`: the device is new, and where it is not empty it is not the device that it should be.
        """
        if there := signature_of(node):
            raise HostFault(f"mkfs.{wanted.type}", node, errno.EEXIST, f"there is {there} on it")
        run(mkfs_command(node, wanted), node)
        if self.filesystem(node) != wanted.type:
            raise Unconfirmed(f"mkfs.{wanted.type}", node, 0, "no such filesystem is on it")

    def filesystem(self, node: str) -> str:
        return filesystem_of(node)

    def grow_filesystem(self, node: str, mounted_at: str | None) -> None:
        """`mounted_at` may be a mount point that is not in our mount namespace: then it is grown through a private mount
        of the same device, which is the same filesystem.

        Raises HostFault: EOPNOTSUPP where there is no ext4 or xfs on it.
        """
        kind = self.filesystem(node)
        if kind not in {"ext4", "xfs"}:
            raise HostFault("grow the filesystem on", node, errno.EOPNOTSUPP, f"cannot grow {kind or 'nothing'}")
        if mounted_at is not None and mounted_at not in mounted_here(_block_device(node)):
            run(grow_in_private_mount_command(node, kind), node)
            return
        for command in grow_filesystem_command(node, kind, mounted_at):
            run(command, node, fine=_REPAIRED if command[0] == "e2fsck" else (0,))

    def discard(self, node: str) -> None:
        """Raises HostFault: EBUSY something has claimed it (a mount, a dm device), EOPNOTSUPP it cannot discard."""
        with told_as("discard", node):
            devno = _block_device(node)
            size, step = size_of(devno), _discard_step(devno)
            with opened(node, os.O_WRONLY | os.O_EXCL) as device:
                for start in range(0, size, step):
                    fcntl.ioctl(device, _BLKDISCARD, array.array("Q", [start, min(step, size - start)]))

    def thin_check(self, metadata: str) -> str:
        return check_metadata(metadata)

    def thin_ls(self, metadata: str, *, live: bool) -> dict[int, ThinEntry]:
        """Raises HostFault: EBUSY where it is live and `live` was not said; without errno where `live` finds no held
        metadata snapshot.
        """
        if not live:
            refuse_unreadable(metadata)
        said = run(thin_ls_command(metadata, live=live), metadata)
        return read_ids(said.output, metadata)


def read_ids(output: str, metadata: str) -> dict[int, ThinEntry]:
    """Of thin_ls. Half of it could make an id seem free: raises HostFault where any line is not understood."""
    entries = [_entry(line, metadata) for line in output.split("\n") if line.strip()]
    ids = dict(entries)
    if len(ids) < len(entries):
        raise HostFault("thin_ls", metadata, 0, "it names a thin id twice")
    return ids


def _entry(line: str, metadata: str) -> tuple[int, ThinEntry]:
    words = [whole_number(word) for word in line.split()]
    match words:
        case [int(number), int(mapped), int(transaction)] if number < _THIN_IDS:
            return number, ThinEntry(mapped, transaction)
        case _:
            raise HostFault("thin_ls", metadata, 0, f"it says what is not understood: {line[:80]!a}")


def _block_device(node: str) -> Devno:
    with told_as("look at", node):
        facts = Path(node).stat()
    if not stat.S_ISBLK(facts.st_mode):
        raise HostFault("look at", node, errno.ENOTBLK, "not a block device")
    return devno_of(facts.st_rdev)


def _discard_step(devno: Devno) -> int:
    """Whole granules, a thin pool's blocks: one that is cut in two by a step would be freed by neither call."""
    text = read_attribute(sysfs(devno) / "queue/discard_granularity")
    granule = whole_number(text) or 0
    return _DISCARD_AT_ONCE if granule == 0 else max(granule, _DISCARD_AT_ONCE // granule * granule)
