"""The mutants of a file: each is the file with one small change that somebody could have made by mistake.

Left alone: annotations, decorators, texts, what is logged, and numbers outside functions, which are tuned and not tested.
"""

from __future__ import annotations

import ast
import copy
import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Change = tuple[str, ast.AST, str]
"""(what it is, the node whose place it takes, the code there)"""

_COMPARED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
}
_CALLED: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_TOLD: Final = ("_log.", "_CALLS.", "warnings.")


@dataclass(frozen=True, slots=True)
class Mutant:
    path: Path
    line: int
    what: str
    before: str
    after: str
    """The whole file."""

    def diff(self) -> str:
        old, new = self.before.splitlines(), self.after.splitlines()
        return "\n".join(difflib.unified_diff(old, new, f"{self.path}", f"{self.path}", lineterm="", n=2))


def mutants_of(path: Path, code: str) -> Iterator[Mutant]:
    """In the order of the file. All of them can be compiled."""
    for what, node, new in _changes(ast.parse(code), inside=False):
        after = _put(code, node, new)
        yield Mutant(path, node.lineno, what, code, after)  # type: ignore[attr-defined]  # those that are changed have it


def _put(code: str, node: ast.AST, new: str) -> str:
    """Columns are counted in bytes."""
    lines = code.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    begin = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
    end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
    whole = b"".join(lines)
    return (whole[:begin] + new.encode() + whole[end:]).decode()


def _changes(node: ast.AST, *, inside: bool) -> Iterator[Change]:
    """Of a node and of what is in it, where it is `inside` a function."""
    if isinstance(node, ast.JoinedStr | ast.Assert) or _is_told(node):
        return
    if inside:
        for maker in _MAKERS:
            yield from maker(node)
    inside |= isinstance(node, ast.FunctionDef)
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params", "slice"}:
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.AST):
                yield from _changes(each, inside=inside)


def _is_told(node: ast.AST) -> bool:
    """What is logged; and a docstring."""
    if not isinstance(node, ast.Expr):
        return False
    return isinstance(node.value, ast.Constant) or ast.unparse(node.value).startswith(_TOLD)


def _code(node: ast.AST) -> str:
    return f"({ast.unparse(node)})"


def _with_field(node: ast.AST, name: str, value: object) -> ast.AST:
    changed = copy.copy(node)
    setattr(changed, name, value)
    return changed


def _without(items: list[ast.expr], number: int) -> list[ast.expr]:
    return items[:number] + items[number + 1 :]


def _of_comparison(node: ast.AST) -> Iterator[Change]:
    if not isinstance(node, ast.Compare):
        return
    for number, found in enumerate(node.ops):
        ops = [*node.ops[:number], _COMPARED[type(found)](), *node.ops[number + 1 :]]
        yield "another comparison", node, _code(_with_field(node, "ops", ops))


def _of_and_or(node: ast.AST) -> Iterator[Change]:
    if not isinstance(node, ast.BoolOp):
        return
    for number in range(len(node.values)):
        yield (
            "a part of a condition is dropped",
            node,
            _code(_with_field(node, "values", _without(node.values, number))),
        )
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "and for or", node, _code(_with_field(node, "op", other))


def _of_not(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "no not", node, _code(node.operand)


def _of_condition(node: ast.AST) -> Iterator[Change]:
    """Comparisons, `and`, `or` and `not` have mutants of their own."""
    tests = [node.test] if isinstance(node, ast.If | ast.IfExp | ast.While) else []
    tests += node.ifs if isinstance(node, ast.comprehension) else []
    for test in tests:
        if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant):
            yield "a condition is turned round", test, f"(not {_code(test)})"


def _of_constant(node: ast.AST) -> Iterator[Change]:
    if not isinstance(node, ast.Constant):
        return
    if isinstance(node.value, bool):
        yield "true for false", node, str(not node.value)
    elif isinstance(node.value, int | float):
        yield "another number", node, repr(node.value + 1)


def _of_computation(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        yield "another computation", node, _code(_with_field(node, "op", _COMPUTED[type(node.op)]()))


def _of_call(node: ast.AST) -> Iterator[Change]:
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Name) and node.func.id in _CALLED:
        yield f"{_CALLED[node.func.id]} for {node.func.id}", node.func, _CALLED[node.func.id]
    for number in range(len(node.keywords)):
        keywords = node.keywords[:number] + node.keywords[number + 1 :]
        yield "an argument is dropped", node, ast.unparse(_with_field(node, "keywords", keywords))


def _of_sequence(node: ast.AST) -> Iterator[Change]:
    """Steps of a plan are such."""
    if not isinstance(node, ast.Tuple | ast.List) or not isinstance(node.ctx, ast.Load):
        return
    for number in range(len(node.elts)):
        yield "an element is dropped", node, ast.unparse(_with_field(node, "elts", _without(node.elts, number)))


def _of_statement(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield "a statement is dropped", node, "pass"
    elif isinstance(node, ast.Break):
        yield "continue for break", node, "continue"
    elif isinstance(node, ast.Continue):
        yield "break for continue", node, "break"


_MAKERS: Final[tuple[Callable[[ast.AST], Iterator[Change]], ...]] = (
    _of_comparison,
    _of_and_or,
    _of_not,
    _of_condition,
    _of_constant,
    _of_computation,
    _of_call,
    _of_sequence,
    _of_statement,
)
