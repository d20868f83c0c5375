"""The kernel boundary: plain calls, with one implementation for the real host and one simulated.

Nothing above this file knows which implementation it uses. Every call raises HostError with the errno of the call that
failed; none retries or decides. Paths and names were checked before they come here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from reconciler.model.dm_tables import Devno, Table
from reconciler.model.identity import Marks
from reconciler.model.live import DeviceInfo, Listed, Loop, PathKind, ThinEntry
from reconciler.model.units import Bytes


class DeviceMapper(Protocol):
    """The ioctls of /dev/mapper/control, as libdevmapper offers them."""

    def versions(self) -> tuple[str, str]:
        """The versions of the library and of the kernel's driver."""

    def list_all(self) -> list[Listed]:
        """All devices of the host, in one call. It answers also while devices hang."""

    def has_changed(self) -> bool:
        """Whether a device may have been added, removed, renamed or given a table since the last call; True at first.
        Asking this first can save a LIST. Suspensions, clears and loads do not count.
        """

    def info(self, name: str) -> DeviceInfo | None:
        """The information about a device; None if there is no such device. It answers also while the device hangs."""

    def deps(self, name: str) -> list[Devno]:
        """The devices that the live table uses."""

    def table(self, name: str, *, inactive: bool = False) -> Table:
        """The live table, or the inactive one. Empty if there is none. ENXIO: there is no such device."""

    def status(self, name: str) -> Sequence[tuple[str, str]]:
        """The (target type, status line) of each target, asked with noflush, because without it the kernel commits a
        pool's metadata. ENXIO: there is no such device.
        """

    def create(self, name: str, uuid: str) -> None:
        """Creates a device without a table. EBUSY: the name or UUID is taken."""

    def load(self, name: str, table: Table, *, read_only: bool = False) -> None:
        """Loads a table into the inactive slot. ENODATA: the thin id is not in the pool. EINVAL:
        the target refuses it.
        """

    def resume(self, name: str, *, hidden: bool = False, freeze: bool = True) -> None:
        """Swaps in the inactive table if there is one, and lets I/O go on; waits for udev, with a deadline.

        `hidden` asks udev's rules to ignore the device: no links, no probing. A swap first freezes the filesystem on it
        and flushes, unless `freeze` is False: over a dead table that fails with EIO.
        """

    def suspend(self, name: str) -> None:
        """Flushes, freezes the filesystem on the device, and holds back I/O. It succeeds if the device is suspended
        already. EINTR: the flush took too long, and the device keeps running.
        """

    def remove(self, name: str) -> None:
        """Removes the device, never forced and never deferred. EBUSY: it is open. ENXIO: it is gone already."""

    def clear(self, name: str) -> None:
        """Drops the inactive table."""

    def message(self, name: str, text: str) -> None:
        """Sends a message to the first target. Without a live table, the kernel answers OK and drops it."""

    def mknodes(self, name: str) -> None:
        """Makes the node in /dev/mapper that udev should have made. If there is no such device, its node is removed."""


class Disks(Protocol):
    """Files, block devices, and the loops that make block devices of files."""

    def kind(self, path: str) -> tuple[PathKind, Bytes, Devno | None]:
        """What is at the path (after links), its size, and the number of a block device. MISSING is no error."""

    def node(self, devno: Devno) -> str:
        """The path of a block device in /dev, also if udev makes no /dev/block."""

    def file_facts(self, path: str) -> tuple[Bytes, Bytes]:
        """The bytes (allocated on disk, free in its filesystem) of a file, or of the folder where it would be made.
        Free is what an ordinary user may use, because the reserve for root is not to be planned with.
        """

    def folder_exists(self, path: str) -> bool:
        """Whether the folder of the file exists, even if the file does not."""

    def make_file(self, path: str, size: Bytes, *, allocate: bool) -> None:
        """Makes a new file with mode 0600, which is durable when this returns. EEXIST: something has the name, even a
        dangling link. ENOSPC, EFBIG: nothing is left behind. ENOENT: there is no such folder.
        """

    def grow_file(self, path: str, size: Bytes, *, allocate: bool) -> None:
        """Grows a file, and does nothing if it is as large already. It is durable when this returns. ENOSPC may leave
        the file larger than it was, which is harmless.
        """

    def delete_file(self, path: str) -> None:
        """Deletes the file, durably when this returns. It succeeds if the file or its folder does not exist."""

    def read(self, path: str, length: int) -> bytes:
        """The first bytes of a file or block device, past the page cache if possible. Fewer if there are no more."""

    def zero(self, path: str, length: int) -> None:
        """Zeroes the first bytes, up to the end at most; durable when this returns. EBUSY: something has claimed the
        block device.
        """

    def set_writable(self, devno: Devno) -> None:
        """Clears the block layer's read-only flag (BLKROSET), which `blockdev --setro` sets. A device with a read-only
        table stays read-only.
        """

    def loops_on(self, path: str) -> list[Loop]:
        """The loops on this very file, by device and inode. Those on a deleted file of the same path do not count."""

    def attach(self, path: str) -> Loop:
        """Attaches a loop to the file, with direct I/O if the filesystem has it. EBUSY: the file has a loop, or
        somebody else is attaching one at this moment.
        """

    def resize_loop(self, loop: Loop) -> None:
        """Makes the loop notice that its file has grown."""

    def detach(self, loop: Loop) -> None:
        """Detaches the loop. ENXIO: it is free already. EBUSY: something has claimed it (a mount, a dm device). Raises
        VerificationError, also with EBUSY, if somebody merely has it open: LOOP_CLR_FD then succeeds, and only marks
        the loop to be detached at its last close.
        """

    def signature(self, path: str) -> str:
        """All that libblkid finds, such as `ext4`, `LVM2_member`, `dos`, or `dos+ext4`; empty if it finds nothing.

        Every signature counts, also those that contradict each other, because the answer decides whether something may
        be overwritten.
        """

    def contents(self, path: str) -> str:
        """The same with the UUID of each, which distinguishes two filesystems of one type: `ext4 6e1c...`."""

    def marks(self, path: str) -> Marks:
        """The marks of the block device or file, whatever path leads to it: WWN, serial, PARTUUID, dm UUID, the file
        behind a loop. Empty if it has none, or does not exist.
        """

    def whereabouts(self, marks: Marks) -> str | None:
        """The path of the block device that has these marks now; None if none has."""

    def read_only(self, devno: Devno) -> bool:
        """Whether the kernel refuses writes to the device, by its own flag or that of its disk."""

    def sector(self, devno: Devno) -> int:
        """The size of its logical block in bytes; that of its disk for a partition."""

    def behind(self, devno: Devno) -> tuple[str, Bytes] | None:
        """The file behind a loop, and its size. None if it is no loop, has a device behind it, or this path does not
        lead to the file here.
        """

    def writers(self, path: str) -> list[str]:
        """`qemu (pid 412)` for each other process that has the file, the device, or the file behind that loop open to
        write.
        """

    def mounts(self, devno: Devno) -> list[str]:
        """`/srv` for each mount point in our own namespace, then, once each, `/data (in the mount namespace of pid
        412)` for those that exist only in another one, then `swap`.
        """

    def above(self, devno: Devno) -> list[str]:
        """The names of the devices above it or above its partitions, and of mounted partitions. dm devices have their
        dm name, all others the kernel's.
        """

    def alone_on(self, devnos: Sequence[Devno]) -> AbstractContextManager[None]:
        """While the context is active, no other process of this project on the host can use any of these devices for a
        pool. EBUSY: one does just now.
        """

    def processes(self, devno: Devno) -> list[str]:
        """`dd (pid 412)` for each other process that has a node of the device open; `bash (pid 77), with a file on it
        open` for one that keeps its filesystem mounted (`umount --lazy` removes only the mount point), in every
        namespace that can be seen; and `loop7, whose file is on it`.
        """

    def below(self, devno: Devno) -> list[Devno]:
        """The dm devices under it, the nearest first, beginning with itself if it is one. Partitions and loops are
        followed to what they are on.
        """

    def unwritten(self) -> Bytes:
        """How many bytes wait in memory to be written, to any disk of the host."""

    def stands_on(self, paths: Sequence[str]) -> frozenset[Devno]:
        """The dm devices under the filesystems of these paths, and under swap."""


@dataclass(frozen=True, slots=True)
class Mkfs:
    """A filesystem to be made."""

    type: str
    label: str
    block_size: Bytes
    discard: bool


class Tools(Protocol):
    """Programs that are started because no library does the same."""

    def mkfs(self, node: str, wanted: Mkfs) -> None:
        """Makes a filesystem, without force. EEXIST: there is something on the device already."""

    def filesystem(self, node: str) -> str:
        """The type of the filesystem on the node; empty if there is none."""

    def grow_filesystem(self, node: str, mounted_at: str | None) -> None:
        """Grows the filesystem to the size of its device.

        ext4 is grown online if mounted, else by e2fsck -fp and resize2fs. xfs is grown at its mount point, or in a
        private mount that is removed before this returns. Both are grown in a private mount if `mounted_at` is only in
        another mount namespace.

        EOPNOTSUPP: there is no ext4 or xfs on the device.
        """

    def discard(self, node: str) -> None:
        """Discards the whole device, so that its blocks are freed. EBUSY: something has claimed it (a mount, a dm
        device). EOPNOTSUPP: it cannot discard.
        """

    def thin_check(self, metadata: str) -> str:
        """The harmless findings of thin_check; empty if there are none. The pool must not be live.

        Raises HostError: EUCLEAN if the metadata is damaged, EIO if its disk cannot be read.
        """

    def thin_ls(self, metadata: str, *, live: bool) -> dict[int, ThinEntry]:
        """All thin ids of a pool. `live` reads the metadata snapshot, and fails without an errno if none is held.
        EBUSY: the pool is live, and `live` was not given.
        """


class Udev(Protocol):
    """udev's view of a device. Its events are in `kernel.monitor`."""

    def running(self) -> bool:
        """Whether somebody listens on udev's control socket: udevd itself, or systemd, which would start it."""

    def missing(self, info: DeviceInfo) -> tuple[str, ...]:
        """Paths that should lead to the device and do not: its node in /dev/mapper, and the links that udev promised.

        A link that several devices claim (an origin and its snapshot have one filesystem UUID) leads to one of them,
        and is not missing for the others.
        """

    def why_not(self) -> str:
        """Why udev does not make what is missing, with the command that helps."""

    def in_the_way(self, path: str) -> str | None:
        """What is at a path where a node should be, and how to remove it. None if nothing is."""

    def trigger(self, devno: Devno) -> None:
        """Has udev run its rules for the device (a synthetic change event), and waits for it.

        ENOENT: there is no such device. ECONNREFUSED: udev does not run. ENOBUFS: too many events at once. Raises
        WorkerTimeoutError if udev does not answer in time.
        """


@dataclass(frozen=True, slots=True)
class Kernel:
    """All parts of the host that the reconciler touches."""

    dm: DeviceMapper
    disks: Disks
    tools: Tools
    udev: Udev
