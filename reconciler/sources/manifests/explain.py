"""Turns the errors of a document into lines for people (the exact place, and what would be right), and generates the
JSON Schema of manifests, by which editors complete and check while typing.

The schema cannot express everything (that a size is a whole number of sectors, that `extend.max` is not below the
size), but loading refuses all that the schema refuses.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Final, get_args

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from reconciler.model.records import API_VERSION, Record, ThinDevice, ThinPool
from reconciler.model.recordset import FieldPath, Position, Problem, show_path
from reconciler.sources.manifests.yaml import Mapping, Node, Scalar, Sequence, at, find, find_key, plain

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DESCRIPTION: Final = "A record of dm-reconciler: a thin pool, or a thin device in one."
_PATHS_ON_DEVICE: Final = {
    "anyOf": [{"properties": {part: {"required": ["device"]}}, "required": [part]} for part in ("data", "metadata")],
}
_RULES: Final[dict[str, list[dict[str, Any]]]] = {
    "Backing": [
        {
            "oneOf": [
                {
                    "required": ["device"],
                    "not": {"anyOf": [{"required": ["file"]}, {"required": ["size"]}]},
                    "properties": {"preallocate": {"const": False}},
                },
                {"required": ["file", "size"], "not": {"required": ["device"]}},
            ],
        },
    ],
    "PoolSpec": [
        {
            "if": {"properties": {"external": {"const": True}}, "required": ["external"]},
            "then": {"not": {"required": ["extend"]}, "properties": {"adopt": {"const": False}}},
            "else": {"required": ["data", "metadata"]},
        },
        {"if": {"required": ["extend"]}, "then": {"not": _PATHS_ON_DEVICE}},
    ],
    "DeviceSpec": [
        {
            "anyOf": [
                *({"required": [name]} for name in ("size", "snapshotOf", "adopt")),
                {"properties": {"state": {"const": "Absent"}}, "required": ["state"]},
            ],
        },
        {"not": {"required": ["adopt", "snapshotOf"]}},
    ],
}
"""The checks of the models over several fields, which they make in code."""


def json_schema() -> dict[str, Any]:
    """One schema for documents of either kind, in the dialect of 2020-12."""
    adapter: TypeAdapter[ThinPool | ThinDevice] = TypeAdapter(
        Annotated[ThinPool | ThinDevice, Field(discriminator="kind")]
    )
    schema = _tidy(adapter.json_schema(by_alias=True))
    definitions = schema["$defs"]
    for name, rules in _RULES.items():
        definitions[name]["allOf"] = rules
    return {
        "$schema": _DIALECT,
        "title": "dm-reconciler record",
        "description": _DESCRIPTION,
        "type": "object",
        "properties": {"kind": {"enum": ["ThinPool", "ThinDevice"]}},
        "required": ["kind"],
        # Not oneOf: an editor that knows the kind then shows the error itself, instead of "fits none of these"
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": {"$ref": f"#/$defs/{kind}"},
            }
            for kind in ("ThinPool", "ThinDevice")
        ],
        "$defs": definitions,
    }


def _tidy(schema: Any) -> Any:
    """The schema without pydantic's additions: titles that repeat names, and null, which no manifest may contain."""
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {
        key: {name: _tidy(each) for name, each in value.items()} if key in {"properties", "$defs"} else _tidy(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
    choices = [choice for choice in tidy.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1 and len(tidy["anyOf"]) == 2:
        del tidy["anyOf"]
        return {**choices[0], **tidy}
    if choices:
        tidy["anyOf"] = choices
    return tidy


KINDS: Final[dict[str, type[ThinPool | ThinDevice]]] = {"ThinPool": ThinPool, "ThinDevice": ThinDevice}
_EMPTY: Final = "empty: give it a value, or leave the field out"
_SHOWN: Final = 40
_EXAMPLES: Final = {
    "apiVersion": API_VERSION,
    "metadata": "metadata: {name: ...}",
    "name": "a name, such as tank",
    "spec": "spec: and what should be, indented below it",
    "pool": "the name of the ThinPool that it is in",
    "type": "ext4 or xfs",
    "threshold": "from how much on it grows, such as 80%",
    "step": "by how much it grows, such as 20%",
    "max": "up to where it grows, such as 100GiB",
    "deviceId": "its thin id, such as 7",
    "dmName": "its name in `dmsetup ls`, such as vg-thin1",
}
Context = dict[str, Any]


def read_record(document: Node, file: str) -> Record | list[Problem]:
    """The record that a document declares, or what is wrong with it."""
    if not isinstance(document, Mapping):
        return [_at(document, file, (), "not a record: write apiVersion, kind, metadata and spec")]
    kind = at(document, ("kind",))
    model = KINDS.get(kind.text) if isinstance(kind, Scalar) and isinstance(kind.value, str) else None
    if model is None:
        return [*_wrong_version(document, file), _wrong_kind(document, file)]
    empty = list(_empty_values(document, ()))
    if empty:
        return [_at(document, file, path, _EMPTY) for path in empty]
    try:
        # The names in code are not accepted as fields.
        return model.model_validate(plain(document), by_alias=True, by_name=False)
    except ValidationError as error:
        return [_explain(each, document, file, model) for each in error.errors(include_url=False)]


def quoted(value: Any) -> str:
    """A value from a manifest as harmless text of limited length."""
    text = str(value)
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _at(document: Node, file: str, path: FieldPath, message: str) -> Problem:
    return _problem(file, find(document, path), path, message)


def _problem(file: str, position: Position, path: FieldPath, message: str) -> Problem:
    return Problem(file, position.line, position.column, show_path(path), message)


def _wrong_version(document: Mapping, file: str) -> Iterator[Problem]:
    version = at(document, ("apiVersion",))
    if version is None:
        yield _at(document, file, ("apiVersion",), f"missing: write {API_VERSION}")
    elif not isinstance(version, Scalar) or version.value != API_VERSION:
        yield _at(document, file, ("apiVersion",), f"{_written(version)} is not known: write {API_VERSION}")


def _wrong_kind(document: Mapping, file: str) -> Problem:
    kind = at(document, ("kind",))
    known = " or ".join(KINDS)
    if kind is None:
        return _at(document, file, ("kind",), f"missing: write {known}")
    return _at(document, file, ("kind",), f"{_written(kind)} is not known: write {known}")


def _written(node: Node | None) -> str:
    """The value as it is written in the file."""
    if isinstance(node, Scalar):
        return quoted(node.text)
    return "a mapping" if isinstance(node, Mapping) else "a list"


def _empty_values(node: Node, path: FieldPath) -> Iterator[FieldPath]:
    """Fields without a value. An empty `snapshotOf:` in a half-written file must not count as absent."""
    if isinstance(node, Scalar):
        if node.value is None:
            yield path
        return
    inner: Iterable[tuple[str | int, Node]] = (
        enumerate(node.items) if isinstance(node, Sequence) else node.fields.items()
    )
    for part, value in inner:
        yield from _empty_values(value, (*path, part))


def _explain(error: ErrorDetails, document: Mapping, file: str, model: type[BaseModel]) -> Problem:
    path: FieldPath = error["loc"]
    if error["type"] == "extra_forbidden":
        return _problem(file, find_key(document, path), path, _unknown_field(model, path))
    if error["type"] == "wrong_field":
        path = (*path, *error["ctx"]["field"].split("."))
        return _at(document, file, path, error["ctx"]["text"])
    return _at(document, file, path, _message(error, at(document, path)))


def _message(error: ErrorDetails, node: Node | None) -> str:
    context = error.get("ctx", {})
    if error["type"] == "missing":
        return f"missing: write {_EXAMPLES.get(str(error['loc'][-1]), 'it')}"
    say = _MESSAGES.get(error["type"])
    return say(context, node) if say else error["msg"][:1].lower() + error["msg"][1:]


def _value_error(context: Context, node: Node | None) -> str:
    message = str(context["error"])
    if not isinstance(node, Scalar):
        return message
    return f"{_written(node)}{' is ' if message.startswith(('not ', 'too ')) else ': '}{message}"


def _not_text(_: Context, node: Node | None) -> str:
    if isinstance(node, Scalar):
        return f'{_written(node)} is a {_type_word(node)}, not text: write "{ascii(node.text[:_SHOWN])[1:-1]}"'
    return f"{_written(node)} is not text: write one word"


def _type_word(node: Scalar) -> str:
    return "truth value" if isinstance(node.value, bool) else "number"


def _choices(context: Context) -> str:
    return str(context["expected"]).replace("'", "")


def _element(node: Node | None) -> str:
    return f'"{ascii(node.text[:_SHOWN])[1:-1]}"' if isinstance(node, Scalar) else '"..."'


_MESSAGES: Final[dict[str, Callable[[Context, Node | None], str]]] = {
    "value_error": _value_error,
    "string_type": _not_text,
    "literal_error": lambda context, node: f"{_written(node)} is not known: write {_choices(context)}",
    "enum": lambda context, node: f"{_written(node)} is not known: write {_choices(context)}",
    "bool_type": lambda _, node: f"{_written(node)} is neither true nor false: write one of them, without quotes",
    "int_type": lambda _, node: f"{_written(node)} is not a whole number: write one, without quotes",
    "greater_than_equal": lambda context, _: f"too small: must be at least {context['ge']}",
    "less_than_equal": lambda context, _: f"too large: must be at most {context['le']}",
    "model_type": lambda _, node: (
        f"{_written(node)} where fields belong: write `{{field: value}}`, or indent them below"
    ),
    "tuple_type": lambda _, node: f"{_written(node)} is not a list: write [{_element(node)}]",
    "too_long": lambda context, _: f"too long: a list of at most {context['max_length']}",
}


def _unknown_field(model: type[BaseModel], path: FieldPath) -> str:
    known = sorted(_fields_at(model, path[:-1]))
    near = difflib.get_close_matches(str(path[-1])[:64], known, n=1)
    if near:
        return f"no such field: did you mean {near[0]}?"
    return f"no such field: known are {', '.join(known)}"


def _fields_at(model: type[BaseModel], path: FieldPath) -> dict[str, type[BaseModel] | None]:
    """The fields that a record has at a path, by their names in YAML."""
    found: type[BaseModel] | None = model
    for part in path:
        found = _fields(found).get(str(part)) if found is not None else None
    return _fields(found) if found is not None else {}


def _fields(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    return {field.alias or name: _model_in(field.annotation) for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in `Model` or `Model | None`."""
    candidates = (annotation, *get_args(annotation))
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), None)
