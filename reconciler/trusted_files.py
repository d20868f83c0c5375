"""Whether others could have written a file, and locks that only this user can hold.

Whoever can write a manifest decides what happens to data, whoever can write the state decides what the daemon believes,
and whoever can open a lock's file can keep the daemon out. sshd and cron have the same requirements for their files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS: Final = 40
"""How many symbolic links are followed, as in the kernel (path_resolution(7))."""
_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}


def kind_of(info: os.stat_result) -> str:
    """What is in the place of a plain file, in words."""
    return _KINDS.get(stat.S_IFMT(info.st_mode), "something else")


def untrusted(
    path: Path, *, fd: int | None = None, info: os.stat_result | None = None, ours: bool = False
) -> str | None:
    """Why this file or directory cannot be trusted, with the command that corrects it; None if it can be trusted.

    `fd` is the same thing opened already, and `info` what was seen of it already: with either there is no moment in
    which it can be replaced. `ours` is what this program writes itself, the state and the locks, unlike manifests:

    - On a read-only mount (a ConfigMap, an image) nobody writes a manifest, whatever its mode says. State is refused
      there all the same: it was written before it was mounted so, and others could have been at it then.
    - Commands read the state too, and not only the daemon's user runs them, so the message says that one could.

    Raises OSError where it cannot be looked at.
    """
    target: Path | int = path if fd is None else fd
    info = info or os.stat(target)  # noqa: PTH116  # of a path or of an open file
    if not ours and os.statvfs(target).f_flag & os.ST_RDONLY:
        return None
    if not _is_trusted(info.st_uid):
        whose, or_else = ("the user that runs this", "run as that user, or ") if ours else ("the daemon's user", "run ")
        return f"owned by uid {info.st_uid}, neither root nor {whose}: {or_else}`chown root {_shown(path)}`"
    if info.st_mode & _OTHERS:
        return f"others may write it (mode {stat.S_IMODE(info.st_mode):04o}): run `chmod go-w {_shown(path)}`"
    return None


def untrusted_way(path: Path, *, ours: bool = False) -> str | None:
    """The first directory on the way to `path` whose writers could replace what is in it, and why; None if there is
    none.

    In a sticky directory, such as /tmp, nobody can replace the files of others; there it is enough that no link belongs
    to another user. Raises OSError where the path ends.
    """
    for folder, step in _steps_to(path):
        info = folder.stat()
        if info.st_mode & stat.S_ISVTX and _is_trusted(info.st_uid):
            found = step.lstat()
            if stat.S_ISLNK(found.st_mode) and not _is_trusted(found.st_uid):
                return f"{step}: a symbolic link of uid {found.st_uid}, who can change it: name what it leads to"
            continue
        doubt = untrusted(folder, info=info, ours=ours)
        if doubt is not None:
            return f"{folder}: {doubt}"
    return None


def folders_to(path: Path) -> Iterator[Path]:
    """Every directory that is read on the way to the path, also those behind symbolic links."""
    return (folder for folder, _ in _steps_to(path))


def _steps_to(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yields each of those directories, with the name that is looked up in it."""
    absolute = path.absolute()
    here, parts, links = Path(absolute.anchor), list(absolute.parts[1:]), 0
    while parts:
        name = parts.pop(0)
        step = here.parent if name == ".." else here / name
        yield here, step
        if not step.is_symlink():
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = step.readlink()
        here = Path(target.anchor) if target.is_absolute() else here
        parts = [*target.relative_to(target.anchor).parts, *parts]


def _is_trusted(uid: int) -> bool:
    return uid in {0, os.geteuid()}


def _shown(path: Path) -> str:
    text = str(path)
    return shlex.quote(text if text.isprintable() else ascii(text)[1:-1])


class LockTaken(Exception):  # noqa: N818  # says what is, as BlockingIOError does
    """Another process holds the lock."""

    def __init__(self, signed: str, since: float) -> None:
        super().__init__(signed, since)
        self.signed = signed
        """What the holder wrote: only for messages, never trusted. Empty if it has not written anything yet."""
        self.since = since
        """When the lock was taken, in wall-clock seconds; the time of the file, which is written then."""


_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""The flags keep the lock from being inherited by programs, do not follow a link, and do not block on a fifo."""
_PAUSE: Final = 0.01
_LENGTH: Final = 4000


class FileLock:
    """An flock on a file that nobody else can open. It ends with the process, also if that is killed.

    It stays while a call of the process hangs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock. Another object of the same process counts as somebody else."""
        return self._fd >= 0

    def take(self, patience: float = 0.0) -> None:
        """Takes the lock. Raises LockTaken if another process still has it after `patience` seconds, and OSError if it
        cannot be locked.
        """
        if self.is_held:
            return
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
        try:
            os.fchmod(fd, 0o600)  # whoever can open a file can lock it
            _lock(fd, patience)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def sign(self, text: str) -> None:
        """Writes who holds the lock, for others who want it; always of one length, so a rewrite fits on a full disk."""
        os.pwrite(self._fd, text.encode().ljust(_LENGTH), 0)
        os.ftruncate(self._fd, _LENGTH)

    def holder(self) -> LockTaken | None:
        """Who holds the lock now, found without taking or making it. Raises OSError if the file cannot be read."""
        try:
            fd = os.open(self.path, os.O_RDONLY | _FLAGS)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _taken(fd)
        finally:
            os.close(fd)
        return None

    def release(self) -> None:
        """Releases the lock. The file stays: if it were removed, a third process could lock a new
        one beside a second.
        """
        if self.is_held:
            os.close(self._fd)
            self._fd = -1


def _lock(fd: int, patience: float) -> None:
    """Tries the lock in short intervals, because flock(2) waits either not at all or without a limit."""
    end = time.monotonic() + patience
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() >= end:
            raise _taken(fd)
        time.sleep(_PAUSE)


def _taken(fd: int) -> LockTaken:
    signed = os.pread(fd, _LENGTH, 0).decode(errors="replace").strip()
    return LockTaken(signed, os.fstat(fd).st_mtime)
