"""thin_check: what its findings mean, alike for 0.9 (C++) and for 1.0 and later (Rust).

Its status says little: 0.9 ends with 1, the later ones with 64, both for damage, for blocks that have leaked, and for a
device that they cannot read. So three questions are put apart here. Whether the device can be opened is asked before,
by errno. Whether a finding is harmless is asked of thin_check itself: with --ignore-non-fatal-errors, which both have, it
ends with 0 and still says what it found. Whether a bad block is damage or a disk that fails is asked of the disk, after.

A power cut leaves leaked blocks: the kernel commits an allocated block before the mapping that uses it. They are lost
room, which --auto-repair gives back, and nothing else (man thin_check; thin_check 0.9 does not look for those of data).
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from pathlib import Path
from typing import Final

from reconciler.kernel.block import loops
from reconciler.kernel.block.hostcalls import opened, told_as
from reconciler.kernel.command_lines import thin_check_command
from reconciler.kernel.programs import Said, run
from reconciler.model.errors import HostFault

_FOUND: Final = (1, 64, 101)
"""0.9; 1.0 and later (EX_USAGE of sysexits.h for whatever is wrong); those when what they read makes them panic."""
_HEADINGS: Final = (
    "examining ",
    "checking space map counts",
    "Checking thin metadata",
    "device details tree",
    "mapping tree",
    "data space map",
    "metadata space map",
)
"""What it says of its progress: lines that end with these words or, the first, begin with it."""
_SHOWN: Final = 3
"""Findings that are told: the last ones, which sum up."""
_LONGEST: Final = 200
_PIECE: Final = 1 << 20


def check_metadata(metadata: str) -> str:
    """What thin_check finds and is harmless; empty where it finds nothing.

    Raises HostFault: EUCLEAN where the metadata is damaged; EIO where the disk below cannot be read; EBUSY where a pool,
    or anything else, has claimed it; EINVAL for a file that only its loop can be read through (no direct I/O).
    """
    refuse_unreadable(metadata)
    said = run(thin_check_command(metadata), metadata, fine=(0, *_FOUND))
    if said.status == 0:
        return findings(said)
    _refuse_failing(metadata)
    told = findings(said) or f"it ended with status {said.status}"
    raise HostFault("thin_check", metadata, errno.EUCLEAN, told)


def findings(said: Said) -> str:
    """In one line, without what it says of its progress."""
    lines = [line.strip() for line in said.errors.splitlines()]
    found = [line[:_LONGEST] for line in lines if line and not _is_heading(line)]
    left_out = f"{len(found) - _SHOWN} more; " if len(found) > _SHOWN else ""
    return left_out + "; ".join(line.rstrip(".") for line in found[-_SHOWN:])


def _is_heading(line: str) -> bool:
    return line.startswith(_HEADINGS[0]) or line in _HEADINGS[1:]


def refuse_unreadable(metadata: str) -> None:
    """The tools open with O_DIRECT, and a device exclusively: EINVAL where the file's filesystem has no direct I/O."""
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
    """Reads it all, past the cache: a block that cannot be read looks like a bad one to thin_check."""
    with (
        told_as("read", metadata),
        opened(metadata, os.O_RDONLY | os.O_DIRECT) as device,
        mmap.mmap(-1, _PIECE) as piece,  # of whole pages, as O_DIRECT asks for
    ):
        at, size = 0, os.lseek(device, 0, os.SEEK_END)
        while at < size and (length := os.preadv(device, [piece], at)):
            at += length  # less than a piece before a block that cannot be read: the next call says so
