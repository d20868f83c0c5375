"""A process that writes, and notes in a ledger what it is about to write and what is on the disk for certain.

`python -m chaos.writer files FOLDER LEDGER` makes files and deletes old ones; `blocks NAME LEDGER` writes blocks of a dm
device. A line of the ledger is `begun`, `kept` or `gone`, the name, and the SHA-256. It never ends by itself.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
import sys
import time
from pathlib import Path
from typing import Final

from chaos.host import is_really, node

FILES: Final = 16
"""That are kept at a time."""
SIZE: Final = 64 << 10
"""Bytes of a file, and of a block."""
BLOCKS: Final = 64
PAUSE: Final = 0.2
"""Seconds between two writes: one processor is all that there is."""


class Notes:
    """The end of a ledger."""

    def __init__(self, ledger: Path) -> None:
        self._file = ledger.open("a", encoding="ascii", buffering=1)

    def say(self, what: str, name: str, digest: str = "-") -> None:
        self._file.write(f"{what} {name} {digest}\n")


def write_files(folder: Path, notes: Notes) -> None:
    """Into the filesystem that is mounted there now, whatever takes its place."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    kept: list[str] = []
    for name in (f"{os.getpid()}-{number}" for number in itertools.count()):
        content = os.urandom(SIZE)
        digest = hashlib.sha256(content).hexdigest()
        notes.say("begun", name, digest)
        try:
            _new_file(name, content, place)
        except OSError as error:
            notes.say("failed", name, str(error.errno))
            time.sleep(PAUSE)
            continue
        notes.say("kept", name, digest)
        kept.append(name)
        if len(kept) > FILES:
            _delete(kept.pop(0), place, notes)
        time.sleep(PAUSE)


def _new_file(name: str, content: bytes, place: int) -> None:
    opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=place)
    try:
        os.write(opened, content)
        os.fsync(opened)
    finally:
        os.close(opened)
    os.fsync(place)


def _delete(name: str, place: int, notes: Notes) -> None:
    notes.say("gone", name)
    try:
        os.unlink(name, dir_fd=place)
    except OSError as error:
        notes.say("failed", name, str(error.errno))


def write_blocks(name: str, notes: Notes) -> None:
    """One after the other, round and round; the same one again until it is on the disk."""
    content = mmap.mmap(-1, SIZE)  # aligned, as past the page cache it has to be
    for number in itertools.count():
        content[:] = os.urandom(SIZE)
        digest = hashlib.sha256(content).hexdigest()
        notes.say("begun", str(number % BLOCKS), digest)
        while not _put(name, number % BLOCKS, content):
            time.sleep(PAUSE)
        notes.say("kept", str(number % BLOCKS), digest)
        time.sleep(PAUSE)


def _put(name: str, block: int, content: mmap.mmap) -> bool:
    """Open, write, flush and close, if it is that device that the node leads to."""
    try:
        opened = os.open(node(name), os.O_RDWR | os.O_DIRECT)
    except OSError:
        return False
    try:
        if not is_really(name, os.fstat(opened).st_rdev):
            return False
        if os.pwrite(opened, content, block * SIZE) != SIZE:
            return False
        os.fsync(opened)
    except OSError:
        return False
    finally:
        os.close(opened)
    return True


def main(what: str, where: str, ledger: str) -> None:
    notes = Notes(Path(ledger))
    if what == "files":
        write_files(Path(where), notes)
    else:
        write_blocks(where, notes)


if __name__ == "__main__":
    main(*sys.argv[1:])
