"""The state directory, which is its owner's alone, and its lock: one process writes to it at a time."""

from __future__ import annotations

import errno
import fcntl
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

_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def make_directory(directory: Path) -> None:
    """Make it (0700) where it is missing, and check it."""
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
    """Raises StoreError for a state directory that others may write to: its content could be anybody's."""
    try:
        found = directory.stat()
    except OSError as error:
        raise StoreError(
            f"state directory {directory}: {error.strerror}: start the daemon first, or give its --state-dir"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise StoreError(f"state directory {directory} is not a directory: give another with --state-dir")
    if found.st_uid not in {0, os.geteuid()}:
        raise StoreError(
            f"state directory {directory} belongs to user {found.st_uid}, who is neither root nor the one that runs "
            f"this: run as that user, or `chown {os.geteuid()} {directory}`"
        )
    if found.st_mode & _OTHERS:
        raise StoreError(f"state directory {directory} can be written to by others: `chmod go-w {directory}`")
    _check_above(directory)


def _check_above(directory: Path) -> None:
    """Whoever may write to a directory above it could put another in its place; not in a sticky one, such as /tmp."""
    for folder in directory.resolve().parents:
        mode = folder.stat().st_mode
        if mode & _OTHERS and not mode & stat.S_ISVTX:
            raise StoreError(
                f"state directory {directory} lies in {folder}, where others could put another in its place: "
                f"`chmod go-w {folder}`"
            )


_NAME: Final = "lock"
_LONGEST: Final = 400
_LENGTH: Final = 4000


class LockHeld(StoreError):  # noqa: N818  # what it is, not an error of anybody's
    """Somebody else has the lock. `pid` is 0 where it did not get to write down who it is.

    `url` is where it answers; empty: nowhere, or it is a daemon of 0.1.0.
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
    """flock on DIR/lock. It goes with the process, however that ends; programs that it starts do not inherit it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd = -1

    def acquire(self) -> None:
        """Raises LockHeld, at once, while another process (or another StateLock of this one) has it."""
        if self._fd >= 0:
            return
        make_directory(self._directory)
        fd = self._open()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sign(fd)
        except BlockingIOError:
            holder = self._holder(fd)
            os.close(fd)
            raise holder from None
        except OSError as error:
            os.close(fd)
            raise self._unusable(error) from error
        self._fd = fd

    def release(self) -> None:
        """The file stays: were it removed, a third process could lock a new one beside a second's."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def announce(self, url: str) -> None:
        """Say where its holder answers, for commands that ask it. What was signed before takes as much room."""
        if self._fd >= 0:
            _sign(self._fd, url)

    def was_taken(self) -> bool:
        """Whether anybody ever had it."""
        return (self._directory / _NAME).exists()

    def holder(self) -> LockHeld | None:
        """Who has it, without taking it, and without making anything. None: nobody, or there is no directory."""
        try:
            fd = os.open(self._directory / _NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._holder(fd)
        finally:
            os.close(fd)
        return None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _open(self) -> int:
        try:
            return os.open(self._directory / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> StoreError:
        return StoreError(f"{self._directory / _NAME}: {explain_os(self._directory / _NAME, error)}")

    def _holder(self, fd: int) -> LockHeld:
        # It was signed when it was taken, so the file's time says since when.
        since = os.fstat(fd).st_mtime
        try:
            signed = parse(os.pread(fd, 4096, 0).decode())
            command = " ".join(ascii(str(signed["command"]))[1:-1][:_LONGEST].split())
            return LockHeld(self._directory, int(signed["pid"]), command, since, str(signed.get("url", "")))
        except (ValueError, LookupError, TypeError, OverflowError):
            return LockHeld(self._directory, 0, "", since)


def _sign(fd: int, url: str = "") -> None:
    """Say who has it, for whoever comes second. Always of one length: signed again, it needs no room on a full disk."""
    text = json.dumps({"pid": os.getpid(), "command": " ".join(" ".join(sys.argv).split())[:_LONGEST], "url": url})
    os.pwrite(fd, text.encode().ljust(_LENGTH), 0)
    os.ftruncate(fd, _LENGTH)
