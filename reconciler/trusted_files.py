"""What others must keep their hands off: whether they could have written a file, and the locks that only we can hold.

Whoever can write a manifest decides what becomes of data, whoever can write the state decides what is believed, and
whoever can open a lock's file can keep the daemon out. sshd and cron ask the same of their files.
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
"""As the kernel follows (path_resolution(7))."""
_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}


def kind_of(info: os.stat_result) -> str:
    """What is there in the place of a plain file."""
    return _KINDS.get(stat.S_IFMT(info.st_mode), "something else")


def untrusted(
    path: Path, *, fd: int | None = None, info: os.stat_result | None = None, ours: bool = False
) -> str | None:
    """Why this file or directory is not to be believed, with the command that puts it right. None: it is fine.

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
    """The first directory on the way to `path` whose writers could put something else in its place, and why.

    In a sticky directory, such as /tmp, nobody replaces what is another's: it is enough that no link in it is somebody
    else's. Raises OSError where the way ends.
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
    """Every directory that is looked into on the way there, those that symbolic links lead through too."""
    return (folder for folder, _ in _steps_to(path))


def _steps_to(path: Path) -> Iterator[tuple[Path, Path]]:
    """Each of those directories, with what is looked for in it."""
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
    """Somebody else holds the lock."""

    def __init__(self, signed: str, since: float) -> None:
        super().__init__(signed, since)
        self.signed = signed
        """What its holder wrote: to be shown, never trusted. Empty: it did not get to write it."""
        self.since = since
        """Wall-clock seconds: the file's time, as it is signed when it is taken."""


_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""A lock goes to no program that is started, a link in its place is not followed, and nobody waits for a fifo there."""
_PAUSE: Final = 0.01
_LENGTH: Final = 4000


class FileLock:
    """An flock on a file that nobody else can open. It goes with the process, also when that is killed.

    It stays while a call of the process hangs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    @property
    def is_held(self) -> bool:
        """By this object: another one of the same process is somebody else."""
        return self._fd >= 0

    def take(self, patience: float = 0.0) -> None:
        """Raises LockTaken if somebody else has it after so many seconds still, OSError where it cannot be locked."""
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
        """Say who holds it, for whoever comes second. Always of one length: signed again, it needs no room on a full disk."""
        os.pwrite(self._fd, text.encode().ljust(_LENGTH), 0)
        os.ftruncate(self._fd, _LENGTH)

    def holder(self) -> LockTaken | None:
        """Who holds it at this moment, without taking or making it. Raises OSError where it cannot be looked at."""
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
        """The file stays: were it removed, a third process could lock a new one beside a second's."""
        if self.is_held:
            os.close(self._fd)
            self._fd = -1


def _lock(fd: int, patience: float) -> None:
    """In small steps, as flock(2) waits either not at all or without a limit."""
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
