"""docs/security.md against the program: its capabilities are those of the list, and the tests that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

from reconciler.kernel.privileges import EVERY

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs/security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`((?:\w+/)*test_\w+\.py)(?:::(\w+))?`", PAGE)


def test_every_test_that_the_page_names_is_there() -> None:
    assert len(NAMED) > 50
    lost = [f"{file}::{name}" for file, name in NAMED if not _is_there(TESTS / file, name)]
    assert lost == []


def _is_there(file: Path, name: str) -> bool:
    return file.exists() and (not name or f"def {name}(" in file.read_text(encoding="utf-8"))


def test_every_row_of_an_attack_names_a_test() -> None:
    tables = re.findall(
        r"^\| they try \| what comes of it \| test \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE
    )
    rows = [row for table in tables for row in table.splitlines()]
    assert len(tables) == PAGE.count("| they try |") > 4
    assert [row for row in rows if "test_" not in row and "libudev" not in row] == []


def test_its_capabilities_are_those_of_the_program() -> None:
    rows = re.findall(r"^\| (CAP_\w+) \|", PAGE, re.MULTILINE)
    assert rows == [capability.name for capability in EVERY]


def test_the_lines_of_the_unit_keep_what_it_needs() -> None:
    (line,) = re.findall(r"^CapabilityBoundingSet=(.*)$", PAGE, re.MULTILINE)
    assert line.split() == [capability.name for capability in EVERY]


def test_so_does_the_line_for_hosts_without_systemd() -> None:
    (line,) = re.findall(r"--bounding-set -all,([\w+,]+)", PAGE)
    assert line.split(",") == [f"+{capability.name.removeprefix('CAP_').lower()}" for capability in EVERY]
