"""Converts dataclasses to JSON text and back, for all that the store keeps.

JSON can hold any text of the host (NUL, and bytes of file names that are not UTF-8) and whole numbers beyond 63 bits,
and a field that is added with a default needs no migration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Final, NewType, Protocol, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from reconciler.model.names import Key


class Data(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


_LAST_TIME: Final = 253_402_300_800
"""The end of the year 9999 in seconds, as the limit of times: all stored numbers that are not whole are times."""
T = TypeVar("T", bound=Data)
Reader = Callable[[Any], Any]


def encode(value: Data) -> str:
    return _ENCODER.encode(_as_mapping(value))


def _as_mapping(value: Data) -> dict[str, Any]:
    """The dataclass as a mapping, with nested dataclasses converted too."""
    if not is_dataclass(value):
        raise TypeError(f"{value!r} has no form as text")
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def decode(kind: type[T], text: str) -> T:
    """Parses what `encode` has made of a `kind`. Raises ValueError, saying what is wrong, for any other text."""
    return _of_mapping(kind, parse(text))


def _of_mapping(kind: type[T], stored: Any) -> T:
    readers = _readers(kind)
    if not isinstance(stored, dict) or not stored.keys() <= readers.keys():
        raise ValueError(f"not a {kind.__name__}: {str(stored)[:80]}")
    missing = _required(kind) - stored.keys()
    if missing:
        raise ValueError(f"a {kind.__name__} without {', '.join(sorted(missing))}")
    return kind(**{name: readers[name](value) for name, value in stored.items()})


def parse(text: str) -> Any:
    """Parses JSON. Raises ValueError for invalid text, and for text nested deeper than anything written here."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"nested too deep: {text[:80]}") from error


_ENCODER = json.JSONEncoder(separators=(",", ":"), default=_as_mapping)


@cache
def _readers(kind: type[Data]) -> Mapping[str, Reader]:
    hints = get_type_hints(kind)
    return {field.name: _reader(hints[field.name]) for field in fields(kind)}


@cache
def _required(kind: type[Data]) -> frozenset[str]:
    return frozenset(
        field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING
    )


def _reader(hint: Any) -> Reader:
    if isinstance(hint, NewType):
        return _reader(hint.__supertype__)
    if get_origin(hint) in {Union, UnionType}:
        return _optional(hint)
    if get_origin(hint) is tuple:
        return _tuple(_reader(get_args(hint)[0]))
    if hint is Key:
        return _key
    if hint is float:
        return _float
    if issubclass(hint, Enum):
        return cast(Reader, hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return lambda value: _of_mapping(hint, value)
    return _exact(hint)


def _optional(hint: Any) -> Reader:
    (inner,) = (_reader(part) for part in get_args(hint) if part is not NoneType)
    return lambda value: None if value is None else inner(value)


def _tuple(inner: Reader) -> Reader:
    exact = _exact(list)
    return lambda value: tuple(inner(part) for part in exact(value))


def _exact(kind: type) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"{value!r} where a {kind.__name__} should be")
        return value

    return read


def _key(value: Any) -> Key:
    match value:
        case [str(pool), str(device)]:
            return Key(pool, device)
        case _:
            raise ValueError(f"{value!r} where a key should be")


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} where a number should be")
    if not -_LAST_TIME < value < _LAST_TIME:
        raise ValueError(f"{value!r} where a time should be")
    return value
