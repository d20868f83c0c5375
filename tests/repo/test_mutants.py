"""The mutants of `make mutants`: what is changed, what is left alone, and which are drawn."""

from __future__ import annotations

import textwrap
from pathlib import Path

from tools.mutants.__main__ import all_mutants, sample_of
from tools.mutants.makers import mutants_of

PATH = Path("reconciler/planner/x.py")


def changed(code: str) -> list[str]:
    """The lines that came in the place of others."""
    whole = f"def f(a, b):\n{textwrap.indent(code, '    ')}\n"
    return [
        next(new.strip() for old, new in zip(whole.splitlines(), each.after.splitlines(), strict=True) if old != new)
        for each in mutants_of(PATH, whole)
    ]


def test_comparisons_and_conditions() -> None:
    assert changed("return a < b") == ["return (a <= b)"]
    assert changed("return a not in b") == ["return (a in b)"]
    assert changed("return a or b") == ["return (b)", "return (a)", "return (a and b)"]
    assert changed("return not a") == ["return (a)"]
    assert changed("if a:\n    return b") == ["if (not (a)):"]


def test_steps_arguments_and_statements_are_dropped() -> None:
    assert changed("return (a, *b)") == ["return (*b,)", "return (a,)"]
    assert changed("return f(a, b=b)") == ["return f(a)"]
    assert changed("a.add(b)") == ["pass"]


def test_values() -> None:
    assert changed("return a + 1") == ["return (a - 1)", "return a + 2"]
    assert changed("return True") == ["return False"]
    assert changed("return min(a)") == ["return max(a)"]


def test_texts_logs_annotations_and_what_is_tuned_are_left_alone() -> None:
    assert changed('"""A text."""\n_log.info("%s", a + b)\nreturn f"{a < b}"') == []
    assert not list(mutants_of(PATH, "LIMIT: int | None = 5\n\ndef f(a: int | None) -> int | None:\n    return a\n"))


def test_bytes_are_counted_where_letters_take_several() -> None:
    assert changed('return ("äöü", a < b)')[-1] == 'return ("äöü", (a <= b))'


def test_every_mutant_compiles_and_is_another_program() -> None:
    for mutant in sample_of(all_mutants("planner/prune"), 0, 1):
        assert mutant.after != mutant.before
        compile(mutant.after, str(mutant.path), "exec")


def test_a_sample_is_the_beginning_of_a_larger_one() -> None:
    mutants = all_mutants("planner/device")
    assert sample_of(mutants, 5, 3) == sample_of(mutants, 5, 3) == sample_of(mutants, 9, 3)[:5]
    assert sample_of(mutants, 5, 4) != sample_of(mutants, 5, 3)
    assert len(sample_of(mutants, 0, 3)) == len(mutants)
