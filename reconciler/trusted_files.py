"""Whether others could have written a file, or put another in its place, as sshd and cron ask it of theirs.

Whoever can write a manifest decides what becomes of data, and whoever can write the state decides what is believed.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS: Final = 40
"""As the kernel follows (path_resolution(7))."""


def untrusted(path: Path, *, fd: int | None = None) -> str | None:
    """Why this file or directory is not to be believed, with the command that puts it right. None: it is fine.

    `fd` is the same thing opened already: looking at it leaves no moment in which it can be replaced. On a read-only
    mount (a ConfigMap, an image) nobody writes, whatever the mode says. Raises OSError where it cannot be looked at.
    """
    target: Path | int = path if fd is None else fd
    info = os.stat(target)  # noqa: PTH116  # of a path or of an open file
    if os.statvfs(target).f_flag & os.ST_RDONLY:
        return None
    shown = _shown(path)
    if info.st_uid not in {0, os.geteuid()}:
        return f"owned by uid {info.st_uid}, neither root nor the daemon's user: run `chown root {shown}`"
    if info.st_mode & _OTHERS:
        return f"others may write it (mode {stat.S_IMODE(info.st_mode):04o}): run `chmod go-w {shown}`"
    return None


def untrusted_way(path: Path) -> str | None:
    """The first directory on the way to `path` whose writers could put something else in its place, and why.

    In a sticky directory, such as /tmp, nobody replaces what is another's. Raises OSError where the way ends.
    """
    for folder in folders_to(path):
        if folder.stat().st_mode & stat.S_ISVTX and folder.stat().st_uid == 0:
            continue
        doubt = untrusted(folder)
        if doubt is not None:
            return f"{folder}: {doubt}"
    return None


def folders_to(path: Path) -> Iterator[Path]:
    """Every directory that is looked into on the way there, those that symbolic links lead through too."""
    absolute = path.absolute()
    here, parts, links = Path(absolute.anchor), list(absolute.parts[1:]), 0
    while parts:
        yield here
        name = parts.pop(0)
        if name == "..":
            here = here.parent
            continue
        step = here / name
        if not step.is_symlink():
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = step.readlink()
        here = Path(target.anchor) if target.is_absolute() else here
        parts = [*target.relative_to(target.anchor).parts, *parts]


def _shown(path: Path) -> str:
    text = str(path)
    return shlex.quote(text if text.isprintable() else ascii(text)[1:-1])
