"""Compares docs/reference/healing.md with the tests: every row must have one."""

from __future__ import annotations

import re
from pathlib import Path

DOC = Path(__file__).parents[3] / "docs" / "reference" / "healing.md"
ROW = re.compile(r"^\| ([A-Z]\d\d[a-z]?) \|", re.MULTILINE)
HELD = re.compile(r"^@row\(([^)]*)\)", re.MULTILINE)


def in_the_document() -> list[str]:
    return ROW.findall(DOC.read_text())


def in_the_tests() -> set[str]:
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    return {name for text in texts for names in HELD.findall(text) for name in re.findall(r'"(\w+)"', names)}


def test_every_row_has_a_test() -> None:
    assert set(in_the_document()) - in_the_tests() == set()


def test_every_test_holds_a_row_that_exists() -> None:
    assert in_the_tests() - set(in_the_document()) == set()


def test_every_row_has_an_id_of_its_own() -> None:
    rows = in_the_document()
    assert len(rows) == len(set(rows)) > 90


def test_every_line_of_the_tables_has_an_id() -> None:
    lines = [line for line in DOC.read_text().splitlines() if line.startswith("|")]
    assert [line for line in lines if not ROW.match(line) and not re.match(r"\| id \||\|---", line)] == []
