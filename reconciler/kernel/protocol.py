"""The kernel boundary: plain calls, with one implementation for the real host and one simulated.

Nothing above this file knows which one it talks to. Every call raises HostError with the errno of the call that failed;
none retries, none decides. Paths and names were checked before they come here.
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
    """The ioctls of /dev/mapper/control, as libdevmapper gives them."""

    def versions(self) -> tuple[str, str]:
        """Of the library and of the kernel's driver."""

    def list_all(self) -> list[Listed]:
        """All devices of the host, in one call. Answers also while devices hang."""

    def has_changed(self) -> bool:
        """Whether a device may have come, gone, been renamed or given a table since this was last asked; true at first.
        Asked before LIST, it spares it. Suspensions, clears and loads do not count.
        """

    def info(self, name: str) -> DeviceInfo | None:
        """None where there is no such device. Answers also while the device hangs."""

    def deps(self, name: str) -> list[Devno]:
        """The devices that the live table lies on."""

    def table(self, name: str, *, inactive: bool = False) -> Table:
        """The live table, or the one waiting in the inactive slot. Empty where there is none. ENXIO: no device."""

    def status(self, name: str) -> Sequence[tuple[str, str]]:
        """(target type, status line) of each target, asked with noflush: the plain one commits a pool's metadata.
        ENXIO: no device.
        """

    def create(self, name: str, uuid: str) -> None:
        """A device without a table. EBUSY: the name or UUID is taken."""

    def load(self, name: str, table: Table, *, read_only: bool = False) -> None:
        """Into the inactive slot. ENODATA: the thin id is not in the pool. EINVAL: refused by the target."""

    def resume(self, name: str, *, hidden: bool = False, freeze: bool = True) -> None:
        """Swap in a waiting table if there is one, and let I/O go on; waits for udev, with a deadline.

        `hidden` asks udev's rules to leave the device alone: no links, no scanning. A swap first freezes what is
        mounted on it and flushes, unless told not to: over a dead table that fails with EIO.
        """

    def suspend(self, name: str) -> None:
        """Flush, freeze the filesystem on it, and hold back I/O. Succeeds on what is suspended already. EINTR: what was
        to be flushed was not in time, and it runs on.
        """

    def remove(self, name: str) -> None:
        """Never forced, never deferred. EBUSY: open. ENXIO: gone already."""

    def clear(self, name: str) -> None:
        """Drop the table that waits in the inactive slot."""

    def message(self, name: str, text: str) -> None:
        """To the first target. The kernel answers OK, and drops it, where there is no live table: look after."""

    def mknodes(self, name: str) -> None:
        """Make the node in /dev/mapper that udev should have made. Where there is no such device, its node goes."""


class Disks(Protocol):
    """Files, block devices, and the loops that make the one into the other."""

    def kind(self, path: str) -> tuple[PathKind, Bytes, Devno | None]:
        """What is there (links followed), its size, and a block device's number. MISSING is no error."""

    def node(self, devno: Devno) -> str:
        """The path in /dev of a block device, also where udev makes no /dev/block."""

    def file_facts(self, path: str) -> tuple[Bytes, Bytes]:
        """(allocated on disk, free in its filesystem) of a file, or of the folder where it would be made. Free is what
        an ordinary user may take: the reserve for root is no room to plan with.
        """

    def folder_exists(self, path: str) -> bool:
        """Whether the folder that the file is in, or would be in, exists."""

    def make_file(self, path: str, size: Bytes, *, allocate: bool) -> None:
        """A new file, 0600, durable when this returns. EEXIST: there is something of that name, be it a dangling link.
        ENOSPC, EFBIG: nothing is left behind. ENOENT: no such folder.
        """

    def grow_file(self, path: str, size: Bytes, *, allocate: bool) -> None:
        """Never shrinks: does nothing where the file is as large or larger. Durable when this returns. ENOSPC may leave
        it larger than it was, which is harmless.
        """

    def delete_file(self, path: str) -> None:
        """Durable when this returns. Fine where there is none, or no folder for it."""

    def read(self, path: str, length: int) -> bytes:
        """The first bytes of a file or block device, past the page cache where that is possible. Fewer where there are
        no more.
        """

    def zero(self, path: str, length: int) -> None:
        """Zero the first bytes, at most up to its end; durable when this returns. EBUSY: something has claimed the
        block device.
        """

    def set_writable(self, devno: Devno) -> None:
        """Clear the block layer's read-only flag (BLKROSET), as `blockdev --setro` sets it. A table that is read-only
        keeps its device read-only.
        """

    def loops_on(self, path: str) -> list[Loop]:
        """The loops on this very file, by device and inode. Those of a deleted file of the same path do not count."""

    def attach(self, path: str) -> Loop:
        """A loop on the file, with direct I/O where the filesystem has it. EBUSY: there is one on it already, or
        somebody else is attaching it at this moment.
        """

    def resize_loop(self, loop: Loop) -> None:
        """Have the loop see that its file has grown."""

    def detach(self, loop: Loop) -> None:
        """ENXIO: it is free already. EBUSY: something has claimed it (a mount, a dm device). Raises VerificationError,
        also EBUSY, where somebody merely has it open: LOOP_CLR_FD then says OK, and only marks the loop to go at its
        last close.
        """

    def signature(self, path: str) -> str:
        """All that libblkid finds, such as `ext4`, `LVM2_member`, `dos`, or `dos+ext4`; empty where nothing is found.

        Every trace counts, also those that contradict each other: the answer decides whether something may be
        overwritten.
        """

    def contents(self, path: str) -> str:
        """The same with the UUID of each, so that two filesystems of one type are told apart: `ext4 6e1c...`."""

    def marks(self, path: str) -> Marks:
        """What the block device or file is known by, whichever path leads to it: WWN, serial, PARTUUID, dm UUID, the
        file behind a loop. Empty where it has nothing, or there is nothing.
        """

    def whereabouts(self, marks: Marks) -> str | None:
        """The path of the block device that has these marks now, None where none has."""

    def read_only(self, devno: Devno) -> bool:
        """Whether the kernel refuses writes to it: by its own flag, or its disk's."""

    def sector(self, devno: Devno) -> int:
        """Bytes of its logical block; a partition has its disk's."""

    def behind(self, devno: Devno) -> tuple[str, Bytes] | None:
        """The file behind a loop, and its size. None: no loop, a device behind it, or no such file under that path
        here.
        """

    def writers(self, path: str) -> list[str]:
        """`qemu (pid 412)` for each other process that has the file, the device, or the file behind that loop, open for
        writing.
        """

    def mounts(self, devno: Devno) -> list[str]:
        """`/srv` for each mount point in our own namespace, then, once each, `/data (in the mount namespace of pid
        412)` for those that are only elsewhere, then `swap`.
        """

    def above(self, devno: Devno) -> list[str]:
        """Names of the devices that lie on it or on its partitions, and of partitions that are mounted. dm devices by
        their dm name, all others by the kernel's.
        """

    def alone_on(self, devnos: Sequence[Devno]) -> AbstractContextManager[None]:
        """While it is entered no other process of this project, on the whole host, puts a pool on any of these devices.
        EBUSY: one does just now.
        """

    def processes(self, devno: Devno) -> list[str]:
        """`dd (pid 412)` for each process, but this one, that has a node of the device open; `bash (pid 77), with a
        file on it open` for one that keeps its filesystem mounted (`umount --lazy` takes away only the mount point), in
        every namespace that can be seen; and `loop7, whose file is on it`.
        """

    def below(self, devno: Devno) -> list[Devno]:
        """The dm devices under it, nearest first; itself first if it is one. Through partitions, and through loops to
        what their files lie on.
        """

    def unwritten(self) -> Bytes:
        """What waits in memory to be written, to any disk of the host."""

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
    """Programs that are started, because no library does what they do."""

    def mkfs(self, node: str, wanted: Mkfs) -> None:
        """Forces nothing. EEXIST: there is something on the device already."""

    def filesystem(self, node: str) -> str:
        """The type of the filesystem on the node, empty where there is none."""

    def grow_filesystem(self, node: str, mounted_at: str | None) -> None:
        """To the size of its device. ext4: online if mounted, else e2fsck -fp and resize2fs. xfs: at its mount point,
        or in a private mount that is gone when this returns. So is both where `mounted_at` is only in another mount
        namespace.

        EOPNOTSUPP: there is no ext4 or xfs on it.
        """

    def discard(self, node: str) -> None:
        """The whole device: its blocks go back to where they came from. EBUSY: something has claimed it (a mount, a dm
        device). EOPNOTSUPP: it cannot discard.
        """

    def thin_check(self, metadata: str) -> str:
        """What it finds and is harmless; empty where there is nothing. The pool must not be live.

        Raises HostError: EUCLEAN where the metadata is damaged, EIO where its disk cannot be read.
        """

    def thin_ls(self, metadata: str, *, live: bool) -> dict[int, ThinEntry]:
        """All thin ids of a pool; `live` reads the metadata snapshot that must be held, and fails without an errno
        where none is. EBUSY: the pool is live, and `live` was not said.
        """


class Udev(Protocol):
    """udev's view of a device. Events are heard elsewhere (`kernel.monitor`)."""

    def running(self) -> bool:
        """Whether somebody listens on its control socket: udevd itself, or systemd, which would start it."""

    def missing(self, info: DeviceInfo) -> tuple[str, ...]:
        """Paths that should lead to the device and do not: its node in /dev/mapper, and the links udev promised.

        A link that several devices claim (an origin and its snapshot have one filesystem UUID) leads to one of them: it
        is not missing for the others.
        """

    def why_not(self) -> str:
        """Why udev does not make what is missing, with the command that helps."""

    def in_the_way(self, path: str) -> str | None:
        """What is at a path where a node should be, and how it is taken away. None where nothing is."""

    def trigger(self, devno: Devno) -> None:
        """Have udev run its rules for the device (a synthetic change event), and wait for it.

        ENOENT: no such device. ECONNREFUSED: no udev. ENOBUFS: too many events at once. Raises WorkerTimeoutError where
        it does not answer in time.
        """


@dataclass(frozen=True, slots=True)
class Kernel:
    """All of the host that the reconciler touches."""

    dm: DeviceMapper
    disks: Disks
    tools: Tools
    udev: Udev
