"""The JSON Schema of a manifest document, for editors: completion, and errors while typing.

What it cannot say (that a size lies on the sector grid, that `extend.max` is not below the size) is left to loading;
what it refuses, loading refuses too.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter

from reconciler.model.records import ThinDevice, ThinPool

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
"""What the models check in code, over several fields."""


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
        # not oneOf: an editor that knows the kind shows what is wrong, instead of "fits none of these"
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
    """Without what pydantic adds for itself: titles that repeat names, and null, which no manifest may say."""
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
