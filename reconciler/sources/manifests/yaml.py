"""Reads YAML into nodes with their places in the file, from the parser's events, so that a document cannot construct
objects.

Tags (they name types, and types run code elsewhere) and merge keys (a record should contain what it says) are left out
on purpose. Aliases work within limits, because a few lines of them can mean billions of values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from reconciler.model.recordset import FieldPath, Position

_TRUE: Final = {"yes", "true", "on"}
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,39})")
_NUMBER_1_2: Final = re.compile(
    r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
)
"""What YAML 1.2 takes for a number (chapter 10.3, the core schema), as kubectl and yq do."""
_SHOWN: Final = 40
_READ_DIFFERENTLY: Final = (
    "a number to some readers of YAML and text to others: quote it, or write a plain decimal number or another name"
)
_RESOLVER: Final = yaml.resolver.Resolver()


@dataclass(slots=True)
class Scalar:
    mark: Position
    text: str
    """The text as written, without quotes."""
    value: str | int | float | bool | None
    weight: int = 1
    height: int = 1


@dataclass(slots=True)
class Sequence:
    mark: Position
    items: list[Node] = field(default_factory=list)
    weight: int = 1
    """The number of values in the node, including itself and what aliases add."""
    height: int = 1
    """The depth of the node."""


@dataclass(slots=True)
class Mapping:
    mark: Position
    fields: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Position] = field(default_factory=dict)
    weight: int = 1
    height: int = 1


Node = Scalar | Sequence | Mapping


def resolve(text: str) -> str | int | float | bool | None:
    """The value of text without quotes, by YAML 1.1.

    Raises ValueError for what YAML 1.1 and 1.2 read differently: 010 is 8 or 10, 1:30 is 90 or text, and 1e3, 0o17 and
    08 are text or numbers. A record must mean the same to all who read it.
    """
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    if tag == "tag:yaml.org,2002:null":
        return None
    if tag == "tag:yaml.org,2002:bool":
        return text.lower() in _TRUE
    if tag == "tag:yaml.org,2002:float":
        return _fraction(text)
    if tag == "tag:yaml.org,2002:int":
        return _whole(text)
    if _NUMBER_1_2.fullmatch(text):
        raise ValueError(f"{text[:_SHOWN]} is {_READ_DIFFERENTLY}")
    return text


def _whole(text: str) -> int:
    if not _DECIMAL.fullmatch(text):
        raise ValueError("a number that YAML's versions read differently: quote it, or write a plain decimal one")
    return int(text)


def _fraction(text: str) -> float:
    """Parses 1:30.5 and 1_0.5, which only YAML 1.1 takes for numbers."""
    if ":" in text or "_" in text:
        raise ValueError(f"{text[:_SHOWN]} is {_READ_DIFFERENTLY}")
    named = text.lower().replace(".inf", "inf").replace(".nan", "nan")
    return float(named)


def plain(node: Node) -> Any:
    """The node as Python's own values."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {key: plain(value) for key, value in node.fields.items()}


def child(node: Node, part: str | int) -> Node | None:
    if isinstance(node, Mapping) and isinstance(part, str):
        return node.fields.get(part)
    if isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
        return node.items[part]
    return None


def at(node: Node, path: FieldPath) -> Node | None:
    """The node at a path, if there is one."""
    found: Node | None = node
    for part in path:
        found = None if found is None else child(found, part)
    return found


def find(node: Node, path: FieldPath) -> Position:
    """The position of the value at a path, or of the nearest existing one around it."""
    for part in path:
        inner = child(node, part)
        if inner is None:
            break
        node = inner
    return node.mark


def find_key(node: Node, path: FieldPath) -> Position:
    """The position of the key at the end of a path."""
    around = at(node, path[:-1])
    if isinstance(around, Mapping) and isinstance(path[-1], str) and path[-1] in around.keys:
        return around.keys[path[-1]]
    return find(node, path)


MAX_VALUES: Final = 200_000
"""The most values in one file; a file of the permitted size cannot have more in records."""
MAX_ALIASED: Final = 20_000
"""The most values that aliases may add to one file."""
MAX_DEPTH: Final = 32
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_HINTS: Final = {
    "mapping values are not allowed": "a colon too many, or lines that are not indented alike",
    "cannot start any token": "indent with spaces, and quote text that starts with a special character",
    "did not find expected key": "lines that belong together must be indented alike",
    "did not find expected ','": "a bracket is not closed, or a comma is missing",
    "could not find expected ':'": "write `key: value`",
    "found unexpected end of stream": "a quote or bracket is not closed",
    "maximum nesting depth": f"nested deeper than {MAX_DEPTH}: no record is",  # of libyaml 0.2.6, beyond 1,000 levels
}


class YamlFault(Exception):  # noqa: N818  # a fault of the file
    """Why the rest of a file cannot be read."""

    def __init__(self, mark: Position, path: FieldPath, message: str) -> None:
        super().__init__(message)
        self.mark = mark
        self.path = path
        self.message = message


@dataclass(slots=True)
class _Open:
    """A mapping or sequence that has not ended yet."""

    node: Mapping | Sequence
    anchor: str | None
    key: str | None = None


def read_documents(text: str) -> Iterator[Node]:
    """Yields the documents of a file, without the empty ones. Raises YamlFault at the first error."""
    reader = _Reader()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            document = reader.take(event)
            if document is not None:
                yield document
    except yaml.MarkedYAMLError as error:
        raise YamlFault(_error_position(error), (), _error_text(error)) from error
    except yaml.YAMLError as error:
        raise YamlFault(Position(), (), f"not YAML: {' '.join(str(error).split())[:120]}") from error


def _error_position(error: yaml.MarkedYAMLError) -> Position:
    mark = error.problem_mark or error.context_mark
    return Position(mark.line + 1, mark.column + 1) if mark else Position()


def _error_text(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join((error.problem or error.context or "unreadable").split())[:120]
    problem = problem if problem.isprintable() else ascii(problem)[1:-1]
    hint = next((f": {hint}" for sign, hint in _HINTS.items() if sign in problem), "")
    return f"not YAML: {problem}{hint}"


def _position(event: Any) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)


class _Reader:
    """Turns events into nodes without recursion, so that a file of nothing but brackets does not exhaust the stack."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._root: Node | None = None
        self._values = 0
        self._aliased = 0

    def take(self, event: yaml.Event) -> Node | None:
        """Takes one event, and returns the document if this was its end and it is not empty."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._anchors, self._root = {}, None
        elif isinstance(event, yaml.DocumentEndEvent):
            return None if isinstance(self._root, Scalar) and not self._root.text else self._root
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end()
        return None

    def _fault(self, event: yaml.Event, message: str) -> YamlFault:
        return YamlFault(_position(event), self._path(), message)

    def _path(self) -> FieldPath:
        parts = (each.key if isinstance(each.node, Mapping) else len(each.node.items) for each in self._open)
        return tuple(part for part in parts if part is not None)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        self._check_tag(event, event.tag)
        self._count(event, 1)
        if self._is_key():
            self._key(event, event.value, merge=event.implicit[0] and event.value == "<<")
            return
        try:
            value = resolve(event.value) if event.implicit[0] else event.value
        except ValueError as error:
            raise self._fault(event, str(error)) from error
        self._place(event, Scalar(_position(event), event.value, value), event.anchor)

    def _alias(self, event: yaml.AliasEvent) -> None:
        name = event.anchor or ""
        node = self._anchors.get(name)
        if node is None:
            raise self._fault(event, f"no anchor &{ascii(name[:40])[1:-1]} before this alias: write the value out")
        if self._is_key():
            raise self._fault(event, "an alias cannot be a key: write the key out")
        self._aliased += node.weight
        if self._aliased > MAX_ALIASED:
            raise self._fault(event, f"aliases that stand for more than {MAX_ALIASED} values: write records out")
        self._place(event, node, None)

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        self._check_tag(event, event.tag)
        self._count(event, 1)
        if self._is_key():
            raise self._fault(event, "a key must be plain text: quote text that starts with a bracket")
        if len(self._open) >= MAX_DEPTH:
            raise self._fault(event, f"nested deeper than {MAX_DEPTH}: no record is")
        kind = Mapping if isinstance(event, yaml.MappingStartEvent) else Sequence
        self._open.append(_Open(kind(_position(event)), event.anchor))

    def _end(self) -> None:
        done = self._open.pop()
        self._place(None, done.node, done.anchor)

    def _count(self, event: yaml.Event, values: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise self._fault(event, f"more than {MAX_VALUES} values: split it into several files")

    def _check_tag(self, event: yaml.Event, tag: str | None) -> None:
        if tag is not None:
            raise self._fault(event, "tags are not supported: leave it out, and quote what should be text")

    def _is_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].node, Mapping) and self._open[-1].key is None

    def _key(self, event: yaml.ScalarEvent, key: str, *, merge: bool) -> None:
        around = self._open[-1]
        assert isinstance(around.node, Mapping)  # noqa: S101  # only mappings have keys
        if merge:
            raise self._fault(event, "merge keys (<<) are not supported: write the fields out")
        if key in around.node.keys:
            around.key = key  # set early, so that the path in an error names it
            raise self._fault(event, f"given twice, first on line {around.node.keys[key].line}: keep one")
        around.node.keys[key] = _position(event)
        around.key = key

    def _place(self, event: yaml.Event | None, node: Node, anchor: str | None) -> None:
        """Puts a finished value into the mapping or sequence around it."""
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self._root = node
            return
        if event is not None and len(self._open) + node.height > MAX_DEPTH:
            raise self._fault(event, f"nested deeper than {MAX_DEPTH}: no record is")
        around = self._open[-1]
        around.node.weight += node.weight
        around.node.height = max(around.node.height, node.height + 1)
        if isinstance(around.node, Sequence):
            around.node.items.append(node)
        elif around.key is not None:
            around.node.fields[around.key] = node
            around.key = None
