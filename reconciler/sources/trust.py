"""Whether others could have written a file or directory, as sshd and cron ask it of theirs.

Whoever can write a manifest decides what becomes of data, and whoever can write the state decides what is believed.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import Final

_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


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


def _shown(path: Path) -> str:
    text = str(path)
    return shlex.quote(text if text.isprintable() else ascii(text)[1:-1])
