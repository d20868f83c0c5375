"""Starts programs, without a shell, without input, in one language, and with bounded output.

`HostTools` uses the programs that know filesystems and pool metadata.

thin_check needs the most care, because its findings are to mean the same for 0.9 (C++) and for 1.0 and later (Rust),
and its exit status says little: 0.9 ends with 1, the later ones with 64, for damage, for leaked blocks, and for a
device that they cannot read. So three questions are answered separately. Whether the device can be opened is tested
before, by errno. Whether a finding is harmless is asked of thin_check itself: with --ignore-non-fatal-errors, which
both versions have, it ends with 0 and still reports what it found. Whether a bad block is damage or a failing disk is
tested afterwards, by reading the disk.

A power cut leaves leaked blocks, because the kernel commits an allocated block before the mapping that uses it. They
are lost space, which --auto-repair frees, and nothing else (man thin_check; thin_check 0.9 does not look for those of
data).
"""

from __future__ import annotations

import array
import errno
import fcntl
import mmap
import os
import selectors
import stat
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Final

from reconciler.kernel.block import loops
from reconciler.kernel.block.files import filesystem_of, signature_of
from reconciler.kernel.block.holders import mounted_here
from reconciler.kernel.block.loops import devno_of, opened, read_attribute, size_of, sysfs, told_as
from reconciler.kernel.command_lines import (
    grow_filesystem_command,
    grow_in_private_mount_command,
    mkfs_command,
    thin_check_command,
    thin_ls_command,
)
from reconciler.kernel.protocol import Mkfs
from reconciler.model.dm_tables import Devno
from reconciler.model.errors import HostError, VerificationError
from reconciler.model.live import ThinEntry
from reconciler.model.units import whole_number

_PACKAGES: Final = {
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "xfs_growfs": "xfsprogs",
    "thin_check": "thin-provisioning-tools",
    "thin_ls": "thin-provisioning-tools",
    "unshare": "util-linux",
}
"""The packages in Debian and Ubuntu that have these programs."""
_ALSO_IN: Final = "/usr/sbin:/sbin"
"""Folders of administrators' programs, which are not in every PATH."""
_KEPT_OF_ENVIRONMENT: Final = ("GLIBC_TUNABLES",)
"""Variables without which programs may not run (the sandbox sets them on some processors). None names a file."""
_MOST_OUTPUT: Final = 256 * 1024 * 1024
"""The most output in bytes. One line for each of the 2**24 possible thin ids of a pool is less."""
_KEPT_OF_ERRORS: Final = 16 * 1024
"""How many bytes at the end of the errors are kept; programs say there why they gave up."""
_PIECE: Final = 65536


@dataclass(frozen=True, slots=True)
class Said:
    """How a program ended, and its output."""

    status: int
    output: str
    errors: str

    @property
    def last_line(self) -> str:
        """The last line of its errors or else its output, usually the reason. `Usage:` lines (mkfs.xfs) are skipped."""
        last = ""
        for line in (self.errors.strip() or self.output.strip()).splitlines():
            if line.lower().startswith("usage:"):
                break
            last = line.strip() or last
        return last


def run(command: Collection[str], subject: str, *, fine: Collection[int] = (0,)) -> Said:
    """Runs `command` on `subject`, a device or file, and waits for it.

    Raises HostError: ENOENT if the program is not installed; without errno, and with its last line, if its exit status
    is not `fine`; E2BIG if its output is larger than any correct one.
    """
    program = PurePath(next(iter(command))).name
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=_environment(),
        )
    except FileNotFoundError as error:
        raise HostError(program, subject, errno.ENOENT, _missing(program)) from error
    except OSError as error:
        raise HostError(program, subject, error.errno or 0, error.strerror or "") from error
    said = _listen(process, program, subject)
    if said.status not in fine:
        raise HostError(program, subject, 0, said.last_line or f"ended with status {said.status}")
    return said


def search_path() -> str:
    """The PATH on which programs are looked for: the caller's, without relative entries."""
    given = os.environ.get("PATH", "/usr/bin:/bin").split(":")
    return ":".join([*(folder for folder in given if folder.startswith("/")), _ALSO_IN])


def _environment() -> dict[str, str]:
    """The environment of programs. The caller's is not passed on: LD_PRELOAD, MKE2FS_CONFIG, TMPDIR and the like would
    change what programs load and write.
    """
    kept = {name: os.environ[name] for name in _KEPT_OF_ENVIRONMENT if name in os.environ}
    return {**kept, "LC_ALL": "C", "PATH": search_path()}


def _missing(program: str) -> str:
    package = _PACKAGES.get(program)
    hint = f": apt-get install {package}" if package else ""
    return f"{program} is not installed{hint}"


def _listen(process: subprocess.Popen[bytes], program: str, subject: str) -> Said:
    """Reads both pipes at the same time, because a program that fills the other one would block for ever."""
    output, errors = bytearray(), bytearray()
    with process, selectors.DefaultSelector() as selector:
        for pipe, kept in ((process.stdout, output), (process.stderr, errors)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, kept)
        try:
            while selector.get_map():
                for key, _ in selector.select():
                    _take(selector, key)
                del errors[:-_KEPT_OF_ERRORS]
                _refuse_flood(output, program, subject)
        except BaseException:
            process.kill()  # `with process` waits for its end
            raise
    return Said(process.returncode, _text(output), _text(errors))


def _refuse_flood(output: bytearray, program: str, subject: str) -> None:
    if len(output) > _MOST_OUTPUT:
        raise HostError(program, subject, errno.E2BIG, "it says more than could be right")


def _take(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]  # only pipes are registered
    piece = os.read(pipe.fileno(), _PIECE)
    if not piece:
        selector.unregister(pipe)
    kept: bytearray = key.data
    kept += piece


def _text(said: bytearray) -> str:
    return said.decode(errors="replace")


_FOUND: Final = (1, 64, 101)
"""Exit statuses for findings: 1 by 0.9; 64 (EX_USAGE of sysexits.h) by 1.0 and later, for whatever is wrong; 101 by
those if what they read makes them panic.
"""
_HEADINGS: Final = (
    "examining ",
    "checking space map counts",
    "Checking thin metadata",
    "device details tree",
    "mapping tree",
    "data space map",
    "metadata space map",
)
"""Lines that report progress: the first pattern begins such a line, the others end one."""
_SHOWN: Final = 3
"""How many findings are shown: the last ones, which sum up the others."""
_LONGEST: Final = 200
_READ_AT_ONCE: Final = 1 << 20


def check_metadata(metadata: str) -> str:
    """What thin_check finds and is harmless; empty if it finds nothing.

    Raises HostError: EUCLEAN if the metadata is damaged; EIO if the disk below cannot be read; EBUSY if a pool or
    anything else has claimed it; EINVAL for a file without direct I/O, which only its loop can read.
    """
    refuse_unreadable(metadata)
    said = run(thin_check_command(metadata), metadata, fine=(0, *_FOUND))
    if said.status == 0:
        return findings(said)
    _refuse_failing(metadata)
    told = findings(said) or f"it ended with status {said.status}"
    raise HostError("thin_check", metadata, errno.EUCLEAN, told)


def findings(said: Said) -> str:
    """The findings in one line, without the reports of progress."""
    lines = [line.strip() for line in said.errors.splitlines()]
    found = [line[:_LONGEST] for line in lines if line and not _is_heading(line)]
    left_out = f"{len(found) - _SHOWN} more; " if len(found) > _SHOWN else ""
    return left_out + "; ".join(line.rstrip(".") for line in found[-_SHOWN:])


def _is_heading(line: str) -> bool:
    return line.startswith(_HEADINGS[0]) or line in _HEADINGS[1:]


def refuse_unreadable(metadata: str) -> None:
    """Raises HostError if the tools could not open the metadata: they use O_DIRECT (EINVAL if the filesystem of the
    file has no direct I/O), and open devices exclusively.
    """
    with told_as("open", metadata):
        if stat.S_ISBLK(Path(metadata).stat().st_mode):
            devices = [metadata]
        else:
            devices = [loop.path for loop in loops.loops_on(metadata)]
        for device in devices:
            with opened(device, os.O_RDONLY | os.O_EXCL):
                continue
        with opened(metadata, os.O_RDONLY | os.O_DIRECT):
            return


def _refuse_failing(metadata: str) -> None:
    """Reads all of the metadata, past the page cache, because thin_check reports an unreadable block as damaged."""
    with (
        told_as("read", metadata),
        opened(metadata, os.O_RDONLY | os.O_DIRECT) as device,
        mmap.mmap(-1, _READ_AT_ONCE) as piece,  # an anonymous map starts on a page, as O_DIRECT requires
    ):
        at, size = 0, os.lseek(device, 0, os.SEEK_END)
        while at < size and (length := os.preadv(device, [piece], at)):
            at += length  # a short read ends before an unreadable block, and the next call reports that


_BLKDISCARD: Final = 0x1277
"""include/uapi/linux/fs.h: _IO(0x12, 119); it takes start and length in bytes."""
_DISCARD_AT_ONCE: Final = 1 << 30
"""How many bytes one call discards. Between two calls the work can be interrupted."""
_REPAIRED: Final = (0, 1)
"""Exit statuses of e2fsck(8): 0 no errors, 1 errors corrected; from 2 on a person has to look."""
_THIN_IDS: Final = 2**24


class HostTools:
    """Implements `kernel.protocol.Tools`."""

    def mkfs(self, node: str, wanted: Mkfs) -> None:
        """Makes the filesystem, without `-F` or `-f`: the device is new, and if it is not empty it is the wrong one."""
        if there := signature_of(node):
            raise HostError(f"mkfs.{wanted.type}", node, errno.EEXIST, f"there is {there} on it")
        run(mkfs_command(node, wanted), node)
        if self.filesystem(node) != wanted.type:
            raise VerificationError(f"mkfs.{wanted.type}", node, 0, "no such filesystem is on it")

    def filesystem(self, node: str) -> str:
        return filesystem_of(node)

    def grow_filesystem(self, node: str, mounted_at: str | None) -> None:
        kind = self.filesystem(node)
        if kind not in {"ext4", "xfs"}:
            raise HostError("grow the filesystem on", node, errno.EOPNOTSUPP, f"cannot grow {kind or 'nothing'}")
        if mounted_at is not None and mounted_at not in mounted_here(_block_device(node)):
            run(grow_in_private_mount_command(node, kind), node)
            return
        for command in grow_filesystem_command(node, kind, mounted_at):
            run(command, node, fine=_REPAIRED if command[0] == "e2fsck" else (0,))

    def discard(self, node: str) -> None:
        with told_as("discard", node):
            devno = _block_device(node)
            size, step = size_of(devno), _discard_step(devno)
            with opened(node, os.O_WRONLY | os.O_EXCL) as device:
                for start in range(0, size, step):
                    fcntl.ioctl(device, _BLKDISCARD, array.array("Q", [start, min(step, size - start)]))

    def thin_check(self, metadata: str) -> str:
        return check_metadata(metadata)

    def thin_ls(self, metadata: str, *, live: bool) -> dict[int, ThinEntry]:
        if not live:
            refuse_unreadable(metadata)
        said = run(thin_ls_command(metadata, live=live), metadata)
        return read_ids(said.output, metadata)


def read_ids(output: str, metadata: str) -> dict[int, ThinEntry]:
    """Parses the output of thin_ls. Raises HostError for any unknown line, as an incomplete list
    makes ids seem free.
    """
    entries = [_entry(line, metadata) for line in output.split("\n") if line.strip()]
    ids = dict(entries)
    if len(ids) < len(entries):
        raise HostError("thin_ls", metadata, 0, "it names a thin id twice")
    return ids


def _entry(line: str, metadata: str) -> tuple[int, ThinEntry]:
    words = [whole_number(word) for word in line.split()]
    match words:
        case [int(number), int(mapped), int(transaction)] if number < _THIN_IDS:
            return number, ThinEntry(mapped, transaction)
        case _:
            raise HostError("thin_ls", metadata, 0, f"it says what is not understood: {line[:80]!a}")


def _block_device(node: str) -> Devno:
    with told_as("look at", node):
        facts = Path(node).stat()
    if not stat.S_ISBLK(facts.st_mode):
        raise HostError("look at", node, errno.ENOTBLK, "not a block device")
    return devno_of(facts.st_rdev)


def _discard_step(devno: Devno) -> int:
    """How many bytes to discard at once: whole blocks of a thin pool, as parts of a block would not be freed."""
    text = read_attribute(sysfs(devno) / "queue/discard_granularity")
    granule = whole_number(text) or 0
    return _DISCARD_AT_ONCE if granule == 0 else max(granule, _DISCARD_AT_ONCE // granule * granule)
