"""The JSON Schema accepts what loading accepts, and refuses nothing else but what it can express."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.model.records import API_VERSION
from reconciler.sources.manifests.explain import json_schema, read_record
from reconciler.sources.manifests.yaml import YamlFault, read_documents

EXAMPLES = Path(__file__).parents[3] / "manifests"
DISKS: dict[str, Any] = {
    "data": {"file": "/srv/d", "size": "2GiB"},
    "metadata": {"file": "/srv/m", "size": "32MiB"},
}
EXTEND = {"threshold": "80%", "step": "20%", "max": "10GiB"}


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(json_schema())


def pool(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "ThinPool", "metadata": {"name": "tank"}, "spec": {**DISKS, **spec}}


def device(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "ThinDevice",
        "metadata": {"name": "app"},
        "spec": {"pool": "tank", **spec},
    }


def schema_accepts(document: Any) -> bool:
    return validator().is_valid(document)


def loading_accepts(document: Any) -> bool:
    try:
        [node] = read_documents(yaml.safe_dump(document))
    except YamlFault:
        return False
    return not isinstance(read_record(node, "f"), list)


GOOD = [
    pool(),
    pool(state="Absent", blockSize="1MiB", lowWaterMark="5%", whenFull="error", discards="ignore", prune="Delete"),
    pool(data={"file": "/srv/d", "size": 1073741824, "preallocate": True}, zeroNewBlocks=False, paused=True),
    pool(data={"device": "/dev/disk/by-id/x"}, metadata={"device": "/dev/sda2"}, nodes=["web-1"]),
    pool(extend=EXTEND, nodes=["web-*", "db-1"], localDisk=True, adopt=True),
    {**pool(), "spec": {"external": True}},
    device(size="10GiB"),
    device(size="2048s", state="Committed", filesystem={"type": "ext4", "label": "base", "blockSize": "4KiB"}),
    device(snapshotOf="base", readOnly=True, discardOnDelete=True, paused=False),
    device(adopt={"deviceId": 7, "dmName": "vg-thin1"}),
    device(state="Absent"),
]
BAD = [
    {},
    [],
    "text",
    {**pool(), "kind": "Pool"},
    {**pool(), "apiVersion": "v1"},
    {**pool(), "metadata": {"name": "a/b"}},
    {**pool(), "spec": {}},
    {**pool(), "spec": {**DISKS, "data": {}}},
    {**pool(), "more": 1},
    pool(state="Committed"),
    pool(data={"file": "/srv/d"}),
    pool(data={"file": "srv/d", "size": "1GiB"}),
    pool(data={"file": "/srv/../d", "size": "1GiB"}),
    pool(data={"device": "/dev/a", "size": "1GiB"}),
    pool(data={"device": "/dev/a", "preallocate": True}),
    pool(data={"device": "/dev/a"}, extend=EXTEND),
    pool(external=True, adopt=True),
    pool(external=True, extend=EXTEND),
    pool(lowWaterMark=10),
    pool(lowWaterMark="0%"),
    pool(nodes="web-1"),
    pool(nodes=[""]),
    pool(extend=None),
    device(),
    device(size="10GB"),
    device(size=1000),
    device(size=None),
    device(size="1GiB", snapshot_of="base"),
    device(size="1GiB", readOnly="yes"),
    device(size="1GiB", filesystem={"type": "btrfs"}),
    device(size="1GiB", filesystem={}),
    device(size="1GiB", filesystem={"type": "ext4", "label": "x" * 17}),
    device(snapshotOf="base", adopt={"deviceId": 7, "dmName": "x"}),
    device(adopt={"deviceId": 2**24, "dmName": "x"}),
    device(adopt={"deviceId": 7, "dmName": "a b"}),
]
BEYOND_SCHEMA = [
    device(size="1000"),
    device(size="2EiB"),
    pool(blockSize="100KiB"),
    pool(metadata={"file": "/srv/m", "size": "17GiB"}),
    pool(metadata={"file": "/srv/d", "size": "32MiB"}),
    pool(extend={**EXTEND, "max": "1GiB"}),
]
"""What is wrong with these is a matter of numbers, or of two values that are alike."""


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(json_schema())


def example_documents() -> Iterator[Any]:
    for path in sorted(EXAMPLES.glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text())


def test_the_examples_fit_the_schema() -> None:
    documents = list(example_documents())
    assert documents
    for document in documents:
        validator().validate(document)


@pytest.mark.parametrize("document", GOOD)
def test_what_is_good_for_one_is_good_for_the_other(document: Any) -> None:
    assert (schema_accepts(document), loading_accepts(document)) == (True, True)


@pytest.mark.parametrize("document", BAD)
def test_what_is_bad_for_one_is_bad_for_the_other(document: Any) -> None:
    assert (schema_accepts(document), loading_accepts(document)) == (False, False)


@pytest.mark.parametrize("document", BEYOND_SCHEMA)
def test_what_the_schema_cannot_say_is_left_to_loading(document: Any) -> None:
    assert (schema_accepts(document), loading_accepts(document)) == (True, False)


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, definition in schema["$defs"].items():
        for field, body in definition.get("properties", {}).items():
            yield f"{name}.{field}", body


def test_every_field_is_described_for_editors() -> None:
    structural = {f"{kind}.{part}" for kind in ("ThinPool", "ThinDevice") for part in ("metadata", "spec")}
    assert [name for name, body in fields(json_schema()) if "description" not in body and name not in structural] == []


def test_nothing_may_be_null() -> None:
    assert '"null"' not in str(json_schema()).replace("'", '"')


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, each in inner:
        yield from places(each, (*path, part))


NUMBERS = [None, True, False, 0, 1, -1, 512, 1.5]
TEXTS = ["", "a", "a/b", "..", "/srv/x", "/", "1GiB", "10GB", "0", "80%", "101%", "Active", "Absent", "ext4", "x" * 200]
OTHERS = [[], ["a"], [1], {}, {"a": 1}, EXTEND, DISKS["data"]]
odd = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS]).map(copy.deepcopy)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(GOOD), st.data())
def test_what_loading_accepts_the_schema_accepts(document: Any, data: st.DataObject) -> None:
    changed = copy.deepcopy(document)
    path = data.draw(st.sampled_from(list(places(changed))[1:]))
    around = changed
    for part in path[:-1]:
        around = around[part]
    if data.draw(st.booleans()):
        around[path[-1]] = data.draw(odd)
    else:
        del around[path[-1]]
    if loading_accepts(changed):
        validator().validate(changed)
