"""The types of record fields: sizes, percentages, paths, names. Each error says what would be right."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from reconciler.model.names import DM_NAME_PATTERN, NAME_PATTERN
from reconciler.model.units import NOT_A_SIZE, Bytes, exact_size, format_size, parse_size, percent_of

NODE_PATTERN: Final = r"^[A-Za-z0-9._*?!\[\]-]{1,253}$"
"""Host names, and shell patterns for them."""
LABEL_PATTERN: Final = r"^[A-Za-z0-9._-]{0,16}$"
_NOT_A_PERCENTAGE: Final = "not a percentage: write a whole number from 1% to 100%, with the sign"
_PATH_PATTERN: Final = r"^(/(?!\.{1,2}(/|$))[^/\u0000-\u001f\u007f]+)+$"
_PATH_MAX: Final = 4000
MAX_SIZE: Final = Bytes(1024**6)
"""1EiB, the largest ext4. A larger size is a typing error."""


class Model(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        serialize_by_alias=True,
    )


def wrong(field: str, text: str) -> PydanticCustomError:
    """An error about one field of the model that raises it; nested fields are given as `data.size`."""
    return PydanticCustomError("wrong_field", "{field}: {text}", {"field": field, "text": text})


def check_largest(field: str, size: Bytes | None) -> None:
    """Raises the error about `field` if its size is larger than any real one."""
    if size is not None and size > MAX_SIZE:
        raise wrong(field, f"too large: must be at most {format_size(MAX_SIZE)}")


def _size(value: Any) -> Bytes:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(NOT_A_SIZE)
    return parse_size(value)


def _percent(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError(_NOT_A_PERCENTAGE)
    return percent_of(value)


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or value == "/":
        raise ValueError("not an absolute path: write it from /")
    if not value.isprintable() or len(value) > _PATH_MAX:
        raise ValueError(f"a path has at most {_PATH_MAX} characters, and no control characters")
    if any(part in {".", "..", ""} for part in value[1:].split("/")):
        raise ValueError("not a plain path: write it without . and .. and doubled or trailing slashes")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN[1:-1], value):
        raise ValueError("not a name: use letters, digits and . _ -, first a letter or digit, at most 63 characters")
    return value


def _dm_name(value: str) -> str:
    if not re.fullmatch(DM_NAME_PATTERN[1:-1], value) or value in {".", ".."}:
        raise ValueError("not a dm name: write it as `dmsetup ls` shows it, at most 127 characters")
    return value


def _node(value: str) -> str:
    if not re.fullmatch(NODE_PATTERN[1:-1], value):
        raise ValueError('not a host name or pattern: write "web-1" or "web-*"')
    return value


def _label(value: str) -> str:
    if not re.fullmatch(LABEL_PATTERN[1:-1], value):
        raise ValueError("not a label: use letters, digits and . _ -, at most 16 characters for ext4 and 12 for xfs")
    return value


Size = Annotated[
    Bytes,
    BeforeValidator(_size),
    PlainSerializer(exact_size, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]{1,19}([KMGTPE]iB?|s|B?)$"},
                {"type": "integer", "minimum": 512, "multipleOf": 512},
            ],
        },
    ),
]
Percent = Annotated[
    int,
    BeforeValidator(_percent),
    PlainSerializer(lambda value: f"{value}%", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^0*([1-9][0-9]?|100)%$"}),
]
Path = Annotated[
    str,
    BeforeValidator(_path),
    WithJsonSchema({"type": "string", "pattern": _PATH_PATTERN, "maxLength": _PATH_MAX}),
]
Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})]
DmName = Annotated[str, AfterValidator(_dm_name), WithJsonSchema({"type": "string", "pattern": DM_NAME_PATTERN})]
NodePattern = Annotated[str, AfterValidator(_node), WithJsonSchema({"type": "string", "pattern": NODE_PATTERN})]
Label = Annotated[str, AfterValidator(_label), WithJsonSchema({"type": "string", "pattern": LABEL_PATTERN})]
