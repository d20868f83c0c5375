"""The state directory: made for its owner alone, refused where others could write to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from reconciler.store.errors import StoreError


def make_directory(directory: Path) -> None:
    """Make it (0700) where it is missing, and check it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
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
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreError(f"state directory {directory} can be written to by others: `chmod go-w {directory}`")
