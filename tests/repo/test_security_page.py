"""docs/security.md against the program: its capabilities are those of the list, and tests carry its ids."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from reconciler.kernel.privileges import EVERY

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs/security.md").read_text(encoding="utf-8")
IDS = re.findall(r"(?<![\w\"])S\d\d\b", PAGE.partition("\n## ")[2])


def marked() -> set[str]:
    """The ids that tests and files of tests carry."""
    found: set[str] = set()
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.update(*map(_ids, node.decorator_list))
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
                found.update(_ids(node.value))
    return found


def _ids(mark: ast.expr) -> list[str]:
    if not (isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.security"):
        return []
    return [str(ast.literal_eval(each)) for each in mark.args]


def test_every_id_of_the_page_is_carried_by_a_test_and_every_tests_id_is_on_the_page() -> None:
    assert len(IDS) > 40
    assert len(IDS) == len(set(IDS)), "an id says one thing"
    assert marked() == set(IDS)


def test_no_test_is_named_by_what_it_is_called_at_present() -> None:
    assert "test_" not in PAGE


def test_every_row_of_an_attack_has_an_id() -> None:
    tables = re.findall(
        r"^\| they try \| what comes of it \| test \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE
    )
    rows = [row for table in tables for row in table.splitlines()]
    assert len(tables) == PAGE.count("| they try |") > 4
    assert [row for row in rows if not re.search(r"\| S\d\d \|$", row) and "libudev" not in row] == []


def test_its_capabilities_are_those_of_the_program() -> None:
    rows = re.findall(r"^\| (CAP_\w+) \|", PAGE, re.MULTILINE)
    assert rows == [capability.name for capability in EVERY]


def test_the_lines_of_the_unit_keep_what_it_needs() -> None:
    (line,) = re.findall(r"^CapabilityBoundingSet=(.*)$", PAGE, re.MULTILINE)
    assert line.split() == [capability.name for capability in EVERY]


def test_so_does_the_line_for_hosts_without_systemd() -> None:
    (line,) = re.findall(r"--bounding-set -all,([\w+,]+)", PAGE)
    assert line.split(",") == [f"+{capability.name.removeprefix('CAP_').lower()}" for capability in EVERY]
