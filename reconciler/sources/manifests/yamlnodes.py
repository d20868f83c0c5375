"""What a YAML value is, with its place in the file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from reconciler.model.recordset import FieldPath, Position

_TRUE: Final = {"yes", "true", "on"}
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,39})")
_NUMBER_1_2: Final = re.compile(
    r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
)
"""What YAML 1.2 takes for a number (its chapter 10.3, the core schema), as kubectl and yq do."""
_SHOWN: Final = 40
_READ_DIFFERENTLY: Final = (
    "a number to some readers of YAML and text to others: quote it, or write a plain decimal number or another name"
)
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

    Raises ValueError for what YAML 1.1 and 1.2 read differently: 010 is 8 or 10, 1:30 is 90 or text, and 1e3, 0o17 and
    08 are text or numbers. A record must be the same one to all who read it.
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
    """1:30.5 and 1_0.5 are numbers to YAML 1.1 alone."""
    if ":" in text or "_" in text:
        raise ValueError(f"{text[:_SHOWN]} is {_READ_DIFFERENTLY}")
    named = text.lower().replace(".inf", "inf").replace(".nan", "nan")
    return float(named)


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
