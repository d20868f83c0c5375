"""Loads manifests: a set of records that is sound as a whole, or every reason why it is not."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from reconciler.model.recordset import Placed, Position, Problem, RecordSet, check, show_path
from reconciler.sources.manifests.explain import read_record
from reconciler.sources.manifests.read import File, problem_with, read_path
from reconciler.sources.manifests.yaml import YamlFault, read_documents
from reconciler.sources.manifests.yamlnodes import Node, find

MAX_PROBLEMS: Final = 100
"""Of one file. Nobody reads more of them at a time."""
MAX_RECORDS: Final = 20_000
"""In all. They are read in seconds, and held in some hundred MiB."""
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What loading gave. The records are there only if nothing is wrong with any of them."""

    records: RecordSet | None
    problems: tuple[Problem, ...]
    files: tuple[str, ...]
    """Those that were read, in the order of reading."""
    digest: str
    """Of names and contents: the same while nothing was edited."""


def load(*paths: Path, trust: bool = True) -> Loaded:
    """Loads directories and files. Never raises for what it finds there.

    `trust` refuses what others may write. A check that nobody acts on may do without it.
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
    if not problems:  # what one bad record leaves missing is no second problem
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
