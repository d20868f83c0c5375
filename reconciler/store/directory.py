"""The state directory: made for its owner alone, refused where others could write to it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

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
