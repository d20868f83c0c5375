"""Each error code of SQLite, from its real cause, with the command that helps."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from reconciler.store.errors import StoreDamaged, StoreUnusable, explain, explain_os

ROOM = SimpleNamespace(f_flag=0, f_frsize=4096, f_blocks=1000, f_bfree=900, f_bavail=900, f_files=1000, f_ffree=900)


def told(path: Path, code: int) -> str:
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code
    found = explain(path, error)
    assert isinstance(found, StoreUnusable), found
    return str(found)


def place(monkeypatch: pytest.MonkeyPatch, **changes: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**{**vars(ROOM), **changes}))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_FULL, "no room left"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, "state.db-shm beside it"),
        (sqlite3.SQLITE_IOERR_READ, "its disk does not work"),
        (sqlite3.SQLITE_IOERR_LOCK, "cannot be locked"),
        (sqlite3.SQLITE_IOERR_NOMEM, "no memory left"),
        (sqlite3.SQLITE_IOERR_CORRUPTFS, "`fsck`"),
        (sqlite3.SQLITE_READONLY, "cannot be written to"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, "nothing can be made in"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "moved or removed"),
        (sqlite3.SQLITE_CANTOPEN, "cannot be opened"),
        (sqlite3.SQLITE_CANTOPEN_ISDIR, "a directory in its place"),
        (sqlite3.SQLITE_BUSY, "state.db` names it"),
        (sqlite3.SQLITE_BUSY_RECOVERY, "folding in its log"),
    ],
)
def test_each_code_has_its_own_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str) -> None:
    place(monkeypatch)
    assert words in told(tmp_path / "state.db", code)


@pytest.mark.parametrize(
    "code",
    [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CANTOPEN],
)
def test_a_full_disk_is_told_as_that_whatever_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    place(monkeypatch, f_bfree=0, f_bavail=0)
    said = told(tmp_path / "state.db", code)
    assert f"the filesystem of {tmp_path} is full" in said
    assert f"`df {tmp_path}`" in said
    assert "restore a copy" not in said
    place(monkeypatch, f_ffree=0)
    assert "no inode left" in told(tmp_path / "state.db", code)
    place(monkeypatch, f_flag=os.ST_RDONLY)
    assert "is read-only" in told(tmp_path / "state.db", code)


def test_what_is_damaged_is_damaged_also_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, f_bfree=0, f_bavail=0)
    error = sqlite3.DatabaseError("malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    assert isinstance(explain(tmp_path / "state.db", error), StoreDamaged)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no room left"),
        (errno.EROFS, "is read-only"),
        (errno.EIO, "disk"),
        (errno.EACCES, "run as the user"),
    ],
)
def test_a_call_that_fails_is_told_by_its_errno(tmp_path: Path, number: int, words: str) -> None:
    assert words in explain_os(tmp_path / "lock", OSError(number, os.strerror(number)))
