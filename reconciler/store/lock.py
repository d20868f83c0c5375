"""The state directory, which belongs to its owner alone, and its lock: only one process writes to it at a time."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from reconciler.model.conditions import rfc3339
from reconciler.store.codec import parse
from reconciler.store.errors import StoreError, explain_os
from reconciler.trusted_files import FileLock, LockTaken, untrusted, untrusted_way


def make_directory(directory: Path) -> None:
    """Makes the directory (0700) if it is missing, and checks it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}:
            raise StoreError(f"state directory {directory}: {explain_os(directory, error)}") from error
        raise StoreError(
            f"state directory {directory}: {error.strerror}: run as root, or give another with --state-dir"
        ) from error
    check_directory(directory)


def check_directory(directory: Path) -> None:
    """Raises StoreError for a state directory that other users can write to or replace."""
    try:
        found = directory.stat()
        doubt = untrusted(directory, info=found, ours=True)
        way = untrusted_way(directory, ours=True)
    except OSError as error:
        raise StoreError(
            f"state directory {directory}: {error.strerror}: start the daemon first, or give its --state-dir"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise StoreError(f"state directory {directory} is not a directory: give another with --state-dir")
    if doubt is not None:
        raise StoreError(f"state directory {directory}: {doubt}")
    if way is not None:
        raise StoreError(f"state directory {directory} lies where others could put another in its place: {way}")


_LONGEST: Final = 400


class LockHeld(StoreError):  # noqa: N818  # what it is, not an error of anybody's
    """Another process has the lock. `pid` is 0 if it did not get to write its own.

    `url` is where it answers; empty if it answers nowhere, or is a daemon of 0.1.0.
    """

    def __init__(self, directory: Path, pid: int, command: str, since: float, url: str = "") -> None:
        self.url = url
        self.pid = pid
        self.command = command
        self.since = since
        who = f"process {pid} ({command})" if pid else "another process"
        super().__init__(
            f"state directory {directory} is in use by {who} since {rfc3339(since)}: stop it first, "
            "or give another with --state-dir"
        )


class StateLock:
    """The lock on DIR/lock."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = FileLock(directory / "lock")

    def acquire(self) -> None:
        """Takes the lock. Raises LockHeld at once if another process, or another StateLock of this one, has it."""
        if self._lock.is_held:
            return
        make_directory(self._directory)
        try:
            self._lock.take()
            self._sign()
        except LockTaken as taken:
            raise _held(self._directory, taken) from None
        except OSError as error:
            self.release()
            raise StoreError(f"{self._lock.path}: {explain_os(self._lock.path, error)}") from error

    def release(self) -> None:
        self._lock.release()

    def announce(self, url: str) -> None:
        """Writes down the URL at which the holder answers, for commands that ask it."""
        if self._lock.is_held:
            self._sign(url)

    def was_taken(self) -> bool:
        """Whether any process ever had the lock."""
        return self._lock.path.exists()

    def holder(self) -> LockHeld | None:
        """Who has the lock, found without taking it or making any file. None if nobody has it, or it cannot be read."""
        try:
            taken = self._lock.holder()
        except OSError:
            return None
        return None if taken is None else _held(self._directory, taken)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _sign(self, url: str = "") -> None:
        command = " ".join(" ".join(sys.argv).split())[:_LONGEST]
        self._lock.sign(json.dumps({"pid": os.getpid(), "command": command, "url": url}))


def _held(directory: Path, taken: LockTaken) -> LockHeld:
    try:
        signed = parse(taken.signed)
        command = " ".join(ascii(str(signed["command"]))[1:-1][:_LONGEST].split())
        return LockHeld(directory, int(signed["pid"]), command, taken.since, str(signed.get("url", "")))
    except (ValueError, LookupError, TypeError, OverflowError):
        return LockHeld(directory, 0, "", taken.since)
