"""What a YAML value is, with its place in the file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from reconciler.model.recordset import FieldPath, Position

_TRUE: Final = {"yes", "true", "on"}
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,39})")
_RESOLVER: Final = yaml.resolver.Resolver()


@dataclass(slots=True)
class Scalar:
    mark: Position
    text: str
    """As written, without quotes."""
    value: str | int | float | bool | None
    weight: int = 1
    height: int = 1


@dataclass(slots=True)
class Sequence:
    mark: Position
    items: list[Node] = field(default_factory=list)
    weight: int = 1
    """How many values it holds, itself and aliases included."""
    height: int = 1
    """How deep it is."""


@dataclass(slots=True)
class Mapping:
    mark: Position
    fields: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Position] = field(default_factory=dict)
    weight: int = 1
    height: int = 1


Node = Scalar | Sequence | Mapping


def resolve(text: str) -> str | int | float | bool | None:
    """The value of text without quotes, as YAML 1.1 has it.

    Raises ValueError for numbers that YAML 1.1 and 1.2 read differently: 010 is 8 to one of them, 1:30 is 90.
    """
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    if tag == "tag:yaml.org,2002:null":
        return None
    if tag == "tag:yaml.org,2002:bool":
        return text.lower() in _TRUE
    if tag == "tag:yaml.org,2002:float":
        return _fraction(text)
    if tag != "tag:yaml.org,2002:int":
        return text
    if not _DECIMAL.fullmatch(text):
        raise ValueError("a number that YAML's versions read differently: quote it, or write a plain decimal one")
    return int(text)


def _fraction(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def plain(node: Node) -> Any:
    """The same as Python's own values."""
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
    """What is at a path, if it is there."""
    found: Node | None = node
    for part in path:
        found = None if found is None else child(found, part)
    return found


def find(node: Node, path: FieldPath) -> Position:
    """Where the value at a path is, or the nearest thing around it that is there."""
    for part in path:
        inner = child(node, part)
        if inner is None:
            break
        node = inner
    return node.mark


def find_key(node: Node, path: FieldPath) -> Position:
    """Where the key of a path is."""
    around = at(node, path[:-1])
    if isinstance(around, Mapping) and isinstance(path[-1], str) and path[-1] in around.keys:
        return around.keys[path[-1]]
    return find(node, path)
