"""Reads and loads manifests: a set of records that is valid as a whole, or every reason why it is not.

Files are read as bytes, without trust in their names: opening must not block on a fifo or operate a device, a link must
not lead out of the directory, a huge file is never read, and a file that changes while it is read is read again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from reconciler.model.recordset import Placed, Position, Problem, RecordSet, check, show_path
from reconciler.model.units import format_size
from reconciler.sources.manifests.explain import read_record
from reconciler.sources.manifests.yaml import Node, YamlFault, find, read_documents
from reconciler.trusted_files import folders_to, kind_of, untrusted, untrusted_way

MAX_FILE: Final = 1024 * 1024
MAX_TOTAL: Final = 16 * 1024 * 1024
MAX_FILES: Final = 4096
_ATTEMPTS: Final = 5
_SUFFIXES: Final = (".yaml", ".yml")
_CONFIGMAP: Final = "..data"
"""The symbolic link that the kubelet replaces when a ConfigMap changes; all files are links through it."""
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class File:
    path: str
    """The path as it is shown to people."""
    content: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    files: tuple[File, ...] = ()
    problems: tuple[Problem, ...] = ()


class _Refused(Exception):  # noqa: N818  # it becomes a Problem, nobody sees it as an error
    """Why a file is not read."""


class _Moved(Exception):  # noqa: N818
    """A file changed while it was being read."""


def is_manifest_name(name: str) -> bool:
    """Whether a file of this name is read; the temporary files of editors (.x.swp, #x#, x~) are not."""
    return name.endswith(_SUFFIXES) and not name.startswith((".", "#", "~"))


def problem_with(path: str, message: str) -> Problem:
    """A problem with a file as a whole."""
    return Problem(path, 1, 1, "", message)


def read_path(path: Path, *, trust: bool) -> Reading:
    """Reads a directory, in the order of names, or one file. It never raises for what it finds."""
    try:
        if trust:
            _trust_place(path)
        if path.is_dir():
            return _read_settled(path, trust=trust)
        target = path.resolve()  # a link that was named explicitly is followed
        with _folder(target.parent) as folder:
            return Reading((File(str(path), _read(folder, target.parent, target.name, path, trust=trust)),))
    except _Refused as refused:
        return Reading((), (problem_with(str(path), str(refused)),))
    except _Moved:
        return Reading((), (problem_with(str(path), "changed while it was read: try again"),))
    except (OSError, RuntimeError, ValueError) as error:
        return Reading((), (problem_with(str(path), _said(error)),))


def _said(error: OSError | RuntimeError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or directory: make it, or name another"
    if isinstance(error, PermissionError):
        return "cannot be read, permission denied: make it readable to the daemon's user"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "a symbolic link that leads in a circle: remove it"
    reason = error.strerror if isinstance(error, OSError) else ""
    return f"cannot be read: {reason or 'not a path'}"


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _read_settled(directory: Path, *, trust: bool) -> Reading:
    """Reads again while the directory changes, so that the result is of one moment."""
    moved = ""
    for _ in range(_ATTEMPTS):
        with _folder(directory) as folder:
            before = _generation(folder)
            try:
                reading = _read_directory(folder, directory, trust=trust)
            except _Moved as name:
                moved = str(name)
                continue
            if _generation(folder) == before:
                return reading
            moved = _CONFIGMAP
    message = "keeps changing while it is read: write elsewhere, then rename into place"
    return Reading((), (problem_with(str(directory / moved), message),))


def _generation(folder: int) -> str:
    try:
        return os.readlink(_CONFIGMAP, dir_fd=folder)
    except OSError:
        return ""


def _read_directory(folder: int, directory: Path, *, trust: bool) -> Reading:
    doubt = untrusted(directory, fd=folder) if trust else None
    if doubt is not None:
        raise _Refused(doubt)
    # Lists the open directory itself, wherever its path leads by now.
    names = sorted(name for name in os.listdir(folder) if is_manifest_name(name))
    if len(names) > MAX_FILES:
        raise _Refused(f"more than {MAX_FILES} manifests: put several records into a file")
    files: list[File] = []
    problems: list[Problem] = []
    room = MAX_TOTAL
    for name in names:
        path = directory / name
        try:
            content = _read_entry(folder, directory, path, trust=trust)
        except (_Refused, OSError) as error:
            problems.append(problem_with(str(path), str(error) if isinstance(error, _Refused) else _said(error)))
            continue
        room -= len(content)
        if room < 0:
            raise _Refused(f"manifests of more than {format_size(MAX_TOTAL)} in all: no set of records is that large")
        files.append(File(str(path), content))
    return Reading(tuple(files), tuple(problems))


def _read_entry(folder: int, directory: Path, path: Path, *, trust: bool) -> bytes:
    try:
        info = os.lstat(path.name, dir_fd=folder)
    except FileNotFoundError:
        raise _Moved(path.name) from None
    if not stat.S_ISLNK(info.st_mode):
        return _read(folder, directory, path.name, path, trust=trust)
    root = directory.resolve()
    target = Path(os.path.realpath(path))
    way = [folder for folder in folders_to(root / path.name) if folder != root and folder not in root.parents]
    if not all(place.is_relative_to(root) for place in (*way, target)):
        raise _Refused("a symbolic link that leads out of the directory: put the file itself here")
    if trust:
        _trust_way(way)
    try:
        with _folder(target.parent) as inner:
            return _read(inner, target.parent, target.name, path, trust=trust)
    except (_Moved, FileNotFoundError):
        raise _Refused("a symbolic link that leads nowhere: remove it, or put the file there") from None


def _trust_place(path: Path) -> None:
    """Refuses the manifests if others can replace the directory or file in its place."""
    doubt = untrusted_way(path)
    if doubt is not None:
        raise _Refused(doubt)


def _trust_way(way: Iterable[Path]) -> None:
    """Checks the directories between that of the manifests and a file that a link leads to."""
    for folder in way:
        doubt = untrusted(folder)
        if doubt is not None:
            raise _Refused(f"{folder}: {doubt}")


def _read(folder: int, directory: Path, name: str, shown: Path, *, trust: bool) -> bytes:
    info = os.lstat(name, dir_fd=folder)
    _check_plain(info)  # comes before opening, because opening a device can have effects
    try:
        fd = os.open(name, _FLAGS, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP}:  # the file was removed, or replaced by a link, since the check
            raise _Moved(name) from None
        raise
    try:
        before = os.fstat(fd)
        _check_plain(before)
        doubt = untrusted(directory / name, fd=fd) if trust else None
        if doubt is not None:
            raise _Refused(doubt)
        content = _read_bounded(fd, before.st_size + 1)  # one byte more than expected shows that the file has grown
        if _stamp(os.fstat(fd)) != _stamp(before) or len(content) != before.st_size:
            raise _Moved(shown.name)
        return content
    finally:
        os.close(fd)


def _check_plain(info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise _Refused(f"{kind_of(info)}, not a plain file: move it elsewhere, or rename it")
    if info.st_size > MAX_FILE:
        raise _Refused(f"{format_size(info.st_size)}, more than {format_size(MAX_FILE)}: split it into several files")


def _stamp(info: os.stat_result) -> tuple[int, int]:
    return info.st_size, info.st_mtime_ns


def _read_bounded(fd: int, limit: int) -> bytes:
    parts: list[bytes] = []
    while limit > 0 and (part := os.read(fd, limit)):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


MAX_PROBLEMS: Final = 100
"""The most problems that are reported for one file; nobody reads more at a time."""
MAX_RECORDS: Final = 20_000
"""The most records altogether. They take seconds to read, and some hundred MiB of memory."""
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of loading. It has records only if nothing is wrong with any of them."""

    records: RecordSet | None
    problems: tuple[Problem, ...]
    files: tuple[str, ...]
    """The files that were read, in the order of reading."""
    digest: str
    """A digest of names and contents, which is the same as long as nothing was edited."""


def load(*paths: Path, trust: bool = True) -> Loaded:
    """Loads directories and files. It never raises for what it finds there.

    `trust` refuses files that others may write. A check without consequences may do without it.
    """
    files: dict[str, File] = {}
    problems: list[Problem] = []
    for path in paths:
        reading = read_path(path, trust=trust)
        files.update({file.path: file for file in reading.files})
        problems += reading.problems
    placed: list[Placed] = []
    for file in files.values():
        found = _limited(file, _read_file(file))
        placed += [item for item in found if isinstance(item, Placed)]
        problems += [item for item in found if isinstance(item, Problem)]
        if len(placed) > MAX_RECORDS:
            problems.append(problem_with(file.path, f"more than {MAX_RECORDS} records by now: no host has so many"))
            break
    if not problems:  # a record that is missing because of an error in it is no second problem
        problems = check(placed)
    places = {item.record.key: item.place for item in placed}
    records = None if problems else RecordSet.of((item.record for item in placed), places)
    return Loaded(records, tuple(problems), tuple(files), _digest(files.values()))


def _digest(files: Iterable[File]) -> str:
    digest = hashlib.sha256()
    for file in files:
        name = os.fsencode(file.path)
        digest.update(b"%d %d " % (len(name), len(file.content)) + name + file.content)
    return digest.hexdigest()


def _limited(file: File, found: Iterator[Placed | Problem]) -> list[Placed | Problem]:
    kept: list[Placed | Problem] = []
    problems = 0
    for item in found:
        problems += isinstance(item, Problem)
        if problems > MAX_PROBLEMS:
            kept.append(problem_with(file.path, f"more than {MAX_PROBLEMS} problems: put these right first"))
            break
        kept.append(item)
    return kept


def _read_file(file: File) -> Iterator[Placed | Problem]:
    text = _decode(file)
    if isinstance(text, Problem):
        yield text
        return
    try:
        for document in read_documents(text):
            yield from _read_document(document, file)
    except YamlFault as fault:
        yield Problem(file.path, fault.mark.line, fault.mark.column, show_path(fault.path), fault.message)


def _read_document(document: Node, file: File) -> Iterator[Placed | Problem]:
    record = read_record(document, file.path)
    if isinstance(record, list):
        yield from record
        return
    yield Placed(record, file.path, document.mark.line, document.mark.column, partial(find, document))


def _decode(file: File) -> str | Problem:
    try:
        text = file.content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = file.content[: error.start]
        line, start = before.count(b"\n") + 1, before.rfind(b"\n") + 1
        column = len(before[start:].decode("utf-8", "replace")) + 1
        return Problem(file.path, line, column, "", "not UTF-8 text: save it as UTF-8")
    match = _UNPRINTABLE.search(text)
    if match is None:
        return text
    place = _position_in(text, match.start())
    message = f"control character {match[0]!a}: a manifest is plain text, remove it"
    return Problem(file.path, place.line, place.column, "", message)


def _position_in(text: str, offset: int) -> Position:
    return Position(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))
